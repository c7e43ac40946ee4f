"""Convolutions of 8-bit integers, for inference on a CPU: what a step of each channel is worth, and the calls.

A convolution by oneDNN multiplies its sums by one factor for all channels. So that each channel of a kernel can have a
scale of its own, each channel of the maps has one, too: `Maps` are integers in steps that differ by channel. The steps
of the inputs become part of the kernel, and a residual block keeps those of its shortcut (Nagel et al. 2019,
arXiv:1906.04721, section 4.1, rescale channels for the same reason).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from resnet_jax.models.cpu import onednn

if TYPE_CHECKING:
    from resnet_jax.models.cpu.fusion import Pending

CHANNELS = 16
"""From which on the inputs of a convolution become integers."""
LARGEST, UNSIGNED = 127, 255


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


class Seen(NamedTuple):
    """A convolution that can be one of integers, with the nodes that it connects."""

    source: int
    addend: int | None
    node: int


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
        _, known = self.taken[id(maps)] if id(maps) in self.taken else (maps, self.enter(maps))
        self.taken[id(maps)] = maps, known
        return known

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


@dataclass(frozen=True, eq=False)
class Plan:
    """How a network is computed with integers."""

    steps: tuple[Float[np.ndarray, " _"], ...]
    """Of each node."""
    signed: tuple[bool, ...]
    """Whether a node has negative values."""
    factors: tuple[float, ...]
    """Of each convolution: by which its sums are multiplied."""


def make_plan(
    convolutions: Sequence[Seen],
    lowest: Sequence[Float[np.ndarray, " _"]],
    highest: Sequence[Float[np.ndarray, " _"]],
    kernels: Sequence[Float[np.ndarray, "_ _"]],
) -> Plan:
    """Choose steps and factors, so that neither weights nor the values of calibration leave the range of the integers.

    A channel whose step follows from the largest value that it had may need smaller weights than others, and one whose
    step follows from its weights smaller values. The factor is the median of what the channels would choose alone, so
    half of them lose a part of the range of the weights, and half of that of the maps.

    Args:
        convolutions, lowest, highest, kernels: as a `Recorder` has them, over all images of the calibration.
    """
    signed = tuple(bool((low < 0).any()) for low in lowest)
    group = list(range(len(lowest)))  # nodes that are added have the same steps
    for seen in convolutions:
        if seen.addend is not None:
            old, new = group[seen.node], group[seen.addend]
            group = [new if it == old else it for it in group]
    alone = {}
    for name in set(group):
        members = [node for node in range(len(group)) if group[node] == name]
        ranges = np.max([np.maximum(-lowest[node], highest[node]) for node in members], axis=0)
        taken = [node for node in members if signed[node] and any(seen.source == node for seen in convolutions)]
        alone[name] = np.maximum(ranges, max(ranges.max(), 1e-6) * 1e-4) / (LARGEST if taken else UNSIGNED)

    def needed(seen: Seen, steps: dict[int, np.ndarray], largest: np.ndarray) -> np.ndarray:
        """Return by how much the steps of the outputs must be multiplied, in each channel, to become those of sums."""
        return (largest * steps[group[seen.source]][:, None]).max(0) / LARGEST / steps[group[seen.node]]

    steps = dict(alone)
    for seen, largest in zip(convolutions, kernels, strict=True):
        factors = needed(seen, alone, largest)
        name = group[seen.node]
        steps[name] = np.maximum(steps[name], alone[name] * factors / max(float(np.median(factors)), 1e-30))
    chosen = [needed(seen, steps, largest).max() for seen, largest in zip(convolutions, kernels, strict=True)]
    each = tuple(steps[group[node]].astype(np.float32) for node in range(len(group)))
    return Plan(each, signed, tuple(float(max(factor, 1e-30)) for factor in chosen))


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
