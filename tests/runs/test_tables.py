"""The tables of a finished run, read back as CSV."""

import csv

import numpy as np
import pytest

from resnet_jax.runs.tables import Guesses, cell, write_confusion, write_mistakes


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_confusion_table_has_a_row_for_each_true_class(tmp_path):
    write_confusion(tmp_path / "c.csv", np.array([[3, 1], [0, 2]]), ("cat", "a, b"))
    assert [row[1:] for row in read(tmp_path / "c.csv")] == [["cat", "a, b"], ["3", "1"], ["0", "2"]]


@pytest.mark.parametrize(("names", "first"), [(("a.png", "b.png", "c.png"), "c.png"), ((), "#2")])
def test_the_most_confident_mistakes_come_first(tmp_path, names, first):
    guesses = Guesses(np.array([0, 0, 0]), np.array([1, 0, 1]), np.array([0.6, 0.7, 0.98765]))
    write_mistakes(tmp_path / "m.csv", guesses, ("cat", "dog"), names)
    header, *rows = read(tmp_path / "m.csv")
    assert header == ["image", "true", "predicted", "probability"]
    assert rows[0] == [first, "cat", "dog", "0.9877"] and len(rows) == 2


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@a"])
def test_a_name_is_never_read_as_a_formula(name):
    assert cell(name) == f"'{name}"
