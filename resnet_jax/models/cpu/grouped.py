"""The grouped convolution in forms that are fast on XLA's CPU backend; docs/cpu.md has the measurements."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Images = Float[Array, "batch height width in_channels"]
Kernel = Float[Array, "size size group_channels out_channels"]
Outputs = Float[Array, "batch out_height out_width out_channels"]

BLOCK = 128
"""Channels of a block of groups that a dense convolution computes, at most, unless a group has more."""
NARROW = 16
"""The same where the products of a block are a matrix product: with 32, zeros take twice the time."""
CHUNK = 2**20
"""Numbers in the images whose products are summed at a time, at most: with more, the copies leave the caches."""


def by_blocks(convolve: Callable[[Images, Kernel], Outputs], images: Images, kernel: Kernel, groups: int) -> Outputs:
    """Convolve blocks of neighboring groups like single groups, with zeros for the products between two groups.

    XLA's CPU backend takes 40 times as long for the gradient of a grouped kernel as for that of a dense one, which has
    more products.
    """
    size, _, inputs, outputs = *kernel.shape[:3], kernel.shape[3] // groups
    merged = _merged(groups, max(inputs, outputs), BLOCK)
    blocks = groups // merged
    parts = kernel.reshape(size, size, inputs, blocks, merged, outputs)
    apart = jnp.eye(merged, dtype=kernel.dtype)
    dense = jnp.einsum("hwibmo,nm->bhwnimo", parts, apart).reshape(
        blocks, size, size, merged * inputs, merged * outputs
    )
    return jnp.concatenate(
        [convolve(part, each) for part, each in zip(jnp.split(images, blocks, -1), dense, strict=True)], -1
    )


def kernel_gradient(
    images: Images, gradients: Outputs, size: tuple[int, int], padding: Sequence[tuple[int, int]], groups: int
) -> Kernel:
    """Compute the gradient by the kernel of a grouped convolution at stride 1, in float32.

    It is a sum over the pixels of products of images and gradients, with the images shifted for each tap. Here the
    images are shifted along the columns alone and the gradients along the rows, so that six copies and one matrix
    product make the products of all nine taps of a 3x3 kernel.

    Args:
        images: float32 or bfloat16.
        gradients: by the outputs, likewise.
        size: rows and columns of the kernel.
        padding: zeros before and after each side of the images, 0 or more.
        groups: of channels.
    """
    inputs, outputs = images.shape[3] // groups, gradients.shape[3] // groups
    merged = _merged(groups, max(inputs, outputs), NARROW)
    together = max((count for count in _divisors(len(images)) if count * images[0].size <= CHUNK), default=1)
    sums = partial(_products, size=size, padding=padding, blocks=groups // merged)
    parts = [maps.reshape(-1, together, *maps.shape[1:]) for maps in (images, gradients)]
    total = jnp.zeros(jax.eval_shape(sums, *(part[0] for part in parts)).shape, jnp.float32)
    total = lax.scan(lambda total, part: (total + sums(*part), None), total, tuple(parts))[0]
    rows, columns = size
    apart = total.reshape(-1, columns, merged, inputs, rows, merged, outputs)
    own = jnp.stack([apart[:, :, group, :, :, group] for group in range(merged)], 1)
    return own.transpose(4, 2, 3, 0, 1, 5).reshape(rows, columns, inputs, groups * outputs)


def _products(
    images: Images, gradients: Outputs, size: tuple[int, int], padding: Sequence[tuple[int, int]], blocks: int
) -> Float[Array, "blocks columns_and_inputs rows_and_outputs"]:
    """Sum the products of each block's images, shifted by each column, and its gradients, shifted by each row."""
    (rows, columns), width, ends = size, gradients.shape[2], (size[0] - 1, size[0] - 1)
    high = lax.optimization_barrier(
        jnp.pad(_blocks_first(images, blocks), ((0, 0), padding[0], (0, 0), padding[1], (0, 0)))
    )
    low = lax.optimization_barrier(jnp.pad(_blocks_first(gradients, blocks), ((0, 0), ends, (0, 0), (0, 0), (0, 0))))
    height = high.shape[1]
    left = [high[:, :, :, column : column + width] for column in range(columns)]
    right = [low[:, rows - 1 - row : rows - 1 - row + height] for row in range(rows)]
    left, right = (
        lax.optimization_barrier(jnp.concatenate(parts, -1).reshape(blocks, height * len(images) * width, -1))
        for parts in (left, right)
    )
    return jnp.einsum("bpl,bpr->blr", left, right)


def _blocks_first(maps: Images, blocks: int) -> Float[Array, "blocks height batch width block_channels"]:
    apart = maps.astype(jnp.float32).reshape(*maps.shape[:3], blocks, -1)
    return apart.transpose(3, 1, 0, 2, 4)


def _merged(groups: int, channels: int, most: int) -> int:
    """Return how many groups of so many channels make a block of at most `most` channels, at least one."""
    return max((count for count in _divisors(groups) if count * channels <= most), default=1)


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
