"""Pictures of a finished run: learning curves, confusion matrix, most confident mistakes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from resnet_jax.errors import printable


def draw_curves(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Draw loss and accuracy by epoch for each split of `metrics.jsonl`."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for split in dict.fromkeys(line["split"] for line in lines):
        of_split = [line for line in lines if line["split"] == split]
        epochs = [line["epoch"] + 1 for line in of_split]
        left.plot(epochs, [line["loss"] for line in of_split], label=split, marker=".")
        right.plot(epochs, [100 * line["accuracy"] for line in of_split], label=split, marker=".")
    left.set(title="Loss", xlabel="epoch", ylabel="mean cross-entropy [nats]")
    right.set(title="Accuracy", xlabel="epoch", ylabel="images classified correctly [%]")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    figure.savefig(path, dpi=120)


def draw_confusion(path: Path, confusion: Int[np.ndarray, "classes classes"], class_names: Sequence[str]) -> None:
    """Draw the number of images by true class (row) and predicted class (column), colored by the share of the row."""
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    few = len(class_names) <= 20
    side = 2.5 + 0.55 * len(class_names) if few else 14
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    correct = np.trace(confusion)
    figure.suptitle(f"{correct:,} of {confusion.sum():,} images correct\ncolor: share of the row")
    axes.set(xlabel="predicted class", ylabel="true class")
    labels = [_short(name, 24) for name in class_names] if few else []
    axes.set_xticks(range(len(labels)), labels, rotation=90, parse_math=False)
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    for row, column in np.argwhere(confusion) if few else ():
        ink = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, confusion[row, column], ha="center", va="center", color=ink)
    figure.savefig(path, dpi=120)


def draw_mistakes(
    path: Path,
    images: UInt8[np.ndarray, "n height width 3"],
    labels: Int[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
    class_names: Sequence[str],
    *,
    count: int = 24,
) -> None:
    """Draw the wrongly classified images with the highest confidence, each with the predicted and the true class."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:count]
    columns = min(6, max(len(worst), 3))
    rows = max(-(-len(worst) // columns), 1)
    width, height = 2 * columns, 2.5 * rows + 0.5
    figure = Figure(figsize=(width, height))  # places its axes itself: a layout would measure every text
    figure.suptitle(f"{len(wrong):,} of {len(images):,} test images wrong; most confident mistakes first")
    for place, index in enumerate(worst):
        row, column = divmod(place, columns)
        bottom = height - 0.5 - 2.5 * (row + 1) + 0.1
        axes = figure.add_axes((2 * column / width, bottom / height, 2 / width, 1.9 / height), xticks=[], yticks=[])
        axes.axis("off")
        axes.imshow(images[index], interpolation="nearest")
        guess, truth = (_short(class_names[label], 16) for label in (predicted[index], labels[index]))
        caption = f"{guess} {probabilities[index].max():.0%}\ntrue: {truth} (#{index})"
        axes.set_title(caption, fontsize=9, parse_math=False)
    figure.savefig(path, dpi=120)


def _short(name: str, length: int) -> str:
    """Return the start of a class name, without characters that a font has no picture of."""
    return printable(name)[:length]
