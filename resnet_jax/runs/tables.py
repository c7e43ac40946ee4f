"""Tables of a finished run as CSV files, safe to open in a spreadsheet."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from resnet_jax.errors import printable


def cell(text: str) -> str:
    """Return a name from outside for a CSV file: without control characters, and never a formula.

    A spreadsheet runs what begins with = + - or @; a ' before it makes it text.
    """
    text = printable(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def softmax(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Return the probabilities of the classes."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def write_confusion(path: Path, confusion: Int[np.ndarray, "classes classes"], class_names: Sequence[str]) -> None:
    """Write the number of images by true class (row) and predicted class (column)."""
    names = [cell(name) for name in class_names]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("true class \\ predicted class", *names))
        rows.writerows((name, *counts) for name, counts in zip(names, confusion.tolist(), strict=True))


def write_mistakes(
    path: Path,
    labels: Int[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
    class_names: Sequence[str],
    image_names: Sequence[str],
) -> None:
    """Write a row for each wrongly classified image, the most confident mistakes first.

    Args:
        path: of the file, which has the columns image, true, predicted, probability (of the predicted class).
        labels: true classes.
        logits: of the images.
        class_names: by class.
        image_names: paths of the images; empty if they have none, and then their positions in the split are written.
    """
    probabilities = softmax(logits)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("image", "true", "predicted", "probability"))
        for index in worst_mistakes(labels, probabilities):
            guess = probabilities[index].argmax()
            name = image_names[index] if image_names else f"#{index}"
            row = (name, class_names[labels[index]], class_names[guess])
            rows.writerow((*map(cell, row), f"{probabilities[index, guess]:.4f}"))


def worst_mistakes(
    labels: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]
) -> Int[np.ndarray, " mistakes"]:
    """Return the indices of the wrongly classified images, the highest probability of the wrong class first."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")]
