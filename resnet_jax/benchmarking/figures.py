"""The figures of `resnet-jax benchmark`, computed from its timings, by the names of its JSON object."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import jax

from resnet_jax.benchmarking.measure import Timing
from resnet_jax.benchmarking.workload import Workload
from resnet_jax.hardware.chips import chip_of
from resnet_jax.hardware.compiled import memory_of

SPEEDS = ("forward", "train")
PIECES = (*SPEEDS, "input", "end_to_end")
"""What is measured of a network: properties of `Workload`. Of several networks, only SPEEDS."""
OPERATIONS = {"forward": 2, "train": 6, "end_to_end": 6}
"""Operations per multiply-add of the forward pass; the gradient costs two more such passes."""


def figures_of(workload: Workload, timings: Mapping[str, Timing]) -> dict[str, Any]:
    """Return the figures of our own timings, by the names of the JSON object; `timings` has at least SPEEDS."""
    config, device = workload.config, workload.mesh.devices.flat[0]
    batch_size = config.train.batch_size
    chip, macs = chip_of(device.device_kind), workload.cost.multiply_adds
    figures: dict[str, Any] = {
        "arch": config.model.arch,
        "stem": config.model.stem,
        "width": config.model.width,
        "parameters": workload.parameters,
        "image_size": workload.run.dataset.train.image_shape[0],
        "batch_size": batch_size,
        "dtype": config.model.dtype,
        "device_kind": device.device_kind,
        "devices": workload.mesh.size,
        "jax_version": jax.__version__,
        "repeats": len(timings["train"].seconds),
        "steps_per_call": workload.run.program.steps_per_call,
        "multiply_adds_per_image": macs,
        "activations_per_image": workload.cost.activations,
        "bfloat16_peak_flops_per_second": None if chip is None else chip.bfloat16_flops * workload.mesh.size,
    }
    for name in (name for name in PIECES if name in timings):
        figures |= _speed(name, timings[name], batch_size)
        if name in OPERATIONS:
            rate = OPERATIONS[name] * macs * figures[f"{name}_images_per_second"]
            peak = figures["bfloat16_peak_flops_per_second"]
            figures |= {f"{name}_flops_per_second": rate, f"{name}_peak_share": None if peak is None else rate / peak}
    if "end_to_end" in timings:
        figures |= _shares(workload.end_to_end.waiting_shares, timings)
    return figures | {
        **{f"{name}_compile_seconds": seconds for name, seconds in workload.compile_seconds.items()},
        "step_memory_bytes": memory_of(workload.train_program),
        "peak_memory_bytes": (device.memory_stats() or {}).get("peak_bytes_in_use"),
    }


def _shares(waiting: Sequence[float], timings: Mapping[str, Timing]) -> dict[str, float]:
    """Return what share of the whole training is not the training step."""
    steps, wholes = timings["train"].seconds, timings["end_to_end"].seconds
    outside = median(1 - step / whole for step, whole in zip(steps, wholes, strict=True))
    return {
        "waiting_for_data_share": median(waiting[-len(wholes) :]),  # the calls before these looked for the length
        "outside_step_share": max(outside, 0.0),  # two clocks can disagree
    }


def against_figures(timings: Mapping[str, Timing], batch_size: int) -> dict[str, Any]:
    """Return PyTorch's figures and the ratio of our speed to its: median over the pairs, and range."""
    figures: dict[str, Any] = {"against": "torch"}
    for name in ("forward", "train"):
        ours, theirs = timings[name], timings[f"torch_{name}"]
        ratios = [other / own for own, other in zip(ours.seconds, theirs.seconds, strict=True)]
        figures |= _speed(f"torch_{name}", theirs, batch_size)
        figures |= {f"{name}_ratio": median(ratios), f"{name}_ratio_range": [min(ratios), max(ratios)]}
    return figures


def _speed(name: str, timing: Timing, batch_size: int) -> dict[str, Any]:
    return {
        f"{name}_images_per_second": batch_size / timing.median,
        f"{name}_images_per_second_range": [batch_size / max(timing.seconds), batch_size / min(timing.seconds)],
        f"{name}_step_seconds": timing.median,
        f"{name}_steps_per_repeat": timing.steps,
    }
