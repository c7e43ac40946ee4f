"""`resnet-jax benchmark`: how fast a network trains and predicts on this machine, and what limits it."""

import json as json_lines
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from resnet_jax.config import ModelConfig
from resnet_jax.errors import UsageError, UserError, at_least, writing
from resnet_jax.models.registry import Architecture

LARGEST_CIFAR = 64  # pixels; larger images get the 7x7 stem and 1000 classes
SMALLEST_BATCH = 32  # images per device in the first batch of the sweep


def benchmark(
    *,
    arch: Architecture = "resnet18",
    width: int = 64,
    image_size: int = 32,
    batch_size: int | Literal["auto"] = 128,
    dtype: Literal["float32", "bfloat16"] | None = None,
    repeats: int = 5,
    against: Literal["torch"] | None = None,
    profile: Path | None = None,
    csv: Path | None = None,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Measure images per second of the forward pass, the training step, the input alone, and the whole training.

    The images are random: up to 64 pixels with the 3x3 stem and 10 classes, larger with the 7x7 stem and 1000 classes.
    Figures are medians over the repeats, with the lowest and highest value. No program comes from the cache.

    Example: resnet-jax benchmark --image-size 224 --batch-size auto --against torch

    Args:
        arch: name of the network, as in torchvision.
        width: channels of the first stage.
        image_size: height and width in pixels.
        batch_size: images in a step, over all devices; "auto" doubles it as long as that makes training faster.
        dtype: type of the computation. By default bfloat16 on TPU and GPU, float32 on CPU.
        repeats: number of measurements of each figure, each half a second or a step long.
        against: measure the same in PyTorch, in turns, and report the ratio (extra: parity).
        profile: folder for an xprof trace of some training steps, whose longest operations are listed.
        csv: file to add a row to, with the columns of timm's benchmark.
        json: print one JSON object and nothing else.

    Raises:
        UsageError: an option is out of range.
        UserError: PyTorch is missing, memory ends, a file can't be written, or the CSV file has other columns.
    """
    from resnet_jax.benchmarking.report import print_figures
    from resnet_jax.benchmarking.timm_csv import add_to_csv, check_csv

    at_least(1, repeats=repeats, image_size=image_size)
    at_least(2, batch_size=batch_size)
    if csv is not None:
        check_csv(csv)
    if profile is not None:
        with writing(profile, "give another --profile"):
            profile.mkdir(parents=True, exist_ok=True)
    with _explained(), Console(stderr=True).status("starting") as status:
        _prepare_jax(against)
        network = ModelConfig(arch, "cifar" if image_size <= LARGEST_CIFAR else "imagenet", width, dtype=dtype)
        figures = _figures(network, image_size, batch_size, repeats, against, profile, status.update)
    if csv is not None:
        add_to_csv(csv, figures)
    if json:
        print(json_lines.dumps(figures))
    else:
        print_figures(figures)


@contextmanager
def _explained() -> Iterator[None]:
    """Name this command's options instead of the trainer's, and turn a lack of memory into an error."""
    from resnet_jax.benchmarking.sweep import out_of_memory

    try:
        yield
    except UsageError as error:
        raise UsageError(re.sub(r"--(train|model)\.", "--", str(error))) from error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError("out of memory: choose a smaller --batch-size, --image-size or --width") from error


def _prepare_jax(against: str | None) -> None:
    import jax

    jax.config.update("jax_enable_compilation_cache", False)  # compilation is measured too
    if against is not None:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would reserve 75% of the GPU's memory


def _figures(
    network: ModelConfig,
    image_size: int,
    batch_size: int | Literal["auto"],
    repeats: int,
    against: str | None,
    trace: Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measure everything that is printed, by the names of the JSON object."""
    import jax

    from resnet_jax.benchmarking import torch_peer
    from resnet_jax.benchmarking.figures import against_figures, figures_of
    from resnet_jax.benchmarking.measure import measure
    from resnet_jax.benchmarking.workload import Workload

    device = jax.default_backend()
    if against is not None:
        torch_peer.check(device, jax.device_count())
    shape = {"num_classes": 10 if network.stem == "cifar" else 1000, "image_size": image_size}
    chosen: Any = batch_size
    found: dict[str, Any] = {}
    if batch_size == "auto":
        speeds = _sweep(network, shape, repeats, say)
        found["sweep"] = [{"batch_size": size, "train_images_per_second": it} for size, it in speeds.items()]
        chosen = max(speeds, key=speeds.__getitem__)
    say(f"compiling for batches of {chosen}")
    workload = Workload(network, batch_size=chosen, **shape)
    works = {name: getattr(workload, name) for name in ("forward", "train", "input", "end_to_end")}
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


def _profile(workload: Any, folder: Path) -> dict[str, Any]:
    from resnet_jax.benchmarking.profile import UnreadableTraceError, longest_operations, record_trace

    executions = record_trace(folder, workload.train) * workload.mesh.size
    operations, failure = [], None
    try:
        operations = longest_operations(folder, workload.train_program.as_text(), executions=executions)
    except UnreadableTraceError as error:  # the trace itself is there, and so are the other figures
        failure = str(error)
    listed = [operation._asdict() for operation in operations]
    return {"profile": str(folder), "operations": listed, "operations_failure": failure}


def _sweep(network: ModelConfig, shape: dict[str, int], repeats: int, say: Callable[[str], None]) -> dict[int, float]:
    import jax

    from resnet_jax.benchmarking.sweep import sweep
    from resnet_jax.benchmarking.workload import Workload

    def train_of(batch_size: int):
        say(f"trying batches of {batch_size}")
        return Workload(network, batch_size=batch_size, **shape).train

    return sweep(train_of, SMALLEST_BATCH * jax.device_count(), min(repeats, 3))
