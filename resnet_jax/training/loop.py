"""The training run: the loop, and what happens around it."""

import errno
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from rich.console import Console

from resnet_jax.config import Config
from resnet_jax.errors import UserError
from resnet_jax.hardware.sharding import make_mesh, replicated
from resnet_jax.runs.checkpoint import Checkpoints
from resnet_jax.runs.logbook import Logbook, open_workdir, read_summary
from resnet_jax.training.evaluation import evaluate
from resnet_jax.training.interrupt import Interrupted, StopRequest
from resnet_jax.training.metrics import NEVER, TrainMetrics
from resnet_jax.training.progress import Display
from resnet_jax.training.setup import Run, assemble, load_dataset
from resnet_jax.training.state import TrainState
from resnet_jax.training.summary import figures_of, print_summary, summarize

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}


def train(
    config: Config, workdir: Path, *, wandb_project: str | None = None, console: Console | None = None
) -> dict[str, Any]:
    """Trains, evaluates and reports one run, or resumes the one in `workdir`.

    Args:
        config: the whole configuration.
        workdir: the run folder; holds nothing yet, or a run of the same configuration.
        wandb_project: Weights & Biases project to log to as well.
        console: where progress goes; standard output by default.

    Returns:
        The content of `summary.json`.

    Raises:
        UsageError: the configuration is wrong, or not that of the run in `workdir`.
        UserError: data, disk or devices do not allow it, or the loss is no longer finite.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    console = console or Console()
    mesh = make_mesh(config.train.batch_size)
    with _explained(workdir, config), open_workdir(workdir, config), StopRequest() as stop:
        summary = read_summary(workdir) or _train(config, workdir, mesh, wandb_project, console, stop)
    print_summary(console, summary, workdir)
    return summary


def _train(
    config: Config, workdir: Path, mesh: Mesh, wandb_project: str | None, console: Console, stop: StopRequest
) -> dict[str, Any]:
    run, fresh = assemble(config, load_dataset(config.data), mesh)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=2, best="val" in run.evaluations)
    display = Display(console, run.program.total_steps, config.train.batch_size)
    state, metrics, seconds = _resume(checkpoints, fresh, mesh, display)
    start, step = time.monotonic() - seconds, int(state.step)
    with Logbook(workdir, config, step=step, wandb_project=wandb_project) as logbook:
        with display:
            display.say(_describe(run, state, step, mesh, workdir))
            while step < run.program.total_steps:
                epoch, offset = divmod(step, run.program.steps_per_epoch)
                with display.waiting_for_data():
                    order = run.order(epoch)[offset : offset + run.program.steps_per_dispatch]
                with display.training(len(order)):
                    state, metrics = run.dispatch(state, metrics, order, epoch)
                    sums = jax.device_get(metrics)
                step += len(order)
                _check_finite(sums, checkpoints)
                display.running(epoch, step, sums)

                epoch_ends, score = step % run.program.steps_per_epoch == 0, None
                if epoch_ends:
                    score = _finish_epoch(run, state, sums, step, config, logbook, display, checkpoints)
                    metrics = _zero_metrics(mesh)
                due = epoch_ends and (epoch + 1) % config.checkpoint.every_epochs == 0
                if due or stop.requested or step == run.program.total_steps:
                    info = run.info | {"seconds": time.monotonic() - start}
                    checkpoints.save(step, _saved(state, metrics), info, score=score)
                if stop.requested and step < run.program.total_steps:
                    checkpoints.close()
                    raise Interrupted(step, workdir, stop.signal_number)

        checkpoints.close()
        summary = summarize(run, state, logbook, seconds=time.monotonic() - start, speed=display.images_per_second)
        logbook.finish(summary)
    return summary


@contextmanager
def _explained(workdir: Path, config: Config) -> Iterator[None]:
    """Turns a full disk and a lack of memory into errors that name the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise UserError(
            f"can't write to {workdir}: {error.strerror}; make room or mend the permissions, then repeat the command "
            f"with --workdir {workdir} to go on from the last checkpoint"
        ) from error
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"out of memory with --train.batch-size {config.train.batch_size}: take a smaller one, in a new --workdir"
        ) from error


