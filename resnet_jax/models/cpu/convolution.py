"""The convolution in the form that XLA's CPU backend computes fastest; docs/cpu.md has the measurements."""

import math
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from resnet_jax.models.cpu.depthwise import depthwise
from resnet_jax.models.cpu.grouped import by_blocks
from resnet_jax.models.cpu.taps import output_extent, taps
from resnet_jax.models.cpu.winograd import winograd

Images = Float[Array, "batch height width in_channels"]
Kernel = Float[Array, "size size group_channels out_channels"]
Outputs = Float[Array, "batch out_height out_width out_channels"]


def convolve_on_cpu(images: Images, kernel: Kernel, stride: int, padding: int, groups: int) -> Outputs:
    """Convolve with `padding` zeros on every side; docs/cpu.md explains the cases.

    The barrier keeps `images` in memory. Without it XLA would compute them again for the kernel's gradient, which needs
    them transposed, from earlier maps, element by element and against the order of the memory.
    """
    size = kernel.shape[0]
    if not all(isinstance(extent, int) for extent in images.shape[1:3]):  # symbols of an exported program
        return convolution(images, kernel, stride, padding, groups)
    outputs = [output_extent(extent, size, stride, padding) for extent in images.shape[1:3]]
    if min(outputs) < 1:  # too small for the kernel: no pixels, as on every other device
        return convolution(images, kernel, stride, padding, groups)
    images = lax.optimization_barrier(images)
    if groups > 1 and groups == images.shape[3] == kernel.shape[3]:
        return depthwise(images, kernel, stride, padding)
    if groups > 1:
        dense = partial(convolve_on_cpu, stride=stride, padding=padding, groups=1)
        return by_blocks(dense, images, kernel, groups)
    if size == 1 and padding == 0:
        return _pointwise(images[:, ::stride, ::stride], kernel)
    if size > 1 and math.prod(outputs) <= 4:
        return _matrix_product(images, kernel, stride, padding)
    if stride > 1:
        return _strided(images, kernel, stride, padding)
    if size == 3 and padding == 1 and _pays(images, kernel):
        return winograd(images, kernel)
    return convolution(images, kernel, stride, padding)


def _pays(images: Images, kernel: Kernel) -> bool:
    """Tell whether Winograd's method is faster: its transforms of images and kernel cost less than they save."""
    pixels = math.prod(images.shape[:3])
    many = isinstance(pixels, int) and pixels >= 2048  # the batch of an exported program can be a symbol
    return many and min(kernel.shape[2:]) >= 64 and images.dtype.itemsize >= 4


def _matrix_product(images: Images, kernel: Kernel, stride: int, padding: int) -> Outputs:
    """Convolve by a matrix product, for outputs of up to 2x2 pixels: XLA's convolution takes 15 to 50 times as long."""
    patches, weights = taps(images, kernel, stride, padding)
    return jnp.concatenate(patches, -1) @ weights.reshape(-1, kernel.shape[-1])


@jax.custom_jvp
def _pointwise(images: Images, kernel: Kernel) -> Outputs:
    """Convolve with a 1x1 kernel, whose gradient is a matrix product: XLA's convolution takes up to 4 times as long."""
    return convolution(images, kernel, 1, 0)


@_pointwise.defjvp
def _pointwise_jvp(primals, tangents):
    (images, kernel), (images_dot, kernel_dot) = primals, tangents
    out = convolution(images, kernel, 1, 0)
    by_kernel = images.reshape(-1, images.shape[3]) @ kernel_dot[0, 0]
    return out, convolution(images_dot, kernel, 1, 0) + by_kernel.reshape(out.shape)


def convolution(images: Images, kernel: Kernel, stride: int, padding: int, groups: int = 1) -> Outputs:
    """Convolve with XLA's own convolution, as on every other device."""
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _strided(images: Images, kernel: Kernel, stride: int, padding: int) -> Outputs:
    """Convolve with a stride; the derivative by the images is that of `by_phases`, which is the same function."""
    return convolution(images, kernel, stride, padding)


@_strided.defjvp
def _strided_jvp(stride, padding, primals, tangents):
    (images, kernel), (images_dot, kernel_dot) = primals, tangents
    out_dot = by_phases(images_dot, kernel, stride, padding, _dense) + convolution(images, kernel_dot, stride, padding)
    return convolution(images, kernel, stride, padding), out_dot


def by_phases(images: Images, kernel: Kernel, stride: int, padding: int, dense: Callable) -> Outputs:
    """Convolve with a stride by a sum of dense convolutions, of every `stride`-th pixel with every `stride`-th tap.

    Its transpose has no zeros between the pixels, which XLA would multiply like any other number: at stride 2, 3 of 4.

    Args:
        dense: from images, kernel, stride 1 and the zeros on both sides of rows and columns, negative ones too, to a
            convolution.
    """
    height, width = images.shape[1:3]
    rows, columns = (list(_phases(extent, kernel.shape[0], stride, padding)) for extent in (height, width))
    parts = (
        dense(
            images[:, row::stride, column::stride],
            kernel[row_tap::stride, column_tap::stride],
            1,
            (row_padding, column_padding),
        )
        for row, row_tap, row_padding in rows
        for column, column_tap, column_padding in columns
    )
    return reduce(jnp.add, parts)


def _dense(images: jax.Array, kernel: jax.Array, stride: int, padding: Any) -> jax.Array:
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _phases(extent: int, size: int, stride: int, padding: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yield first pixel, first tap and padding of each phase along one side, without phases that have no tap."""
    for pixel in range(min(stride, extent)):
        tap = (pixel + padding) % stride
        taps, pixels = len(range(tap, size, stride)), len(range(pixel, extent, stride))
        if taps:
            before = (pixel + padding - tap) // stride
            yield pixel, tap, (before, output_extent(extent, size, stride, padding) + taps - 1 - pixels - before)
