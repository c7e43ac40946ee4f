"""The training run: the loop, and what happens around it."""

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import PyTree
from rich.console import Console

from resnet_jax.config import Config, as_dict
from resnet_jax.data.description import describe
from resnet_jax.hardware import processes
from resnet_jax.hardware.sharding import make_mesh, replicate, replicated
from resnet_jax.runs.checkpoint import Checkpoints
from resnet_jax.runs.folder import read_summary
from resnet_jax.runs.logbook import open_logbook
from resnet_jax.runs.opening import open_workdir
from resnet_jax.runs.staging import RunFolder, staged
from resnet_jax.training.alike import compare_data, compare_starts
from resnet_jax.training.epoch import finish_epoch
from resnet_jax.training.faults import disk_faults, diverged, memory_faults
from resnet_jax.training.images import read_images
from resnet_jax.training.interrupt import Interrupted, StopRequest
from resnet_jax.training.metrics import NEVER, TrainMetrics
from resnet_jax.training.progress import Display
from resnet_jax.training.report import print_summary
from resnet_jax.training.setup import Run, assemble
from resnet_jax.training.state import TrainState
from resnet_jax.training.summary import illustrate, summarize


class Call(NamedTuple):
    """What one call to the devices has done; its arrays may not be computed yet."""

    state: TrainState
    metrics: TrainMetrics
    """Sums since the start of the epoch."""
    step: int
    """Completed steps of the run."""
    steps: int
    """Steps of this call."""
    epoch: int
    started: float
    """Time of `time.perf_counter`."""
    waited: float
    """Seconds spent waiting for the feed."""
    first: bool
    """Whether this was the first call of its kind, which includes the compilation."""


def advance(run: Run, state: TrainState, metrics: TrainMetrics, step: int, end: int) -> Iterator[Call]:
    """Train from `step` to `end`: the one loop, for training, timing and recording.

    State and metrics of a call are consumed by the next one.
    """
    kinds: set[tuple[bool, int]] = set()
    while step < end:
        epoch, offset = divmod(step, run.program.steps_per_epoch)
        count = min(run.program.steps_per_call, run.program.steps_per_epoch - offset, end - step)
        small = epoch < run.config.small_epochs
        started = time.perf_counter()
        taken = run.feed.take(step, count)
        waited = time.perf_counter() - started
        if offset == 0:
            metrics = zero_metrics(run.mesh)
        state, metrics = (run.small_steps if small else run.steps)(state, metrics, run.data, taken)
        step += count
        yield Call(state, metrics, step, count, epoch, started, waited, first=(small, count) not in kinds)
        kinds.add((small, count))


def train(
    config: Config, workdir: Path | str, *, wandb_project: str | None = None, console: Console | None = None
) -> dict[str, Any]:
    """Train, evaluate and report one run, or resume the one in `workdir`; see `complete`."""
    console = console or Console(quiet=not processes.is_first())
    summary = complete(config, workdir, console, wandb_project=wandb_project)
    print_summary(console, summary, workdir)
    return summary


def complete(
    config: Config, workdir: Path | str, console: Console, *, wandb_project: str | None = None
) -> dict[str, Any]:
    """Train and evaluate one run, or resume the one in `workdir`.

    Args:
        config: the whole configuration.
        workdir: the run folder, also gs://BUCKET/FOLDER or s3://BUCKET/FOLDER; empty, or with a run of the same
            configuration.
        console: where progress is shown.
        wandb_project: Weights & Biases project to log to as well.

    Returns:
        The content of `summary.json`.

    Raises:
        UsageError: the configuration is wrong, or differs from that of the run in `workdir`.
        UserError: data, disk or devices do not allow the run, or the loss is no longer finite.
        Interrupted: SIGINT, SIGTERM or SIGHUP was received; the state is saved.
    """
    mesh = make_mesh(config.train.batch_size)
    compare_starts(as_dict(config), workdir)
    with (
        disk_faults(workdir),
        staged(workdir) as folder,
        open_workdir(folder.path, config, separate=folder.upload is not None),
        StopRequest() as stop,
    ):
        if summary := read_summary(folder.path):
            finished = f"the run in {folder} has finished: nothing is trained, and no images are read"
            console.print(finished, highlight=False, markup=False, soft_wrap=True)
        else:
            summary = _train(config, folder, mesh, wandb_project, console, stop)
    return summary


