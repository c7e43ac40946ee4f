"""Tables of a finished run as CSV files, safe to open in a spreadsheet."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from resnet_jax.errors import printable


def cell(text: str) -> str:
    """Return a name from outside for a CSV file: without control characters, and never a formula.

    A spreadsheet runs what begins with = + - or @; a ' before it makes it text.
    """
    text = printable(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


class Guesses(NamedTuple):
    """What a network takes each image for."""

    labels: Int[np.ndarray, " n"]
    """True classes."""
    predicted: Int[np.ndarray, " n"]
    """Classes with the highest score."""
    confidence: Float[np.ndarray, " n"]
    """Probability of the predicted class."""

    def mistakes(self) -> Int[np.ndarray, " mistakes"]:
        """Return the indices of the wrongly classified images, the most confident first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")]


def write_confusion(path: Path, confusion: Int[np.ndarray, "classes classes"], class_names: Sequence[str]) -> None:
    """Write the number of images by true class (row) and predicted class (column)."""
    names = [cell(name) for name in class_names]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("true class \\ predicted class", *names))
        rows.writerows((name, *counts) for name, counts in zip(names, confusion.tolist(), strict=True))


def write_mistakes(path: Path, guesses: Guesses, class_names: Sequence[str], image_names: Sequence[str]) -> None:
    """Write a row for each wrongly classified image, the most confident mistakes first.

    Args:
        path: of the file, which has the columns image, true, predicted, probability (of the predicted class).
        guesses: the network's.
        class_names: by class.
        image_names: paths of the images; empty if they have none, and then their positions in the split are written.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("image", "true", "predicted", "probability"))
        for index in guesses.mistakes():
            name = image_names[index] if image_names else f"#{index}"
            row = (name, class_names[guesses.labels[index]], class_names[guesses.predicted[index]])
            rows.writerow((*map(cell, row), f"{guesses.confidence[index]:.4f}"))
