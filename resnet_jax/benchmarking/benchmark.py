"""A whole benchmark: chooses the batch, measures, compares, profiles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax

from resnet_jax.benchmarking import torch_peer
from resnet_jax.benchmarking.figures import PIECES, SPEEDS, against_figures, figures_of
from resnet_jax.benchmarking.measure import measure
from resnet_jax.benchmarking.profile import UnreadableTraceError, longest_operations, record_trace
from resnet_jax.benchmarking.sweep import sweep
from resnet_jax.benchmarking.workload import Workload
from resnet_jax.config import ModelConfig
from resnet_jax.hardware.sharding import find_devices

SMALLEST_BATCH = 32  # images per device in the first batch of the sweep


def measure_all(
    network: ModelConfig,
    image_size: int,
    batch_size: int | Literal["auto"],
    repeats: int,
    against: str | None,
    trace: Path | None,
    say: Callable[[str], None],
    *,
    whole: bool,
) -> dict[str, Any]:
    """Measure everything that is printed of one network.

    Args:
        network: what to measure.
        image_size: height and width, pixels.
        batch_size: images in a step, over all devices; "auto" for the one that trains fastest.
        repeats: number of measurements.
        against: "torch" to measure PyTorch too, alternating with ours.
        trace: folder for a profiler's trace of the training step.
        say: called with a message about each stage of the work.
        whole: measure all PIECES, otherwise SPEEDS only.

    Returns:
        The figures by the names of the JSON object.

    Raises:
        UsageError: the configuration does not fit the devices, or PyTorch is missing or sees other devices.
        UserError: JAX can't start its devices.
    """
    devices = find_devices()
    device = devices[0].platform
    if against is not None:
        torch_peer.check(device, len(devices))
    shape = {"num_classes": 10 if network.stem == "cifar" else 1000, "image_size": image_size}
    chosen: Any = batch_size
    found: dict[str, Any] = {}
    if batch_size == "auto":
        speeds = _sweep(network, shape, repeats, say)
        found["sweep"] = [{"batch_size": size, "train_images_per_second": it} for size, it in speeds.items()]
        chosen = max(speeds, key=speeds.__getitem__)
    say(f"compiling for batches of {chosen}")
    workload = Workload(network, batch_size=chosen, **shape)
    works = {name: getattr(workload, name) for name in (PIECES if whole else SPEEDS)}
    if against is not None:
        peer = torch_peer.TorchPeer(workload.config.model, batch_size=chosen, **shape, device=device)
        works |= {"torch_forward": peer.forward, "torch_train": peer.train}
    say(f"measuring {', '.join(works)}: {repeats} times each")
    timings = measure(works, repeats)
    if against is not None:
        found |= against_figures(timings, chosen) | {"torch_version": peer.version, "torch_threads": peer.threads}
    if trace is not None:
        say("profiling")
        found |= _profile(workload, trace)
    return figures_of(workload, timings) | found


def _profile(workload: Workload, folder: Path) -> dict[str, Any]:
    executions = record_trace(folder, workload.train) * workload.mesh.size
    operations, failure = [], None
    try:
        operations = longest_operations(folder, workload.train_program.as_text(), executions=executions)
    except UnreadableTraceError as error:  # the trace itself is there, and so are the other figures
        failure = str(error)
    listed = [operation._asdict() for operation in operations]
    return {"profile": str(folder), "operations": listed, "operations_failure": failure}


def _sweep(network: ModelConfig, shape: dict[str, int], repeats: int, say: Callable[[str], None]) -> dict[int, float]:
    def train_of(batch_size: int):
        say(f"trying batches of {batch_size}")
        return Workload(network, batch_size=batch_size, **shape).train

    return sweep(train_of, SMALLEST_BATCH * jax.device_count(), min(repeats, 3))
