"""The convolution with torchvision's padding, NHWC, in the forms that XLA's CPU backend is fast at.

On a GPU or TPU it is XLA's own convolution throughout.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.typing import DTypeLike
from jaxtyping import Array, Float

kaiming_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al. 2015, eq. 14
TILE = (4, 8)  # rows and columns of the pieces in which a CPU computes a kernel's gradient
TILED = 256  # pixels of an output from which that pays


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
    """Convolves with `size // 2` zeros of padding on every side; differentiable in forward and reverse mode."""
    return _convolution(images, kernel, stride, groups) if groups > 1 else _convolve(images, kernel, stride)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _convolve(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    if _is_small(images, kernel, stride):
        return _on_cpu(_matrix_product, images, kernel, stride)
    return _convolution(images, kernel, stride)


def _tangent(stride: int, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """The derivative, with the term that a kernel's gradient is the transpose of in a form of its own."""
    (images, kernel), (images_dot, kernel_dot) = primals, tangents
    terms = []
    if not isinstance(images_dot, SymbolicZero):
        terms.append(_convolve(images_dot, kernel, stride))
    if not isinstance(kernel_dot, SymbolicZero):
        small = _is_small(images, kernel, stride)
        terms.append(_on_cpu(_matrix_product if small else _in_tiles, images, kernel_dot, stride))
    output = _convolve(images, kernel, stride)
    return output, sum(terms) if terms else jnp.zeros_like(output)


_convolve.defjvp(_tangent, symbolic_zeros=True)


def _on_cpu(function: Callable, images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The convolution, computed by `function` on a CPU."""
    return lax.platform_dependent(
        images, kernel, cpu=partial(function, stride=stride), default=partial(_convolution, stride=stride)
    )


def _convolution(images: jax.Array, kernel: jax.Array, stride: int, groups: int = 1) -> jax.Array:
    padding = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _matrix_product(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    size, (height, width) = kernel.shape[0], _out_size(images, kernel, stride)
    padded = _pad(images, size)
    patches = [
        padded[:, row : row + stride * height : stride, column : column + stride * width : stride]
        for row in range(size)
        for column in range(size)
    ]
    return jnp.concatenate(patches, -1) @ kernel.reshape(-1, kernel.shape[-1])


def _in_tiles(images: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolves each tile of a large output by itself, and with a 1x1 kernel as a matrix product.

    XLA computes a kernel's gradient as a convolution with a window of all pixels, which falls out of the cache: with
    128 images of 32x32 and 64 channels 180 ms, against 109 in tiles of 4x8. For a 1x1 kernel of stride 2 it takes 46
    ms, and the matrix product 8.
    """
    size = kernel.shape[0]
    if size == 1:
        return images[:, ::stride, ::stride] @ kernel[0, 0]
    height, width = _out_size(images, kernel, stride)
    if height * width < TILED or images.shape[-1] <= 3:
        return _convolution(images, kernel, stride)
    padded = _pad(images, size)

    def tile(top: int, left: int) -> jax.Array:
        bottom, right = min(top + TILE[0], height) - 1, min(left + TILE[1], width) - 1
        return lax.conv_general_dilated(
            padded[:, top * stride : bottom * stride + size, left * stride : right * stride + size],
            kernel,
            window_strides=(stride, stride),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    rows = [
        jnp.concatenate([tile(top, left) for left in range(0, width, TILE[1])], 2) for top in range(0, height, TILE[0])
    ]
    return jnp.concatenate(rows, 1)


def _is_small(images: jax.Array, kernel: jax.Array, stride: int) -> bool:
    """Whether the output is 2x2 or 1x1, where XLA's CPU convolution is 15 to 50 times slower than a matrix product.

    64 images, 512 channels: 47 ms against 0.9. The last stages of small images live there.
    """
    height, width = _out_size(images, kernel, stride)
    return kernel.shape[0] > 1 and height * width <= 4


def _out_size(images: jax.Array, kernel: jax.Array, stride: int) -> tuple[int, int]:
    size = kernel.shape[0]
    height, width = ((extent + 2 * (size // 2) - size) // stride + 1 for extent in images.shape[1:3])
    return height, width


def _pad(images: jax.Array, size: int) -> jax.Array:
    return jnp.pad(images, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
