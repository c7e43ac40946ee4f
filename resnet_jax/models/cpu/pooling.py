"""The maximum pooling in the forms that are fastest on XLA's CPU backend; docs/cpu.md has the measurements."""

from collections.abc import Mapping
from functools import partial, reduce
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int16

from resnet_jax.models.cpu.taps import phases

Maps = Float[Array, "batch height width channels"]
Pooled = Float[Array, "batch out_height out_width channels"]
Sides = tuple[tuple[int, int], ...]


def max_pool(maps: Maps, params: Mapping[str, Any]) -> Pooled:
    """Compute the maximum over windows as the maximum of shifted images; docs/cpu.md has the measurements.

    XLA computes in bfloat16 by conversions to float32, which are not vectorized here. As 16-bit integers in the same
    order, the numbers are compared 20 times as fast.

    Args:
        maps: float32 or bfloat16.
        params: those of the operation `reduce_window_max`, with windows of more than one pixel only along height and
            width and without dilation.
    """
    if maps.dtype == jnp.bfloat16:
        bits = _ordered(lax.bitcast_convert_type(maps, jnp.int16))
        return lax.bitcast_convert_type(
            _ordered(_of_windows(bits, params, float(np.iinfo(np.int16).min))), jnp.bfloat16
        )
    return _of_windows(maps, params, -jnp.inf)


def _of_windows(maps: jax.Array, params: Mapping[str, Any], lowest: float) -> jax.Array:
    padded = jnp.pad(maps, params["padding"], constant_values=lowest)
    (_, *sizes, _), (_, *strides, _) = params["window_dimensions"], params["window_strides"]
    ends = [
        (extent - size) // step * step for extent, size, step in zip(padded.shape[1:], sizes, strides, strict=False)
    ]
    rows, columns = (
        [slice(tap, tap + end + 1, step) for tap in range(size)]
        for size, end, step in zip(sizes, ends, strides, strict=True)
    )
    return reduce(jnp.maximum, (padded[:, row, column] for row, column in product(rows, columns)))


def _ordered(bits: Int16[Array, "..."]) -> Int16[Array, "..."]:
    """Map the bits of bfloat16 numbers to integers in the same order, or back."""
    return bits ^ ((bits >> 15) & 0x7FFF)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def pool(maps: Maps, size: int, stride: int, padding: Sides) -> Pooled:
    """Compute the maximum over windows, with a derivative that is fast too.

    The derivative is that of the first pixel of a window that has its maximum, as XLA's and PyTorch's. XLA finds it by
    a reduction of pairs of numbers and places, which takes six times as long.

    Args:
        maps: float32 or float64.
        size, stride: of the windows, along both sides.
        padding: of minus infinity before and after height and width.
    """
    return reduce(jnp.maximum, _pixels(maps, size, stride, padding, -jnp.inf))


@pool.defjvp
def _pool_jvp(size, stride, padding, primals, tangents):
    pixels = _pixels(*primals, size, stride, padding, -jnp.inf)
    pooled = pool(*primals, size, stride, padding)
    first = jnp.zeros(pooled.shape, jnp.int32)
    for place in reversed(range(size**2)):
        first = jnp.where(pixels[place] == pooled, place, first)
    first = lax.optimization_barrier(first.astype(jnp.uint8))  # all that is kept for the gradient
    moved = _pixels(*tangents, size, stride, padding, 0.0)
    return pooled, reduce(jnp.add, (jnp.where(first == place, pixel, 0) for place, pixel in enumerate(moved)))


def _pixels(maps: Maps, size: int, stride: int, padding: Sides, fill: float) -> list[Pooled]:
    """Return the pixels at each place of a window, for all windows."""
    padded = jnp.pad(maps, ((0, 0), *padding, (0, 0)), constant_values=fill)
    height, width = (max(0, (extent - size) // stride + 1) for extent in padded.shape[1:3])
    apart = phases(padded, stride)
    return [
        apart[row % stride][column % stride][:, row // stride :, column // stride :][:, :height, :width]
        for row, column in product(range(size), repeat=2)
    ]
