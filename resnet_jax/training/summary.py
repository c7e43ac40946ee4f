"""The end of a run: final evaluation, summary and pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from resnet_jax.hardware.sharding import replicate
from resnet_jax.runs.folder import read_metrics
from resnet_jax.runs.pictures import draw_confusion, draw_curves, draw_mistakes
from resnet_jax.runs.stored import arranged_like, read_evaluated
from resnet_jax.runs.tables import write_confusion, write_mistakes
from resnet_jax.training.evaluation import Evaluation, evaluate, measure
from resnet_jax.training.metrics import EvalMetrics
from resnet_jax.training.setup import Run
from resnet_jax.training.state import TrainState


def figures_of(result: EvalMetrics) -> dict[str, float]:
    """Return an evaluation's main figures; accuracies and the calibration error are shares, the loss is in nats.

    With up to five classes, the true one is always among the best five, and there is no top-5 accuracy.
    """
    return {
        "loss": result.mean_loss,
        "accuracy": result.accuracy,
        **({"top5_accuracy": result.top5_accuracy} if len(result.confusion) > 5 else {}),
        "calibration_error": result.calibration_error,
    }


def class_figures(result: EvalMetrics, names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Return accuracy (recall), precision and F1 of each class, shares; None where undefined."""
    return {
        name: dict(zip(names, (None if np.isnan(value) else float(value) for value in values), strict=True))
        for name, values in (
            ("class_accuracy", result.class_accuracy),
            ("class_precision", result.class_precision),
            ("class_f1", result.class_f1),
        )
    }


def summarize(
    run: Run, state: TrainState, workdir: Path, *, seconds: float, speed: float | None, waiting: float | None
) -> tuple[dict[str, Any], Evaluation]:
    """Evaluate the run on the test split.

    It evaluates the weights of the best checkpoint if images are held out to choose it, otherwise the final ones.

    Args:
        run: the run, whose checkpoints are all written.
        state: the final state.
        workdir: the run folder.
        seconds: time of the whole run so far, including interrupted parts.
        speed: training throughput, images per second.
        waiting: share of the training time spent waiting for images.

    Returns:
        The summary, and the evaluation of the test images.
    """
    step, weights = _chosen(run, state, workdir)
    evaluation = evaluate(run.eval_steps["none"], weights, run.evaluations["test"])
    result = evaluation.metrics
    summary: dict[str, Any] = {f"test_{name}": value for name, value in figures_of(result).items()}
    for tta in run.eval_steps.keys() - {"none"}:
        augmented = measure(run.eval_steps[tta], weights, run.evaluations["test"])
        summary |= {f"test_{name}_tta_{tta}": value for name, value in figures_of(augmented).items()}
    names = run.dataset.class_names
    summary |= {
        "evaluated_step": step,
        "test_images": result.count,
        **{f"test_{name}": values for name, values in class_figures(result, names).items()},
        "test_most_confused": result.most_confused(names),
        "dataset": run.dataset.name,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "steps": int(state.step),
        "seconds": seconds,
        "images_per_second": speed,
        "feed": run.feed.state()["kind"],
        "waiting_share": waiting,
    }
    return summary, evaluation


def illustrate(run: Run, evaluation: Evaluation, workdir: Path, say: Callable[[str], None]) -> None:
    """Draw the pictures and write the tables of the test images; report each that fails, and make the others."""
    _, guesses, places = evaluation
    dataset, names, confusion = run.dataset, run.dataset.class_names, np.asarray(evaluation.metrics.confusion)
    smoothed = run.config.train.label_smoothing > 0
    files = [dataset.test_names[place] for place in places] if dataset.test_names else []
    for name, make in {
        "curves.png": lambda path: draw_curves(path, read_metrics(workdir), smoothed=smoothed),
        "confusion.png": lambda path: draw_confusion(path, confusion, names),
        "confusion.csv": lambda path: write_confusion(path, confusion, names),
        "mistakes.png": lambda path: draw_mistakes(
            path, lambda index: dataset.test.image(int(places[index])), guesses, names, files
        ),
        "mistakes.csv": lambda path: write_mistakes(path, guesses, names, files),
    }.items():
        try:
            make(workdir / name)
        except Exception as error:  # caused by a font, a class's name or the disk
            say(f"{name} could not be created ({type(error).__name__}: {error}); everything else is complete")


def _chosen(run: Run, state: TrainState, workdir: Path) -> tuple[int, tuple[PyTree, PyTree]]:
    """Return the step and the weights (parameters and running statistics) to evaluate."""
    if "val" not in run.evaluations:
        return int(state.step), state.evaluated
    best = read_evaluated(workdir / "checkpoints")
    like = dict(zip(("params", "batch_stats"), state.evaluated, strict=True))
    weights = replicate(arranged_like(like, best.state), run.mesh)
    return best.step, (weights["params"], weights["batch_stats"])
