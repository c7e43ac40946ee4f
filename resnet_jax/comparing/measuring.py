"""Size and speed of one network on this machine."""

from collections.abc import Callable
from typing import Any

import jax

from resnet_jax.benchmarking.measure import measure
from resnet_jax.benchmarking.sweep import out_of_memory, sweep
from resnet_jax.benchmarking.workload import Workload
from resnet_jax.comparing.settings import Settings
from resnet_jax.errors import UsageError
from resnet_jax.hardware.compilation_cache import compiling_anew
from resnet_jax.hardware.compiled import memory_of

SMALLEST_BATCH = {"cpu": 8}  # images per device in the first batch of the sweep
SMALLEST_BATCH_ELSEWHERE = 32


def measure_network(settings: Settings, arch: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure one network; if memory does not suffice for training, that is missing, and `remark` says so.

    Args:
        settings: what all networks have in common.
        arch: name of the network.
        say: called with a message about each stage of the work.

    Returns:
        Figures by name; seconds, images per second, bytes. Multiply-adds and activations are those of one image.

    Raises:
        UsageError: the network does not exist with these settings, or can't take images of this size.
    """
    size = settings.batch_size or _smallest()
    try:
        workload = _workload(settings, arch, size)
    except UsageError as error:
        raise UsageError(f"{error}; or leave {arch} out of --archs") from error
    found = {
        "arch": arch,
        "parameters": workload.parameters,
        "multiply_adds": workload.cost.multiply_adds,
        "activations": workload.cost.activations,
        "weight_bytes": workload.weight_bytes,
    }
    say("one image at a time")
    found["latency_seconds"] = measure({"latency": workload.one_image}, settings.repeats)["latency"].median
    if settings.batch_size is None:
        speeds = sweep(lambda size: _forward(settings, arch, size, say), size, min(settings.repeats, 3))
        size = max(speeds, key=speeds.__getitem__)
        workload = _workload(settings, arch, size)
    say(f"forward pass in batches of {size}")
    with compiling_anew():
        forward = workload.forward
    timing = measure({"forward": forward}, settings.repeats)["forward"]
    found |= {
        "forward_batch_size": size,
        "forward_images_per_second": size / timing.median,
        "forward_compile_seconds": workload.compile_seconds["forward"],
    }
    while True:
        say(f"training in batches of {size}")
        try:
            return found | _training_figures(workload, size, settings.repeats)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if settings.batch_size is not None or size <= 2 * jax.device_count():
                return found | {"remark": f"memory does not suffice for training in batches of {size}"}
        size //= 2
        workload = _workload(settings, arch, size)


def _training_figures(workload: Workload, batch_size: int, repeats: int) -> dict[str, Any]:
    with compiling_anew():
        train = workload.train
    timing = measure({"train": train}, repeats)["train"]
    return {
        "train_batch_size": batch_size,
        "train_images_per_second": batch_size / timing.median,
        "train_compile_seconds": workload.compile_seconds["train"],
        "step_memory_bytes": memory_of(workload.train_program),
    }


def _forward(settings: Settings, arch: str, batch_size: int, say: Callable[[str], None]) -> Callable[[int], int]:
    say(f"trying batches of {batch_size}")
    return _workload(settings, arch, batch_size).forward


def _workload(settings: Settings, arch: str, batch_size: int) -> Workload:
    return Workload(
        settings.network(arch),
        num_classes=settings.classes,
        batch_size=batch_size,
        image_size=settings.image_size,
        images=batch_size,
    )


def _smallest() -> int:
    return SMALLEST_BATCH.get(jax.default_backend(), SMALLEST_BATCH_ELSEWHERE) * jax.device_count()
