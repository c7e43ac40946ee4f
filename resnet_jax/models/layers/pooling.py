"""Pooling as PyTorch computes it, NHWC. The classes are values without weights, to be used as layers."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from resnet_jax.models.cpu.pooling import pool

Maps = Float[Array, "batch height width channels"]
Pooled = Float[Array, "batch out_height out_width channels"]


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows, padded with minus infinity."""

    size: int
    stride: int
    padding: int = 0
    ceil: bool = False
    """Whether a last window that is not complete counts too (PyTorch's `ceil_mode`)."""

    def __call__(self, maps: Maps) -> Pooled:
        padding = tuple(self._padding(extent) for extent in maps.shape[1:3])

        def plain(maps: Maps) -> Pooled:
            return nnx.max_pool(maps, (self.size, self.size), (self.stride, self.stride), padding)

        static = all(isinstance(extent, int) for extent in maps.shape[1:3])  # not a symbol of an exported program
        if not static or maps.dtype.itemsize < 4 or min(map(min, padding)) < 0:  # which cuts pixels off
            return plain(maps)
        ours = partial(pool, size=self.size, stride=self.stride, padding=padding)
        return lax.platform_dependent(maps, cpu=ours, default=plain)

    def _padding(self, extent: Any) -> tuple[int, int]:
        if not self.ceil:
            return self.padding, self.padding
        windows = -(-(extent + 2 * self.padding - self.size) // self.stride) + 1
        if (windows - 1) * self.stride >= extent + self.padding:  # the last one would start after the maps
            windows -= 1
        return self.padding, (windows - 1) * self.stride + self.size - extent - self.padding


@dataclass(frozen=True)
class AveragePool:
    """Mean over windows, which do not overlap."""

    size: int
    ceil: bool = False
    """Whether a last window that is not complete counts too, as the mean of the pixels it has."""

    def __call__(self, maps: Maps) -> Pooled:
        window = (self.size, self.size)
        if not self.ceil:
            return nnx.avg_pool(maps, window, window)
        padding = tuple((0, -extent % self.size) for extent in maps.shape[1:3])
        return nnx.avg_pool(maps, window, window, padding, count_include_pad=False)


def blur(maps: Maps) -> Maps:
    """Average each pixel with its neighbors, weighted 1, 2, 1 in both directions; beyond the edge are zeros."""
    for axis in (1, 2):
        extent = maps.shape[axis]
        padded = jnp.pad(maps, [(1, 1) if place == axis else (0, 0) for place in range(4)])
        before, here, after = (lax.slice_in_dim(padded, start, start + extent, axis=axis) for start in range(3))
        maps = (before + 2 * here + after) / 4
    return maps


def global_average(maps: Maps) -> Float[Array, "batch channels"]:
    """Average over height and width, in float32."""
    return maps.astype(jnp.float32).mean((1, 2))


def adaptive_average(maps: Maps, size: int) -> Float[Array, "batch size size channels"]:
    """Average over `size` times `size` windows that cover the maps evenly, as PyTorch's `AdaptiveAvgPool2d` does.

    Smaller maps are enlarged, since the windows then overlap.
    """
    for axis in (1, 2):
        extent = maps.shape[axis]
        bounds = [(i * extent // size, -(-(i + 1) * extent // size)) for i in range(size)]
        windows = [jnp.take(maps, jnp.arange(*ends), axis).mean(axis, keepdims=True) for ends in bounds]
        maps = maps if extent == size else jnp.concatenate(windows, axis)
    return maps


def flatten(maps: Maps) -> Float[Array, "batch features"]:
    """Flatten in PyTorch's order, channels first."""
    return maps.transpose(0, 3, 1, 2).reshape(maps.shape[0], -1)
