"""The grouped convolution in a form that is fast on XLA's CPU backend; docs/cpu.md has the measurements."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

Images = Float[Array, "batch height width in_channels"]
Kernel = Float[Array, "size size group_channels out_channels"]
Outputs = Float[Array, "batch out_height out_width out_channels"]

BLOCK = 128
"""Channels of a block of groups, at most, unless a group has more."""


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