def _zero_metrics(mesh: Mesh) -> TrainMetrics:
    return jax.device_put(TrainMetrics.zero(), replicated(mesh))


def _resume(
    checkpoints: Checkpoints, fresh: TrainState, mesh: Mesh, display: Display
) -> tuple[TrainState, TrainMetrics, float]:
    """State, running metrics of the epoch and seconds spent: of the latest checkpoint, or of a start."""
    zero = _zero_metrics(mesh)
    restored = checkpoints.restore(_saved(fresh, zero), replicated(mesh), display.say)
    if restored is None:
        return fresh, zero, 0.0
    display.say(f"resuming from step {restored.step}")
    state, metrics = TrainState(**restored.state["train"]), TrainMetrics(**restored.state["metrics"])
    return state, metrics, restored.info["seconds"]


def _saved(state: TrainState, metrics: TrainMetrics) -> dict[str, Any]:
    """What a checkpoint holds: plain dictionaries, since the classes take only arrays and Orbax fills in others."""
    return {"train": vars(state), "metrics": vars(metrics)}


def _describe(run: Run, state: TrainState, step: int, mesh: Mesh, workdir: Path) -> str:
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    device = mesh.devices.flat[0]
    return (
        f"{parameters:,} parameters, {len(run.train_data.labels):,} training images of {run.dataset.name}, "
        f"{run.program.total_steps - step:,} steps to go, {mesh.size} x {device.device_kind}; run folder {workdir}"
    )


def _check_finite(sums: TrainMetrics, checkpoints: Checkpoints) -> None:
    if sums.nonfinite_step != NEVER:
        raise _diverged(f"the loss of step {sums.nonfinite_step}", checkpoints)


def _diverged(what: str, checkpoints: Checkpoints) -> UserError:
    checkpoints.close()
    last = f"step {checkpoints.steps[-1]} in {checkpoints.directory}" if checkpoints.steps else "none was written yet"
    return UserError(
        f"{what} is not a finite number; the last good checkpoint: {last}. Start again in a new --workdir with a lower "
        "--optimizer.peak-learning-rate, a longer --optimizer.warmup, or --optimizer.clip-norm 1"
    )


def _finish_epoch(
    run: Run,
    state: TrainState,
    sums: TrainMetrics,
    step: int,
    config: Config,
    logbook: Logbook,
    display: Display,
    checkpoints: Checkpoints,
) -> float | None:
    """Logs the epoch and evaluates it where that is due; the accuracy on "val", the score to keep the best by."""
    epoch = step // run.program.steps_per_epoch - 1
    figures = {"loss": float(sums.loss / sums.count), "accuracy": float(sums.correct / sums.count)}
    rate = float(run.program.schedule(step - 1))
    logbook.write(
        step=step,
        epoch=epoch,
        split="train",
        **figures,
        learning_rate=rate,
        images_per_second=display.images_per_second,
    )
    line = (
        f"epoch {epoch + 1}/{config.train.epochs}: train loss {figures['loss']:.4f} accuracy {figures['accuracy']:.2%}"
    )
    score = None
    if (epoch + 1) % config.evaluate.every_epochs == 0 or step == run.program.total_steps:
        split = "val" if "val" in run.evaluations else "test"
        result, _ = evaluate(run.eval_steps["none"], state.evaluated, run.evaluations[split])
        if not math.isfinite(result.mean_loss):
            raise _diverged(f"the {split} loss after step {step}", checkpoints)
        logbook.write(step=step, epoch=epoch, split=split, **figures_of(result))
        line += f", {split} loss {result.mean_loss:.4f} accuracy {result.accuracy:.2%}"
        score = result.accuracy if split == "val" else None
    display.say(line + (f", {display.images_per_second:,.0f} images/s" if display.images_per_second else ""))
    return score
