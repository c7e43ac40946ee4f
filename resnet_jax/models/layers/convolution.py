"""The convolution with torchvision's padding, NHWC."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from resnet_jax.models.cpu import by_onednn
from resnet_jax.models.cpu.convolution import convolution, convolve_on_cpu
from resnet_jax.models.layers.initializers import Initializer, kaiming_normal, next_key


class Conv(nnx.Module):
    """A square 2-D convolution, by default without bias and padded by `kernel_size // 2` on every side.

    The explicit padding is PyTorch's. XLA's "SAME" pads a strided convolution only at the bottom and right, which
    shifts the features by a pixel from where torchvision's weights expect them.

    Attributes:
        kernel: `[height, width, in_channels / groups, out_channels]`, float32, by default drawn by `kaiming_normal`.
        bias: `[out_channels]`, float32, or None; without another `bias_init` it starts at 0.

    Raises:
        ValueError: the channels can't be divided evenly into `groups`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
        kernel_init: Initializer = kaiming_normal,
        bias_init: Initializer = nnx.initializers.zeros,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv got {in_channels} -> {out_channels} channels; expected multiples of groups={groups}"
            )
        shape = (kernel_size, kernel_size, in_channels // groups, out_channels)
        self.kernel = nnx.Param(kernel_init(next_key(rngs), shape, jnp.float32))
        self.bias = nnx.Param(bias_init(next_key(rngs), (out_channels,), jnp.float32)) if bias else None
        self.stride = stride
        self.padding = kernel_size // 2 if padding is None else padding
        self.groups = groups
        self.dtype = dtype

    def __call__(
        self, images: Float[Array | np.ndarray, "batch height width in_channels"]
    ) -> Float[Array, "batch out_height out_width out_channels"]:
        """Convolve `images`.

        Raises:
            TypeError: `images` is not an array, or not of a floating-point type.
            ValueError: `images` has other axes or another number of channels.
        """
        check_images(images, self.kernel.shape[2] * self.groups)
        maps = convolve(
            jnp.asarray(images, self.dtype), self.kernel[...].astype(self.dtype), self.stride, self.padding, self.groups
        )
        return maps if self.bias is None else maps + self.bias[...].astype(self.dtype)


def convolve(
    images: Float[Array, "batch height width in_channels"],
    kernel: Float[Array, "size size group_channels out_channels"],
    stride: int,
    padding: int,
    groups: int = 1,
) -> Float[Array, "batch out_height out_width out_channels"]:
    """Convolve with `padding` zeros on every side.

    The result is named "convolution" for the policies of `jax.checkpoint`.
    """
    if by_onednn.is_chosen(images, kernel, groups):
        maps = by_onednn.convolve(images, kernel, stride, [(padding, padding)] * 2, groups)
        return checkpoint_name(maps, "convolution")
    ours, plain = (
        partial(function, stride=stride, padding=padding, groups=groups) for function in (convolve_on_cpu, convolution)
    )
    return checkpoint_name(lax.platform_dependent(images, kernel, cpu=ours, default=plain), "convolution")


def check_images(images: Any, channels: int) -> None:
    """Raise an error unless `images` is what a convolution of that many channels expects.

    Only the type and the shape are read: a compiled program does not contain the check, and tracers pass it.
    """
    expected = f"expected floating-point images [batch, height, width, {channels}]"
    if isinstance(images, jax.ShapeDtypeStruct):
        raise TypeError(f"Conv got a ShapeDtypeStruct, {expected}: call jax.eval_shape(model, images)")
    if not isinstance(getattr(images, "dtype", None), np.dtype):
        raise TypeError(f"Conv got a {type(images).__name__}, {expected}: convert it with jax.numpy.asarray")
    got = f"Conv got {images.dtype} images of shape {images.shape}"
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f"{got}, {expected}, normalized: (images / 255 - mean) / std with the mean and std of the training images; "
            "Preprocessing().normalize(images) does so with ImageNet's"
        )
    if len(images.shape) != 4 or images.shape[3] != channels:
        raise ValueError(f"{got}, {expected}: give {_remedy(images.shape, channels)}")


def _remedy(shape: tuple[int, ...], channels: int) -> str:
    match shape:
        case (_, first, _, _) if first == channels:
            return "images.transpose(0, 2, 3, 1)"
        case (_, _, last) if last == channels:
            return "images[None], a batch of one"
        case (first, _, _) if first == channels:
            return "images.transpose(1, 2, 0)[None], a batch of one"
        case (_, _, _, 1) if channels == 3:
            return "jax.numpy.repeat(images, 3, axis=3)"
        case (_, _, _, 4) if channels == 3:
            return "images[..., :3], without the alpha channel"
    return "an array with these axes"
