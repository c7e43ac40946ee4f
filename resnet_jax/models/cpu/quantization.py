"""How maps and kernels are quantized to 8-bit integers: what a step of each channel is worth, chosen from their ranges.

A convolution by oneDNN multiplies its sums by one factor for all channels. So that each channel of a kernel can have a
scale of its own, each channel of the maps has one, too: integers in steps that differ by channel. The steps of the
inputs become part of the kernel, and a residual block keeps those of its shortcut (Nagel et al. 2019, arXiv:1906.04721,
section 4.1, rescale channels for the same reason).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

LARGEST, UNSIGNED = 127, 255


class Seen(NamedTuple):
    """A convolution that can be one of integers, with the nodes that it connects."""

    source: int
    addend: int | None
    node: int


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
