"""The end of a run on the screen: its figures, where everything is, and what to do next."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

BALANCED = 0.05
"""Share of the training that may wait for images before the host counts as its limit."""


def print_summary(console: Console, summary: dict[str, Any], workdir: Path | str) -> None:
    """Print the main figures, where everything is, and the commands that come next."""
    table = Table(title=str(workdir), show_header=False, title_justify="left")
    for name, value in summary.items():
        if "accuracy" in name and isinstance(value, float):
            table.add_row(name.replace("_", " "), f"{value:.2%}")
    table.add_row("test loss", f"{summary['test_loss']:.4f}")
    table.add_row("calibration error", f"{summary['test_calibration_error']:.2%} (|confidence - accuracy|)")
    if summary.get("evaluated_step", summary["steps"]) != summary["steps"]:
        table.add_row("evaluated step", f"{summary['evaluated_step']:,}, the best on val")
    table.add_row("parameters", f"{summary['parameters']:,}")
    table.add_row("time", f"{summary['seconds']:.0f} s")
    if summary["images_per_second"]:
        table.add_row("training speed", f"{summary['images_per_second']:,.0f} images/s")
    if summary.get("feed") == "stream" and summary["waiting_share"] is not None:
        table.add_row("waiting for images", f"{summary['waiting_share']:.0%} of the training")
    console.print(table)
    if advice := advise(summary):
        console.print(advice, highlight=False, markup=False, soft_wrap=True)
    logdir = str(workdir).rpartition("/")[0] or "."
    console.print(
        f"Pictures: {workdir}/curves.png, confusion.png, mistakes.png; tables: confusion.csv, mistakes.csv; "
        "all figures: summary.json, metrics.jsonl.\n"
        f"Next:  tensorboard --logdir {logdir}     (pip install tensorboard)\n"
        "       the same command with --train.seed 1       to see how much of this is chance\n"
        "       resnet-jax train --help                    to see all options",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def advise(summary: dict[str, Any]) -> str | None:
    """Return a sentence on what limits a streamed training, the host or the devices; None for other runs."""
    waiting = summary.get("waiting_share")
    if summary.get("feed") != "stream" or waiting is None:
        return None
    if waiting < BALANCED:
        return f"Training waited {waiting:.0%} of its time for images: the devices are the limit, not the decoding."
    return (
        f"Training waited {waiting:.0%} of its time for images: the host, which decodes them, is the limit. Without it "
        f"training is {1 / (1 - waiting):.1f} times as fast: use more processor cores (--data.workers), images that "
        "are stored smaller, or a smaller --data.image-size."
    )
