"""Pictures of a finished run: learning curves, confusion matrix, most confident mistakes."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_jax.runs.lettering import Lettering
from resnet_jax.runs.tables import Guesses

DPI = 120
LARGEST_PLOT = 12.0  # inches
LABEL, CAPTION = 2.2, 1.9  # inches at most of a class's name beside the matrix, and of a line above a mistake
SMALLEST = 5.0  # points of a text that can still be read
NUMBERED = 50  # classes at most of a matrix with a number in each cell: drawing 2,500 takes seconds
NUMBER = re.compile(r"#\d+")


def draw_curves(path: Path, lines: Sequence[dict[str, Any]], *, smoothed: bool = False) -> None:
    """Draw loss and accuracy by epoch for each split of `metrics.jsonl`.

    Args:
        path: of the picture.
        lines: of the file.
        smoothed: whether the training loss is that of smoothed labels, unlike the loss of the other splits.
    """
    figure = Figure(figsize=(10, 4), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    for split in dict.fromkeys(line["split"] for line in lines):
        of_split = [line for line in lines if line["split"] == split]
        epochs = [line["epoch"] + 1 for line in of_split]
        augmented = split == "train"
        label = f"{split} (augmented{', smoothed labels' if smoothed else ''})" if augmented else split
        left.plot(epochs, [line["loss"] for line in of_split], label=label, marker=".")
        right.plot(epochs, [100 * line["accuracy"] for line in of_split], label=split, marker=".")
    left.set(xlabel="epoch", ylabel="mean cross-entropy [nats]")
    left.set_title("Loss" + _crop_outliers(left, [line["loss"] for line in lines]))
    right.set(title="Accuracy", xlabel="epoch", ylabel="images classified correctly [%]")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    figure.savefig(path)


def _crop_outliers(axes: Axes, values: Sequence[float]) -> str:
    """Crop the axis if single values are far above all others, and return how many there are, for the title."""
    finite = np.array([value for value in values if np.isfinite(value)])
    top = 2 * np.quantile(finite, 0.9) if len(finite) else 0
    if not (finite > 2 * top).any():
        return ""
    axes.set_ylim(0, top)
    return f" ({(finite > top).sum()} higher values are not shown)"


def draw_confusion(path: Path, confusion: Int[np.ndarray, "classes classes"], class_names: Sequence[str]) -> None:
    """Draw the number of images by true class (row) and predicted class (column), colored by the share of the row."""
    count, lettering = len(class_names), Lettering(class_names)
    plot = min(max(0.55 * count, 2.0), LARGEST_PLOT)
    cell = 72 * plot / count
    size = min(10.0, 0.85 * cell)
    labels = lettering.labels(class_names, LABEL, size) if size >= SMALLEST else []
    longest = max((lettering.width(label, size) for label in labels), default=0.4)
    figure = Figure(figsize=(plot + longest + 1.2, plot + longest + 1.4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, extent=(0.5, count + 0.5, count + 0.5, 0.5))
    title = f"{np.trace(confusion):,} of {confusion.sum():,} images correct\ncolor: share of the row"
    figure.suptitle(title + _numbers_note(labels), fontsize=11)
    axes.set(xlabel="predicted class", ylabel="true class")
    if labels:
        places = range(1, count + 1)
        axes.set_xticks(places, labels, rotation=90, parse_math=False, family=lettering.families, fontsize=size)
        axes.set_yticks(places, labels, parse_math=False, family=lettering.families, fontsize=size)
    else:
        axes.set(xlabel="predicted class, by its place in confusion.csv", ylabel="true class, likewise")
    digits = min(10.0, 0.7 * cell, 1.4 * cell / len(str(confusion.max())))
    for row, column in np.argwhere(confusion) if digits >= SMALLEST and count <= NUMBERED else ():
        ink = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column + 1, row + 1, confusion[row, column], ha="center", va="center", color=ink, fontsize=digits)
    figure.savefig(path)


def draw_mistakes(
    path: Path,
    image: Callable[[int], UInt8[np.ndarray, "height width 3"]],
    guesses: Guesses,
    class_names: Sequence[str],
    image_names: Sequence[str] = (),
    *,
    count: int = 24,
) -> None:
    """Draw the wrongly classified images with the highest confidence, each with the predicted and the true class.

    Args:
        path: of the picture.
        image: from an image's position to the image.
        guesses: the network's.
        class_names: by class.
        image_names: paths of the images; empty if they have none, and then their positions in the split are shown.
        count: of the images drawn.
    """
    labels, predicted, confidence = guesses
    wrong = guesses.mistakes()
    worst = wrong[:count]
    columns = min(6, max(len(worst), 3))
    rows = max(-(-len(worst) // columns), 1)
    shown = {int(label) for index in worst for label in (labels[index], predicted[index])}
    files = [Path(image_names[index]).name if image_names else f"#{index}" for index in worst]
    lettering = Lettering([*(class_names[label] for label in shown), *files])
    named = dict(enumerate(lettering.labels(class_names, CAPTION - 0.4, 9.0)))
    note = _numbers_note([named[label] for label in shown])
    top = 0.7 if note else 0.5
    width, height = 2 * columns, 2.6 * rows + top
    figure = Figure(figsize=(width, height), dpi=DPI)  # places its axes itself: a layout would measure every text
    title = f"{len(wrong):,} of {len(labels):,} test images wrong; most confident mistakes first"
    figure.suptitle(title + note, fontsize=11, y=1 - 0.1 / height)
    for place, index in enumerate(worst):
        row, column = divmod(place, columns)
        bottom = height - top - 2.6 * (row + 1) + 0.05
        axes = figure.add_axes((2 * column / width, bottom / height, 2 / width, 1.9 / height), xticks=[], yticks=[])
        axes.axis("off")
        axes.imshow(image(int(index)), interpolation="nearest")
        file = (
            lettering.fit(files[place], CAPTION, 9.0)
            if lettering.draws(files[place])
            else f"row {place + 1} of mistakes.csv"
        )
        caption = f"{named[int(predicted[index])]} {confidence[index]:.0%}\ntrue: {named[int(labels[index])]}\n{file}"
        axes.set_title(caption, fontsize=9.0, parse_math=False, family=lettering.families)
    figure.savefig(path)


def _numbers_note(labels: Sequence[str]) -> str:
    """Return a line that explains numbers instead of names, if there are any."""
    return "\n# and a number: the class of that place in confusion.csv" if any(map(NUMBER.fullmatch, labels)) else ""
