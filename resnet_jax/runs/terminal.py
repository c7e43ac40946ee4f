"""Accuracy by epoch of several runs, plotted in the terminal with Braille characters."""

import math
from collections.abc import Sequence

import numpy as np
from rich.text import Text

from resnet_jax.runs.reading import ShownRun, accuracy_limits

BLANK = "\u2800"  # the Braille character without dots
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a Braille character, by row and column
ROWS = 16
LETTER_DISTANCE = 20  # columns between the letters on a curve

Cells = list[list[tuple[str, str]]]  # character and style, by row and column


def plot_curves(runs: Sequence[ShownRun], width: int) -> Text:
    """Plot accuracy by epoch; the letter of each run is on its curve and beside the curve's last row.

    Args:
        runs: in the order in which they are drawn, the last one on top.
        width: of the terminal, characters.
    """
    evaluated = [run for run in runs if run.curve(run.split, "accuracy")[0]]
    if not evaluated:
        return Text("no run has been evaluated yet")
    columns, (low, high) = max(10, width - 12 - len(evaluated)), accuracy_limits(runs)
    last = max(max(run.curve(run.split, "accuracy")[0]) for run in evaluated)
    cells = [[(" ", "")] * columns for _ in range(ROWS)]
    ends = [Text() for _ in range(ROWS)]
    for number, run in enumerate(evaluated):
        epochs, values = run.curve(run.split, "accuracy")
        xs = [epoch / last * (2 * columns - 1) for epoch in epochs]
        ys = [_depth(value, low, high) for value in values]
        _trace(cells, xs, ys, run.color)
        _mark(cells, xs, ys, run, LETTER_DISTANCE * number // len(evaluated))
        ends[min(round(ys[-1]) // 4, ROWS - 1)].append(run.letter, f"bold {run.color}")
    plot = Text(f"{' or '.join(sorted({run.split for run in runs}))} accuracy by epoch\n")
    for label, row, end in zip(_accuracy_ticks(low, high), cells, ends, strict=True):
        plot.append_text(Text.assemble(label, *row, " ", end, "\n"))
    return plot.append(f"        └{'─' * columns}\n         {_epoch_ticks(last, columns)}")


def _depth(accuracy: float, low: float, high: float) -> float:
    """Return the distance from the top of the plot, in dots."""
    return (high - accuracy) / (high - low) * (4 * ROWS - 1)


def _trace(cells: Cells, xs: Sequence[float], ys: Sequence[float], color: str) -> None:
    """Draw a line through points in units of dots, counted from the top left: a cell is 2 wide and 4 high."""
    previous = round(ys[0])
    for x in range(round(xs[0]), round(xs[-1]) + 1):
        y = round(float(np.interp(x, xs, ys)))
        for dot in range(min(y, previous + 1), max(y, previous - 1) + 1):
            if 0 <= dot < 4 * ROWS:
                cell, _ = cells[dot // 4][x // 2]
                old = ord(cell) if cell >= BLANK else ord(BLANK)
                cells[dot // 4][x // 2] = chr(old | DOTS[dot % 4][x % 2]), color
        previous = y


def _mark(cells: Cells, xs: Sequence[float], ys: Sequence[float], run: ShownRun, offset: int) -> None:
    """Put the letter of a run on its curve at regular distances, the first one `offset` columns from the start."""
    for column in range(round(xs[0] / 2) + offset, round(xs[-1]) // 2, LETTER_DISTANCE):
        row = round(float(np.interp(2 * column, xs, ys))) // 4
        if row < ROWS:
            cells[row][column] = run.letter, f"bold {run.color}"


def _accuracy_ticks(low: float, high: float) -> list[str]:
    """Return the left margin of each row: the axis, and round percentages on about five rows."""
    labels = ["        │"] * ROWS
    step = _round_step(100 * (high - low) / 5)
    for number in range(math.ceil(100 * low / step), math.floor(100 * high / step) + 1):
        labels[round(_depth(number * step / 100, low, high)) // 4] = f"{number * step:6g}% ┤"
    return labels


def _epoch_ticks(last: int, columns: int) -> str:
    """Return the line below the axis: round epochs, at most nine."""
    line = " " * (columns + 3)
    step = round(_round_step(max(1.0, last / 8)))
    for tick in range(0, last + 1, step):
        start = max(0, round(tick / last * (columns - 1)) - len(str(tick)) // 2)
        line = line[:start] + str(tick) + line[start + len(str(tick)) :]
    return line.rstrip()


def _round_step(least: float) -> float:
    """Return the smallest number of the form 1, 2 or 5 times a power of ten that is at least `least`."""
    return next(n * 10.0**power for power in range(-4, 9) for n in (1, 2, 5) if n * 10.0**power >= least)
