"""Pictures of a finished run: learning curves, confusion matrix, most confident mistakes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_jax.errors import printable
from resnet_jax.runs.tables import softmax, worst_mistakes


def draw_curves(path: Path, lines: Sequence[dict[str, Any]], *, smoothed: bool = False) -> None:
    """Draw loss and accuracy by epoch for each split of `metrics.jsonl`.

    Args:
        path: of the picture.
        lines: of the file.
        smoothed: whether the training loss is that of smoothed labels, unlike the loss of the other splits.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for split in dict.fromkeys(line["split"] for line in lines):
        of_split = [line for line in lines if line["split"] == split]
        epochs = [line["epoch"] + 1 for line in of_split]
        augmented = split == "train"
        label = f"{split} (augmented{', smoothed labels' if smoothed else ''})" if augmented else split
        left.plot(epochs, [line["loss"] for line in of_split], label=label, marker=".")
        right.plot(epochs, [100 * line["accuracy"] for line in of_split], label=split, marker=".")
    _crop_outliers(left, [line["loss"] for line in lines])
    left.set(title="Loss", xlabel="epoch", ylabel="mean cross-entropy [nats]")
    right.set(title="Accuracy", xlabel="epoch", ylabel="images classified correctly [%]")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    figure.savefig(path, dpi=120)


def _crop_outliers(axes: Axes, values: Sequence[float]) -> None:
    """Crop the axis if single values are far above all others, and show how many."""
    finite = np.array([value for value in values if np.isfinite(value)])
    top = 2 * np.quantile(finite, 0.9) if len(finite) else 0
    if (finite > 2 * top).any():
        axes.set_ylim(0, top)
        axes.text(0.02, 0.97, f"{(finite > top).sum()} above", transform=axes.transAxes, va="top", fontsize=8)


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
    image_names: Sequence[str] = (),
    *,
    count: int = 24,
) -> None:
    """Draw the wrongly classified images with the highest confidence, each with the predicted and the true class.

    Args:
        path: of the picture.
        images: of the test split.
        labels: true classes.
        logits: of the images.
        class_names: by class.
        image_names: paths of the images; empty if they have none, and then their positions in the split are shown.
        count: of the images drawn.
    """
    probabilities = softmax(logits)
    predicted = probabilities.argmax(1)
    wrong = worst_mistakes(labels, probabilities)
    worst = wrong[:count]
    columns = min(6, max(len(worst), 3))
    rows = max(-(-len(worst) // columns), 1)
    width, height = 2 * columns, 2.6 * rows + 0.5
    figure = Figure(figsize=(width, height))  # places its axes itself: a layout would measure every text
    figure.suptitle(f"{len(wrong):,} of {len(images):,} test images wrong; most confident mistakes first")
    for place, index in enumerate(worst):
        row, column = divmod(place, columns)
        bottom = height - 0.5 - 2.6 * (row + 1) + 0.05
        axes = figure.add_axes((2 * column / width, bottom / height, 2 / width, 1.9 / height), xticks=[], yticks=[])
        axes.axis("off")
        axes.imshow(images[index], interpolation="nearest")
        guess, truth = (_short(class_names[label], 16) for label in (predicted[index], labels[index]))
        name = _short(Path(image_names[index]).name, 24) if image_names else f"#{index}"
        caption = f"{guess} {probabilities[index].max():.0%}\ntrue: {truth}\n{name}"
        axes.set_title(caption, fontsize=9, parse_math=False)
    figure.savefig(path, dpi=120)


def _short(name: str, length: int) -> str:
    """Return the start of a class name, without characters that fonts can't draw."""
    return printable(name)[:length]