def _train(
    config: Config, folder: RunFolder, mesh: Mesh, wandb_project: str | None, console: Console, stop: StopRequest
) -> dict[str, Any]:
    run, fresh = _prepare(config, mesh, console)
    checkpoints = Checkpoints(folder.path / "checkpoints", keep=2, best="val" in run.evaluations, upload=folder.upload)
    display = Display(console, run.program.total_steps, config.train.batch_size)
    state, metrics, seconds = _resume(run, fresh, checkpoints, display)
    start, step, total = time.monotonic() - seconds, int(state.step), run.program.total_steps
    smaller_batch = f"--train.batch-size is {config.train.batch_size}; choose a smaller one, in a new --workdir"
    with open_logbook(folder.path, config, step=step, wandb_project=wandb_project) as logbook, closing(run.feed):
        with display, memory_faults(smaller_batch):
            display.start(*describe(run.dataset), *run.remarks, _describe(run, state, step, folder))
            for call in advance(run, state, metrics, step, total):
                sums = jax.device_get(call.metrics)
                display.count(call.steps, call.started, call.waited, compiled=call.first)
                if sums.nonfinite_step != NEVER:
                    raise diverged(f"the loss of step {sums.nonfinite_step}", checkpoints)
                display.running(call.epoch, call.step, sums)

                epoch_ends = call.step % run.program.steps_per_epoch == 0
                score = finish_epoch(run, call.state, sums, logbook, display, checkpoints) if epoch_ends else None
                due = epoch_ends and (call.epoch + 1) % config.checkpoint.every_epochs == 0
                signal_number = processes.largest(stop.signal_number)  # 0, or a signal that any process has received
                if due or signal_number or call.step == total:
                    folder.push()  # before the checkpoint: it goes on from these lines
                    info = run.info | {"seconds": time.monotonic() - start, "feed": run.feed.state()}
                    _save(checkpoints, call, info, score)
                if signal_number and call.step < total:
                    checkpoints.close()
                    raise Interrupted(call.step, folder.path, signal_number)
                state = call.state

        checkpoints.close()
        with console.status("evaluating on the test images"):
            figures = {"speed": display.images_per_second, "waiting": display.waiting_share}
            summary, evaluation = summarize(run, state, folder.path, seconds=time.monotonic() - start, **figures)
            logbook.finish(summary)
            if processes.is_first():
                illustrate(run, evaluation, folder.path, display.say)
    return summary


def _prepare(config: Config, mesh: Mesh, console: Console) -> tuple[Run, TrainState]:
    """Read the images, and return the run with its state at step 0."""
    smaller = "choose a smaller --data.image-size, fewer images or a smaller --model.width"
    with console.status("reading the images"), memory_faults(smaller):
        dataset = processes.first_before_others(partial(read_images, config, mesh.local_devices[0]))
        run, fresh = assemble(config, dataset, mesh)
    compare_data(run.info, run.feed.state())
    return run, fresh


def zero_metrics(mesh: Mesh) -> TrainMetrics:
    """Return metrics of no step, on the devices."""
    return replicate(TrainMetrics.zero(), mesh)


def _resume(
    run: Run, fresh: TrainState, checkpoints: Checkpoints, display: Display
) -> tuple[TrainState, TrainMetrics, float]:
    """Return state, metrics of the running epoch and seconds spent: from the latest checkpoint, or of a new run."""
    zero = zero_metrics(run.mesh)
    restored = checkpoints.restore(_saved(fresh, zero), replicated(run.mesh), display.say, run.info)
    processes.check_equal({"step to continue from": restored and restored.step})
    if restored is None:
        return fresh, zero, 0.0
    display.say(f"resuming from step {restored.step}")
    run.feed.restore(restored.info.get("feed", {}))
    state, metrics = TrainState(**restored.state["train"]), TrainMetrics(**restored.state["metrics"])
    return state, metrics, restored.info["seconds"]


def _save(checkpoints: Checkpoints, call: Call, info: dict[str, Any], score: float | None) -> None:
    """Save a state, which must be finite: the update of the last step is not in its loss yet."""
    if not _all_finite((call.state.params, call.state.batch_stats)):
        raise diverged(f"a weight after step {call.step}", checkpoints)
    checkpoints.save(call.step, _saved(call.state, call.metrics), info, score=score)


@jax.jit
def _all_finite(tree: PyTree) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))


def _saved(state: TrainState, metrics: TrainMetrics) -> dict[str, Any]:
    """Return what a checkpoint holds: dictionaries, since the classes accept only arrays and Orbax adds others."""
    return {"train": vars(state), "metrics": vars(metrics)}


def _describe(run: Run, state: TrainState, step: int, folder: RunFolder) -> str:
    parameters, count = sum(leaf.size for leaf in jax.tree.leaves(state.params)), processes.count()
    lost = f"; {count} processes: if one is lost, all end, and the same command on all hosts continues"
    return (
        f"{parameters:,} parameters, {run.program.total_steps - step:,} steps to go, "
        f"{run.mesh.size} x {run.mesh.devices.flat[0].device_kind}; run folder {folder}"
        f"{lost if count > 1 else ''}"
    )
