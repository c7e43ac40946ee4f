"""Grouped and depthwise convolutions in forms that are fast on XLA's CPU backend; docs/cpu.md has the measurements."""

from collections.abc import Callable
from functools import reduce
from itertools import product

import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "batch height width in_channels"]
Kernel = Float[Array, "size size group_channels out_channels"]
Patches = Float[Array, "batch out_height out_width in_channels"]
Outputs = Float[Array, "batch out_height out_width out_channels"]

BLOCK = 128
"""Channels of a block of groups, at most, unless a group has more."""


def depthwise(images: Images, kernel: Kernel, stride: int, padding: int) -> Outputs:
    """Convolve each channel with its own kernel, as a sum over the taps of shifted images times a row of weights."""
    patches, weights = taps(images, kernel, stride, padding)
    return reduce(jnp.add, (patch * row for patch, row in zip(patches, weights[:, 0], strict=True)))


def taps(
    images: Images, kernel: Kernel, stride: int, padding: int
) -> tuple[list[Patches], Float[Array, "taps group_channels out_channels"]]:
    """Return the pixels that each tap of a kernel is multiplied by, one for each pixel of the outputs, and its weights.

    Taps that lie on padding for all outputs are left out: of 5x5 taps on an image of 2x2 pixels, 9 remain.
    """
    size = kernel.shape[0]
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = (output_extent(extent, size, stride, padding) for extent in images.shape[1:3])
    rows, columns = (_on_pixels(extent, size, stride, padding) for extent in images.shape[1:3])
    patches = [
        padded[:, row : row + stride * height : stride, column : column + stride * width : stride]
        for row, column in product(rows, columns)
    ]
    weights = kernel[rows.start : rows.stop, columns.start : columns.stop]
    return patches, weights.reshape(-1, *kernel.shape[2:])


def _on_pixels(extent: int, size: int, stride: int, padding: int) -> range:
    """Return the taps along one side that lie on a pixel for at least one output."""
    last_output = output_extent(extent, size, stride, padding) - 1
    return range(max(0, padding - last_output * stride), min(size, padding + extent))


def output_extent(extent: int, size: int, stride: int, padding: int) -> int:
    """Return the outputs of a convolution along a side of `extent` pixels."""
    return (extent + 2 * padding - size) // stride + 1


def by_blocks(convolve: Callable[[Images, Kernel], Outputs], images: Images, kernel: Kernel, groups: int) -> Outputs:
    """Convolve blocks of neighboring groups like single groups, with zeros for the products between two groups.

    XLA's CPU backend takes 40 times as long for the gradient of a grouped kernel as for that of a dense one, which has
    more products.
    """
    size, _, inputs, outputs = *kernel.shape[:3], kernel.shape[3] // groups
    merged = max(
        count for count in range(1, groups + 1) if groups % count == 0 and count * max(inputs, outputs) <= BLOCK
    )
    blocks = groups // merged
    parts = kernel.reshape(size, size, inputs, blocks, merged, outputs)
    apart = jnp.eye(merged, dtype=kernel.dtype)
    dense = jnp.einsum("hwibmo,nm->bhwnimo", parts, apart).reshape(
        blocks, size, size, merged * inputs, merged * outputs
    )
    return jnp.concatenate(
        [convolve(part, each) for part, each in zip(jnp.split(images, blocks, -1), dense, strict=True)], -1
    )
