"""Training runs of a comparison: one for each network and seed, each in a run folder of its own."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console

from resnet_jax.config import Config
from resnet_jax.runs.folder import read_metrics, read_summary
from resnet_jax.training.loop import complete


def epochs_within(budget_seconds: float, images_per_second: float, images: int) -> int:
    """Return the number of epochs that a network trains in a time, at least 1.

    Args:
        budget_seconds: time for the training steps, without compilation and evaluation.
        images_per_second: measured training speed.
        images: in an epoch.
    """
    return max(1, math.floor(budget_seconds * images_per_second / images))


def train_once(config: Config, workdir: Path, console: Console) -> dict[str, Any]:
    """Train one network with one seed, or continue or read the run in `workdir`.

    Returns:
        Accuracy (a share), loss (nats) and calibration error of the test images, seconds and learning curve.

    Raises:
        UserError, UsageError, Interrupted: see `complete`.
    """
    summary = read_summary(workdir) or complete(config, workdir, console)
    lines = read_metrics(workdir)
    split = "val" if any(line["split"] == "val" for line in lines) else "test"
    speed = summary["images_per_second"]
    return {
        "seed": config.train.seed,
        "workdir": str(workdir),
        "accuracy": summary["test_accuracy"],
        "loss": summary["test_loss"],
        "calibration_error": summary["test_calibration_error"],
        "epochs": config.train.epochs,
        "steps": summary["steps"],
        "seconds": summary["seconds"],
        "training_seconds": None if speed is None else summary["steps"] * config.train.batch_size / speed,
        "curve_split": split,
        "curve": [[line["epoch"] + 1, line["accuracy"]] for line in lines if line["split"] == split],
    }


def summarize_runs(runs: Sequence[dict[str, Any]], measured: dict[str, Any]) -> dict[str, Any]:
    """Compute mean and spread over the seeds, and the accuracy for what it costs.

    Args:
        runs: what `train_once` has returned for each seed, at least one.
        measured: figures of the network, with `parameters` and `multiply_adds`.

    Returns:
        The runs with the mean and the sample standard deviation (None for one seed) of the accuracy.
    """
    accuracy = mean(run["accuracy"] for run in runs)
    seconds = [run["training_seconds"] for run in runs if run["training_seconds"] is not None]
    training = mean(seconds) if seconds else None
    return {
        "runs": list(runs),
        "accuracy_mean": accuracy,
        "accuracy_std": stdev(run["accuracy"] for run in runs) if len(runs) > 1 else None,
        "calibration_error_mean": mean(run["calibration_error"] for run in runs),
        "seconds_mean": mean(run["seconds"] for run in runs),
        "training_seconds_mean": training,
        "accuracy_per_training_second": None if training is None else accuracy / training,
        "accuracy_per_million_parameters": accuracy / (measured["parameters"] / 1e6),
        "accuracy_per_giga_multiply_adds": accuracy / (measured["multiply_adds"] / 1e9),
    }
