"""What `resnet-jax evaluate` prints of each class, in terminals of any width."""

import numpy as np
import pytest

from resnet_jax.commands.evaluate import LISTED, LOWEST, _print


def figures(count: int, *, confused: bool = True) -> dict:
    """Return made-up figures of classes with names of several words, of which class 0 is never predicted."""
    names = [f"sweet pepper with a long name {number}" for number in range(count)]
    shares = np.linspace(0, 1, count).tolist()
    return {
        **{"model": "runs/a", "images": 10_000, "dataset": "cifar100", "split": "test", "best": False},
        **{"classes": count, "network_classes": count, "accuracy": 0.5, "loss": 2.0, "calibration_error": 0.1},
        "class_images": dict.fromkeys(names, 100),
        "class_accuracy": dict(zip(names, shares, strict=True)),
        "class_precision": dict(zip(names, [None, *shares[1:]], strict=True)),
        "class_f1": dict(zip(names, shares, strict=True)),
        "most_confused": [{"true": names[0], "predicted": names[1], "images": 100}] if confused else [],
    }


@pytest.fixture
def printed(monkeypatch, capsys):
    def show(values: dict, columns: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        _print(values)
        return capsys.readouterr().out.splitlines()[1:]  # the first line, of the model, is left to the terminal

    return show


@pytest.mark.parametrize("columns", [40, 60, 100])
@pytest.mark.parametrize("count", [2, 100])
def test_the_tables_fit_the_terminal_with_all_their_columns(printed, columns, count):
    lines = printed(figures(count), columns)
    assert max(map(len, lines)) <= columns
    assert any(line.split() == ["class", "images", "recall", "precision", "F1"] for line in lines)
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize(("count", "shown"), [(LISTED, LISTED), (100, LOWEST)])
def test_of_many_classes_those_with_the_lowest_f1_are_shown_and_the_rest_is_named(printed, count, shown):
    text = "\n".join(printed(figures(count), 100))
    assert [name in text for name in figures(count)["class_f1"]] == [number < shown for number in range(count)]
    assert ("--json" in text) == (shown < count)


def test_each_class_has_its_recall_precision_and_f1(printed):
    lines = printed(figures(3), 100)
    (row,) = (line.split()[-4:] for line in lines if line.startswith("sweet pepper with a long name 1 "))
    assert row == ["100", "50.0%", "50.0%", "50.0%"]


def test_the_precision_of_a_class_that_is_never_predicted_is_a_dash(printed):
    (row,) = (line.split()[-2] for line in printed(figures(3), 100) if "name 0 " in line and "%" in line)
    assert row == "-"


def test_without_a_mistake_there_are_no_classes_to_look_at(printed):
    assert not any("recall" in line for line in printed(figures(3, confused=False), 100))
