"""The pictures of a finished run; tests turn Matplotlib's warnings into errors."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_jax.runs.pictures import draw_confusion, draw_curves, draw_mistakes

AWKWARD = ("$x_{$", "\x1b[2J\x07", "a" * 200)
"""Class names: not valid as a formula, control characters, too long."""


def size(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        image.load()
        return image.size


def test_a_confusion_matrix_shows_any_class_names(tmp_path):
    draw_confusion(tmp_path / "confusion.png", np.arange(9).reshape(3, 3), AWKWARD)
    assert min(size(tmp_path / "confusion.png")) >= 300


def test_the_mistakes_show_any_class_names(tmp_path):
    images, labels = np.zeros((3, 8, 8, 3), np.uint8), np.arange(3, dtype=np.int32)
    logits = np.eye(3, dtype=np.float32)[[1, 2, 0]]
    draw_mistakes(tmp_path / "mistakes.png", images, labels, logits, AWKWARD)
    assert min(size(tmp_path / "mistakes.png")) >= 300


@pytest.mark.parametrize(("wrong", "rows"), [(0, 1), (6, 1), (7, 2), (30, 4)])
def test_the_mistakes_are_at_most_24_in_rows_of_six(tmp_path, wrong, rows):
    images, labels = np.zeros((40, 8, 8, 3), np.uint8), np.zeros(40, np.int32)
    logits = np.eye(2, dtype=np.float32)[[1] * wrong + [0] * (40 - wrong)]
    draw_mistakes(tmp_path / "mistakes.png", images, labels, logits, ("a", "b"))
    assert size(tmp_path / "mistakes.png")[1] == pytest.approx(120 * (2.6 * rows + 0.5), abs=1)


def test_a_single_outlier_does_not_flatten_the_curves(tmp_path):
    lines = [{"split": "train", "epoch": epoch, "loss": 1 / (epoch + 1), "accuracy": 0.5} for epoch in range(20)]
    draw_curves(tmp_path / "plain.png", lines)
    draw_curves(tmp_path / "outlier.png", [*lines[:-1], lines[-1] | {"loss": 1e6}])
    plain, outlier = (
        np.asarray(Image.open(tmp_path / name).convert("L")) < 128 for name in ("plain.png", "outlier.png")
    )
    half = slice(0, plain.shape[1] // 2)
    assert np.mean(outlier[:, half]) > 0.7 * np.mean(plain[:, half])  # dark pixels: the curve keeps its shape
