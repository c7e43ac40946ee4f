"""The pictures of a finished run; tests turn Matplotlib's warnings into errors."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from resnet_jax.runs.lettering import STANDARD, Lettering
from resnet_jax.runs.pictures import LARGEST_PLOT, draw_confusion, draw_curves, draw_mistakes
from resnet_jax.runs.tables import Guesses

AWKWARD = ("$x_{$", "\x1b[2J\x07", "a" * 200)
"""Class names: not valid as a formula, control characters, too long."""


LONG = "golden retriever of the neighbors, photographed in the garden"
CAT, DOG = "\u732b", "\u72ac"


@pytest.fixture
def standard_font(monkeypatch):
    """Let Matplotlib's own font be the only one that is installed."""
    fonts = [entry for entry in font_manager.fontManager.ttflist if entry.name == STANDARD]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)


@pytest.fixture
def cat_font(standard_font, tmp_path):
    """Install a font that has one character, the Chinese cat, as a square."""
    pen = TTGlyphPen(None)
    for number, corner in enumerate([(0, 0), (0, 700), (700, 700), (700, 0)]):
        pen.lineTo(corner) if number else pen.moveTo(corner)
    pen.closePath()
    font, glyphs = FontBuilder(1000), {".notdef": pen.glyph(), "cat": pen.glyph()}
    font.setupGlyphOrder(list(glyphs))
    font.setupCharacterMap({ord(CAT): "cat"})
    font.setupGlyf(glyphs)
    font.setupHorizontalMetrics(dict.fromkeys(glyphs, (800, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Cats", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "cats.ttf")
    font_manager.fontManager.addfont(tmp_path / "cats.ttf")


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Return a list that gets each figure that is saved."""
    figures: list[Figure] = []
    original = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **options: (figures.append(self), original(self, *args, **options))[1]
    )
    return figures


def extent(text: Text):
    return text.get_window_extent()


def size(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        image.load()
        return image.size


def test_a_confusion_matrix_shows_any_class_names(tmp_path):
    draw_confusion(tmp_path / "confusion.png", np.arange(9).reshape(3, 3), AWKWARD)
    assert min(size(tmp_path / "confusion.png")) >= 300


def test_the_mistakes_show_any_class_names(tmp_path):
    images, guesses = np.zeros((3, 8, 8, 3), np.uint8), Guesses(np.arange(3), np.array([1, 2, 0]), np.full(3, 0.5))
    draw_mistakes(tmp_path / "mistakes.png", images.__getitem__, guesses, AWKWARD)
    assert min(size(tmp_path / "mistakes.png")) >= 300


@pytest.mark.parametrize(("wrong", "rows"), [(0, 1), (6, 1), (7, 2), (30, 4)])
def test_the_mistakes_are_at_most_24_in_rows_of_six(tmp_path, wrong, rows):
    images, predicted = np.zeros((40, 8, 8, 3), np.uint8), np.array([1] * wrong + [0] * (40 - wrong))
    guesses = Guesses(np.zeros(40, int), predicted, np.full(40, 0.5))
    draw_mistakes(tmp_path / "mistakes.png", images.__getitem__, guesses, ("a", "b"))
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


@pytest.mark.parametrize(
    "names",
    [
        *(("cat", "dog"), (LONG, "$5", CAT), tuple(f"{LONG} {number}" for number in range(21))),
        *(tuple(f"n{number:08d}" + "W" * (number % 9) for number in range(count)) for count in (60, 100)),
    ],
    ids=len,
)
def test_the_class_names_of_a_matrix_do_not_overlap_and_lie_within_the_picture(tmp_path, drawn, names):
    draw_confusion(tmp_path / "confusion.png", np.eye(len(names), dtype=int), names)
    (axes,) = drawn[0].axes
    columns, rows = ([extent(label) for label in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis))
    assert len(columns) == len(rows) == len(names)
    assert all(left.x1 <= right.x0 for left, right in pairwise(columns))
    assert all(above.y0 >= below.y1 for above, below in pairwise(rows))
    whole = drawn[0].bbox
    assert all(box.x0 >= whole.x0 and box.y0 >= whole.y0 for box in (*columns, *rows, extent(drawn[0]._suptitle)))


def test_more_classes_than_have_room_are_numbered(tmp_path, drawn):
    draw_confusion(tmp_path / "confusion.png", np.eye(200, dtype=int), [LONG] * 200)
    (axes,) = drawn[0].axes
    assert max(drawn[0].get_size_inches()) < LARGEST_PLOT + 2 and "confusion.csv" in axes.get_xlabel()


def test_a_name_without_a_font_is_a_number_that_is_explained(tmp_path, drawn, standard_font):
    draw_confusion(tmp_path / "confusion.png", np.eye(3, dtype=int), ("cat", CAT, DOG))
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "#2", "#3"]
    assert "confusion.csv" in drawn[0].get_suptitle()


def test_a_name_is_drawn_in_an_installed_font_that_has_its_characters(tmp_path, drawn, cat_font):
    draw_confusion(tmp_path / "confusion.png", np.eye(3, dtype=int), ("cat", CAT, DOG))
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", CAT, "#3"]
    assert Lettering([CAT]).families == [STANDARD, "Cats"]


def test_names_that_look_the_same_when_shortened_are_numbered(standard_font):
    names = (f"{LONG} a {LONG}", f"{LONG} b {LONG}", "c")
    assert Lettering(names).labels(names, 2.0, 10.0) == ["#1", "#2", "c"]


@pytest.mark.parametrize("inches", [0.3, 1.0, 2.0])
def test_a_name_is_shortened_in_the_middle_to_its_place_and_no_further(inches):
    lettering = Lettering([LONG])
    text = lettering.fit(LONG, inches, 9.0)
    start, end = text.split("\u2026")
    assert LONG.startswith(start) and LONG.endswith(end)
    assert lettering.width(text, 9.0) <= inches < lettering.width(text, 9.0) + 0.2


def test_the_captions_of_the_mistakes_name_the_files_and_stay_apart(tmp_path, drawn, standard_font):
    images = np.zeros((7, 8, 8, 3), np.uint8)
    guesses = Guesses(np.zeros(7, int), np.array([1, 2] * 3 + [1]), np.ones(7))
    files = [f"photos/W{'W' * 40}{number}.jpg" for number in range(6)]
    names = ("M" * 60, "$x_{$", CAT)
    draw_mistakes(tmp_path / "mistakes.png", images.__getitem__, guesses, names, [*files, f"photos/{CAT}.jpg"])
    captions = [axes.title for axes in drawn[0].axes]
    assert [caption.get_text().splitlines()[2][-6:] for caption in captions[:6]] == [f"W{n}.jpg" for n in range(6)]
    assert "row 7 of mistakes.csv" in captions[6].get_text() and "#3" in captions[1].get_text()
    assert all(extent(left).x1 <= extent(right).x0 for left, right in pairwise(captions[:6]))
    assert all(Lettering(names).draws(caption.get_text().replace("\n", "")) for caption in captions)
    assert extent(captions[0]).y1 <= extent(drawn[0]._suptitle).y0


def test_the_title_counts_the_losses_that_are_not_shown(tmp_path, drawn):
    lines = [{"split": "train", "epoch": epoch, "loss": 1.0, "accuracy": 0.5} for epoch in range(20)]
    draw_curves(tmp_path / "curves.png", [*lines[:-1], lines[-1] | {"loss": 1e6}])
    assert drawn[0].axes[0].get_title().startswith("Loss (1 ")
