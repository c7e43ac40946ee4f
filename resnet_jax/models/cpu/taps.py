"""A convolution's taps: the places of its kernel, each with the pixels that it is multiplied by."""

from itertools import product

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def taps(
    images: Float[Array, "batch height width in_channels"],
    kernel: Float[Array, "size size group_channels out_channels"],
    stride: int,
    padding: int,
) -> tuple[
    list[Float[Array, "batch out_height out_width in_channels"]], Float[Array, "taps group_channels out_channels"]
]:
    """Return the pixels that each tap is multiplied by, one for each pixel of the outputs, and the taps' weights.

    Taps that lie on padding for all outputs are left out: of 5x5 taps on an image of 2x2 pixels, 9 remain.
    """
    size = kernel.shape[0]
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = (output_extent(extent, size, stride, padding) for extent in images.shape[1:3])
    rows, columns = (on_pixels(extent, size, stride, padding) for extent in images.shape[1:3])
    patches = [
        padded[:, row : row + stride * height : stride, column : column + stride * width : stride]
        for row, column in product(rows, columns)
    ]
    weights = kernel[rows.start : rows.stop, columns.start : columns.stop]
    return patches, weights.reshape(-1, *kernel.shape[2:])


def on_pixels(extent: int, size: int, stride: int, padding: int) -> range:
    """Return the taps along a side of `extent` pixels that lie on a pixel for at least one output."""
    last_output = output_extent(extent, size, stride, padding) - 1
    return range(max(0, padding - last_output * stride), min(size, padding + extent))


def output_extent(extent: int, size: int, stride: int, padding: int) -> int:
    """Return the outputs of a convolution along a side of `extent` pixels."""
    return (extent + 2 * padding - size) // stride + 1


def phases(
    images: Float[Array, "batch height width channels"], stride: int
) -> list[list[Float[Array, "batch rows columns channels"]]]:
    """Return every `stride`-th pixel from each of the first rows and columns on, filled up with zeros."""
    count, height, width, channels = images.shape
    rows, columns = -(-height // stride), -(-width // stride)
    whole = jnp.pad(images, ((0, 0), (0, rows * stride - height), (0, columns * stride - width), (0, 0)))
    apart = whole.reshape(count, rows, stride, columns, stride, channels)
    return [
        [each[:, :, 0, :, 0] for each in lax.split(row, (1,) * stride, 4)] for row in lax.split(apart, (1,) * stride, 2)
    ]
