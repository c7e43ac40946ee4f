"""The convolution with torchvision's padding, NHWC."""

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

kaiming_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al. 2015, eq. 14


class Conv(nnx.Module):
    """A square 2-D convolution without bias, padded by `kernel_size // 2` on every side.

    The explicit padding is PyTorch's. XLA's "SAME" pads a strided convolution at the bottom and right only, which
    shifts the features against torchvision's weights by a pixel.

    Attributes:
        kernel: `[height, width, in_channels / groups, out_channels]`, float32, drawn kaiming-normal (fan out).

    Raises:
        ValueError: the channels don't divide evenly into `groups`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"Conv got {in_channels} -> {out_channels} channels; wanted multiples of groups={groups}")
        shape = (kernel_size, kernel_size, in_channels // groups, out_channels)
        self.kernel = nnx.Param(kaiming_normal(rngs.params(), shape, jnp.float32))
        self.stride = stride
        self.groups = groups
        self.dtype = dtype

    def __call__(
        self, images: Float[Array, "batch height width in_channels"]
    ) -> Float[Array, "batch out_height out_width out_channels"]:
        return convolve(images.astype(self.dtype), self.kernel[...].astype(self.dtype), self.stride, self.groups)


def convolve(
    images: Float[Array, "batch height width in_channels"],
    kernel: Float[Array, "size size group_channels out_channels"],
    stride: int,
    groups: int = 1,
) -> Float[Array, "batch out_height out_width out_channels"]:
    """Convolves with `size // 2` zeros of padding on every side.

    XLA's CPU convolution is 15 to 50 times slower than the same matrix product where the output is 2x2 or 1x1 (64
    images, 512 channels: 47 ms against 0.9), so there it is lowered as one. The last stages of small images live there.
    """
    size, padding = kernel.shape[0], kernel.shape[0] // 2
    out_height, out_width = ((extent + 2 * padding - size) // stride + 1 for extent in images.shape[1:3])

    def convolution(images, kernel):
        return lax.conv_general_dilated(
            images,
            kernel,
            window_strides=(stride, stride),
            padding=((padding, padding), (padding, padding)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def matrix_product(images, kernel):
        padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        patches = [
            padded[:, row : row + stride * out_height : stride, column : column + stride * out_width : stride]
            for row in range(size)
            for column in range(size)
        ]
        return jnp.concatenate(patches, -1) @ kernel.reshape(-1, kernel.shape[-1])

    if groups == 1 and size > 1 and out_height * out_width <= 4:
        return lax.platform_dependent(images, kernel, cpu=matrix_product, default=convolution)
    return convolution(images, kernel)
