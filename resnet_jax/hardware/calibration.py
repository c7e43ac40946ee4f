"""How a forward pass is computed with 8-bit integers: from images to the ranges of its maps and to a plan."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from resnet_jax.hardware.compilation import compile_lowered
from resnet_jax.models.cpu.fusion import fused
from resnet_jax.models.cpu.int8 import Recorder
from resnet_jax.models.cpu.quantization import Plan, make_plan


class Calibrated(NamedTuple):
    """What a calibration found."""

    plan: Plan
    share: float
    """Of the multiply-adds in convolutions that the plan computes with integers."""


def calibrate(
    forward: Callable[[PyTree, Array], PyTree],
    weights: PyTree,
    batches: Iterable[ArrayLike],
    compiler_options: dict[str, Any] | None = None,
) -> Calibrated:
    """Find how to compute a function with integers.

    Args:
        forward: a pure function `forward(weights, images)`, as in `Inference`.
        weights: those that it will be computed with.
        batches: images, all batches of the same shape; at least one.
        compiler_options: for XLA.
    """
    notes: list[Recorder] = []

    def record() -> Recorder:
        notes.append(Recorder())
        return notes[-1]

    def ranges(weights: PyTree, images: Array) -> tuple[list[Array], ...]:
        fused(forward, record)(weights, images)
        return notes[-1].lowest, notes[-1].highest, notes[-1].kernels

    jitted, program, found = jax.jit(ranges, compiler_options=compiler_options), None, None
    for images in batches:
        program = program or compile_lowered(jitted.lower(weights, images))
        lowest, highest, kernels = jax.device_get(program(weights, images))
        if found is not None:
            lowest, highest = (
                [choose(*pair) for pair in zip(old, new, strict=True)]
                for choose, old, new in zip((np.minimum, np.maximum), found, (lowest, highest), strict=True)
            )
        found = lowest, highest
    (recorder,) = notes
    total = sum(recorder.operations) + recorder.others
    plan = make_plan(recorder.convolutions, lowest, highest, kernels)
    return Calibrated(plan, sum(recorder.operations) / max(total, 1))
