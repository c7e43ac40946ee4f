"""Times whole trainings of a recipe, as speed records are timed.

    python scripts/record.py --config configs/cifar10_94.py --runs 5

The clock starts with compiled programs and the images on the devices, and stops after the evaluation with its
test-time augmentation. Everything between is inside. The rule is that of github.com/KellerJordan/cifar10-airbench.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int
from rich.console import Console

from resnet_jax import errors
from resnet_jax.config import Config, as_dict
from resnet_jax.data.source import Dataset
from resnet_jax.hardware.compilation import keep_compiled
from resnet_jax.hardware.sharding import make_mesh, replicated
from resnet_jax.recipe import parse
from resnet_jax.runs.logbook import environment
from resnet_jax.training.evaluation import evaluate
from resnet_jax.training.metrics import TrainMetrics
from resnet_jax.training.setup import Run, assemble, load_dataset
from resnet_jax.training.state import TrainState

Part = tuple[int, Int[np.ndarray, "steps batch"]]
"""An epoch, and a dispatch of its order."""


@dataclass(frozen=True)
class Arguments(Config):
    """Trains a recipe several times, with seeds that count up, and reports accuracy and seconds: mean and deviation."""

    runs: int = 5
    """Trainings."""
    out: Path | None = None
    """File of all figures, with versions and devices; what is there is replaced. None: record-<config>-<time>.json."""

    def __post_init__(self):
        super().__post_init__()
        errors.at_least(1, runs=self.runs)


def main() -> None:
    """Runs the command line."""
    recipe, config, arguments = parse(Arguments)
    console = Console(highlight=False)
    keep_compiled()
    mesh, dataset = make_mesh(config.train.batch_size), load_dataset(config.data)
    out = arguments.out or Path(f"record-{recipe.stem}-{datetime.now():%Y%m%d-%H%M%S}.json")
    results: list[dict[str, Any]] = []
    record = {"recipe": str(recipe), "config": as_dict(config), "environment": environment(), "runs": results}
    with errors.writing(out, "give another --out"):
        out.open("a").close()  # a place that can't be written costs no training
    for seed in range(config.train.seed, config.train.seed + arguments.runs):
        seeded = replace(config, train=replace(config.train, seed=seed))
        with Console(stderr=True).status(f"seed {seed}: compiling") as status:
            results.append({"seed": seed} | measure(seeded, dataset, mesh, status.update))
        last = results[-1]
        console.print(f"seed {seed}: {last['test_accuracy']:.2%} in {last['seconds']:.2f} s, {last['plain']:.2%} plain")
        with errors.writing(out, "make room; the figures above are measured"):
            out.write_text(json.dumps(record, indent=2) + "\n")
    console.print(report(results, f"{mesh.size} x {mesh.devices.flat[0].device_kind}") + f": {out}", soft_wrap=True)


def measure(config: Config, dataset: Dataset, mesh: Mesh, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains once: accuracies on the test images with the recipe's augmentation and without, and the seconds."""
    run, state = assemble(config, dataset, mesh)
    ends = [part for epoch in {0, config.train.epochs - 1} for part in dispatches(run, epoch)]
    kinds = {(epoch, len(order)): (epoch, order) for epoch, order in ends}
    train(run, jax.tree.map(jnp.copy, state), kinds.values(), mesh)  # compiles
    score(run, state, config)
    start = time.perf_counter()
    state = train(run, state, all_dispatches(run, config, say), mesh)
    accuracy = score(run, state, config)
    seconds = time.perf_counter() - start
    plain = score(run, state, replace(config, evaluate=replace(config.evaluate, tta="none")))
    return {"test_accuracy": accuracy, "plain": plain, "seconds": seconds}


def dispatches(run: Run, epoch: int) -> list[Part]:
    """An epoch in parts of one dispatch each; the last may be shorter."""
    order, size = run.order(epoch), run.program.steps_per_dispatch
    return [(epoch, order[offset : offset + size]) for offset in range(0, len(order), size)]


def all_dispatches(run: Run, config: Config, say: Callable[[str], None]) -> Iterator[Part]:
    """Those of the whole training, each epoch announced; a device that is fed ahead is still in an earlier one."""
    for epoch in range(config.train.epochs):
        say(f"seed {config.train.seed}: epoch {epoch + 1} of {config.train.epochs}")
        yield from dispatches(run, epoch)


def train(run: Run, state: TrainState, parts: Iterable[Part], mesh: Mesh) -> TrainState:
    """Takes the steps of `parts`; no figure of them is read."""
    metrics = jax.device_put(TrainMetrics.zero(), replicated(mesh))
    for epoch, order in parts:
        state, metrics = run.dispatch(state, metrics, order, epoch)
        if jax.default_backend() == "cpu":
            jax.block_until_ready(metrics)  # queued steps of several CPU devices can deadlock in a collective
    return state


def score(run: Run, state: TrainState, config: Config) -> float:
    """Accuracy on the test images."""
    return evaluate(run.eval_steps[config.evaluate.tta], state.evaluated, run.evaluations["test"])[0].accuracy


def report(results: list[dict[str, Any]], devices: str) -> str:
    """Mean and standard deviation over the runs."""

    def spread(key: str, scale: float) -> str:
        values = [scale * result[key] for result in results]
        return f"{mean(values):.2f}" + (f" (sd {stdev(values):.2f})" if len(values) > 1 else "")

    return f"{spread('test_accuracy', 100)}% in {spread('seconds', 1)} s, n = {len(results)}, {devices}"


if __name__ == "__main__":
    errors.run(main)
