"""Complete training runs of a recipe, timed like speed records.

The clock starts when the programs are compiled and the images are on the devices, and stops after the evaluation with
its test-time augmentation; everything in between is included. The rule is that of
github.com/KellerJordan/cifar10-airbench.
"""

import time
from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from resnet_jax.config import Config
from resnet_jax.data.dataset import Dataset
from resnet_jax.training.evaluation import measure
from resnet_jax.training.loop import advance, zero_metrics
from resnet_jax.training.setup import Run, assemble
from resnet_jax.training.state import TrainState


def timed_training(config: Config, dataset: Dataset, mesh: Mesh, say: Callable[[str], None]) -> dict[str, Any]:
    """Train once.

    Args:
        config: the recipe.
        dataset: its images, in memory.
        mesh: the devices.
        say: called with a message about each epoch.

    Returns:
        `test_accuracy` with the recipe's test-time augmentation, `plain` without, and `seconds`.
    """
    run, state = assemble(config, dataset, mesh)
    _compile(run, state)
    _score(run, state, config.evaluate.tta)
    start = time.perf_counter()
    state = _steps(run, state, 0, run.program.total_steps, say)
    accuracy = _score(run, state, config.evaluate.tta)
    seconds = time.perf_counter() - start
    run.feed.close()
    return {"test_accuracy": accuracy, "plain": _score(run, state, "none"), "seconds": seconds}


def _compile(run: Run, state: TrainState) -> None:
    """Take one call of each kind: the first epoch may have small images, and the last call of an epoch fewer steps."""
    epoch, call = run.program.steps_per_epoch, run.program.steps_per_call
    for first in {0, run.program.total_steps - epoch}:
        for start in {first, first + epoch // call * call} - {first + epoch}:
            _steps(run, jax.tree.map(jnp.copy, state), start, min(start + call, first + epoch), lambda _: None)


def _steps(run: Run, state: TrainState, first: int, end: int, say: Callable[[str], None]) -> TrainState:
    """Train, without reading a figure; a device may still compute an earlier step than that of the last call."""
    for call in advance(run, state, zero_metrics(run.mesh), first, end):
        say(f"seed {run.config.train.seed}: epoch {call.epoch + 1} of {run.config.train.epochs}")
        state = call.state
    return state


def _score(run: Run, state: TrainState, tta: str) -> float:
    """Return the accuracy on the test images."""
    return measure(run.eval_steps[tta], state.evaluated, run.evaluations["test"]).accuracy


def report(results: list[dict[str, Any]], devices: str) -> str:
    """Return mean and standard deviation over the runs, in one line."""

    def spread(key: str, scale: float) -> str:
        values = [scale * result[key] for result in results]
        return f"{mean(values):.2f}" + (f" (sd {stdev(values):.2f})" if len(values) > 1 else "")

    return f"{spread('test_accuracy', 100)}% in {spread('seconds', 1)} s, n = {len(results)}, {devices}"
