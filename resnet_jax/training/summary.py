"""The end of a run: final evaluation, pictures, and the summary on the screen."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from rich.console import Console
from rich.table import Table

from resnet_jax.hardware.sharding import replicated
from resnet_jax.runs.folder import read_metrics
from resnet_jax.runs.logbook import Logbook
from resnet_jax.runs.pictures import draw_confusion, draw_curves, draw_mistakes
from resnet_jax.runs.stored import arranged_like, read_evaluated
from resnet_jax.training.evaluation import evaluate
from resnet_jax.training.metrics import EvalMetrics
from resnet_jax.training.setup import Run
from resnet_jax.training.state import TrainState


def figures_of(result: EvalMetrics) -> dict[str, float]:
    """Return an evaluation's main figures; accuracies and the calibration error are shares, the loss is in nats."""
    return {
        "loss": result.mean_loss,
        "accuracy": result.accuracy,
        "top5_accuracy": result.top5_accuracy,
        "calibration_error": result.calibration_error,
    }


def summarize(run: Run, state: TrainState, logbook: Logbook, *, seconds: float, speed: float | None) -> dict[str, Any]:
    """Evaluate the run on the test split, draw the pictures and return the summary.

    Evaluated are the weights of the best checkpoint if images are held out to choose it, otherwise the final ones.

    Args:
        run: the run, whose checkpoints are all written.
        state: the final state.
        logbook: of the run folder.
        seconds: time of the whole run so far, including interrupted parts.
        speed: training throughput, images per second.
    """
    step, weights = _chosen(run, state, logbook.workdir)
    result, logits = evaluate(run.eval_steps["none"], weights, run.evaluations["test"])
    summary: dict[str, Any] = {f"test_{name}": value for name, value in figures_of(result).items()}
    for tta in run.eval_steps.keys() - {"none"}:
        augmented, _ = evaluate(run.eval_steps[tta], weights, run.evaluations["test"])
        summary |= {f"test_{name}_tta_{tta}": value for name, value in figures_of(augmented).items()}
    names = run.dataset.class_names
    summary |= {
        "evaluated_step": step,
        "test_images": result.count,
        "test_class_accuracy": dict(zip(names, _or_none(result.class_accuracy), strict=True)),
        "dataset": run.dataset.name,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "steps": int(state.step),
        "seconds": seconds,
        "images_per_second": speed,
    }
    workdir = logbook.workdir
    draw_curves(workdir / "curves.png", read_metrics(workdir))
    draw_confusion(workdir / "confusion.png", np.asarray(result.confusion), names)
    draw_mistakes(workdir / "mistakes.png", *run.dataset.test, logits, names)
    return summary


def _chosen(run: Run, state: TrainState, workdir: Path) -> tuple[int, tuple[PyTree, PyTree]]:
    """Return the step and the weights (parameters and running statistics) to evaluate."""
    if "val" not in run.evaluations:
        return int(state.step), state.evaluated
    best = read_evaluated(workdir / "checkpoints")
    like = dict(zip(("params", "batch_stats"), state.evaluated, strict=True))
    weights = jax.device_put(arranged_like(like, best.state), replicated(run.mesh))
    return best.step, (weights["params"], weights["batch_stats"])


def print_summary(console: Console, summary: dict[str, Any], workdir: Path) -> None:
    """Print the main figures, where everything is, and the commands that come next."""
    table = Table(title=str(workdir), show_header=False, title_justify="left")
    for name, value in summary.items():
        if "accuracy" in name and isinstance(value, float):
            table.add_row(name.replace("_", " "), f"{value:.2%}")
    table.add_row("test loss", f"{summary['test_loss']:.4f}")
    table.add_row("calibration error", f"{summary['test_calibration_error']:.2%}")
    if summary.get("evaluated_step", summary["steps"]) != summary["steps"]:
        table.add_row("evaluated step", f"{summary['evaluated_step']:,}, the best on val")
    table.add_row("parameters", f"{summary['parameters']:,}")
    table.add_row("time", f"{summary['seconds']:.0f} s")
    if summary["images_per_second"]:
        table.add_row("training speed", f"{summary['images_per_second']:,.0f} images/s")
    console.print(table)
    console.print(
        f"Pictures: {workdir}/curves.png, confusion.png, mistakes.png; all figures: summary.json, metrics.jsonl.\n"
        f"Next:  tensorboard --logdir {workdir.parent}     (pip install tensorboard)\n"
        "       the same command with --train.seed 1       to see how much of this is chance\n"
        "       python train.py --help                     to see all options",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _or_none(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
