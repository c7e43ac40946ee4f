"""Convolutions of 8-bit integers, for inference on a CPU: which are, the record of their ranges, and the calls.

`Maps` pass between them: integers in steps that differ by channel, as `quantization` chooses them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from resnet_jax.models.cpu import onednn
from resnet_jax.models.cpu.quantization import LARGEST, UNSIGNED, Plan, Seen

if TYPE_CHECKING:
    from resnet_jax.models.cpu.fusion import Pending

CHANNELS = 16
"""From which on the inputs of a convolution become integers."""


@dataclass(frozen=True)
class Maps:
    """Inputs or outputs of convolutions: `values` times `steps` of each channel, or the values alone."""

    values: jax.Array
    node: int
    """Its number, in the order of computation."""
    dtype: DTypeLike
    """Of the maps in the network."""
    steps: Float[np.ndarray, " channels"] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def plain(self) -> jax.Array:
        return self.values if self.steps is None else (self.values * self.steps).astype(self.dtype)


def takes(kernel: Sequence[int], groups: int) -> bool:
    """Tell whether a convolution with a kernel of this shape can be one of integers."""
    return groups == 1 and kernel[2] >= CHANNELS


def operands(pending: "Pending") -> tuple[Maps, Maps | None] | None:
    """Return images and addend of a convolution of integers; None if it can't be one, after what follows it."""
    images, addend = pending.images, pending.addend
    plain = takes(pending.kernel.shape, pending.options["groups"]) and pending.activation in ("none", "relu")
    if not plain or not isinstance(images, Maps) or not isinstance(addend, Maps | None):
        return None
    return images, addend


@dataclass
class Taken:
    """Remembers which maps were made integers, for a residual sum with them."""

    taken: dict[int, tuple[Any, Maps]] = field(default_factory=dict)

    def take(self, maps: Any) -> Maps:
        """Return the inputs of a convolution of integers."""
        if id(maps) not in self.taken:
            self.taken[id(maps)] = maps, self.enter(maps)
        return self.taken[id(maps)][1]

    def known(self, maps: Any) -> Any:
        return self.taken[id(maps)][1] if id(maps) in self.taken else maps

    def enter(self, maps: Any) -> Maps:
        raise NotImplementedError


@dataclass
class Recorder(Taken):
    """Computes with the network's own type, and notes ranges and kernels; one for each trace."""

    convolutions: list[Seen] = field(default_factory=list)
    lowest: list[Array] = field(default_factory=list)
    """Of each node: the smallest value of each channel."""
    highest: list[Array] = field(default_factory=list)
    kernels: list[Array] = field(default_factory=list)
    """Of each of `convolutions`: the largest absolute weight, `[in_channels, out_channels]`."""
    operations: list[int] = field(default_factory=list)
    """Multiply-adds of an image, of each of `convolutions`."""
    others: int = 0
    """Multiply-adds of an image in other convolutions."""

    def enter(self, maps: Any) -> Maps:
        return maps if isinstance(maps, Maps) else self._note(maps)

    def convolve(self, pending: "Pending") -> Any:
        outputs = pending.floating()
        height, width, inputs, _ = pending.kernel.shape
        count = outputs[0].size * height * width * inputs
        if (found := operands(pending)) is None:
            self.others += count
            return outputs
        images, addend = found
        noted = self._note(outputs)
        self.convolutions.append(Seen(images.node, None if addend is None else addend.node, noted.node))
        self.kernels.append(jnp.abs(pending.kernel * pending.scale).max((0, 1)))
        self.operations.append(count)
        return noted

    def _note(self, maps: jax.Array) -> Maps:
        self.lowest.append(maps.astype(jnp.float32).min((0, 1, 2)))
        self.highest.append(maps.astype(jnp.float32).max((0, 1, 2)))
        return Maps(maps, len(self.lowest) - 1, maps.dtype)


@dataclass
class Integers(Taken):
    """Computes as a plan says; one for each trace."""

    plan: Plan = field(kw_only=True)
    nodes: int = 0
    convolutions: int = 0

    def enter(self, maps: Any) -> Maps:
        if isinstance(maps, Maps) and jnp.issubdtype(maps.values.dtype, jnp.integer):
            return maps
        node = maps.node if isinstance(maps, Maps) else self._next()
        low, high, kind = (-LARGEST, LARGEST, jnp.int8) if self.plan.signed[node] else (0, UNSIGNED, jnp.uint8)
        steps = self.plan.steps[node]
        values = maps.values if isinstance(maps, Maps) else maps.astype(jnp.float32) * (1 / steps)
        return Maps(jnp.clip(jnp.rint(values), low, high).astype(kind), node, maps.dtype, steps)

    def convolve(self, pending: "Pending") -> Any:
        if (found := operands(pending)) is None:
            return pending.floating()
        images, addend = found
        assert images.steps is not None
        factor = self.plan.factors[self.convolutions]
        self.convolutions += 1
        node = self._next()
        steps, shape = self.plan.steps[node], pending.kernel.shape
        sums = factor * steps  # what one of a sum of products is worth
        kernel = pending.kernel * pending.scale * (images.steps[:, None] / sums)
        values = onednn.convolve(
            images.values,
            jnp.clip(jnp.rint(kernel), -LARGEST, LARGEST).astype(jnp.int8),
            jnp.broadcast_to(jnp.asarray(pending.bias, jnp.float32), shape[3:]) / sums,
            None if addend is None else addend.values,
            **pending.options,
            factor=factor,
            activation=pending.activation,
            dtype=jnp.uint8 if pending.activation == "relu" else pending.dtype,
        )
        return Maps(values, node, pending.dtype, steps)

    def _next(self) -> int:
        self.nodes += 1
        return self.nodes - 1
