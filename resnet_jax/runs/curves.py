"""Accuracy and loss by epoch of several runs: as a picture, and as text for the terminal."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.text import Text

from resnet_jax.errors import UsageError, writing
from resnet_jax.runs.reading import ShownRun, figures_of

BLANK = "\u2800"  # the Braille character without a dot
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a Braille character, by row and column
ROWS = 16  # of the plot in the terminal


def _limits(runs: Sequence[ShownRun]) -> tuple[float, float]:
    """The range of accuracies to show: without the first eighth of each curve, which would squeeze the rest."""
    curves = [run.curve(run.split, "accuracy")[1] for run in runs]
    late = [value for values in curves for value in values[len(values) // 8 :]] or [0.0, 1.0]
    margin = max(0.005, 0.1 * (max(late) - min(late)))
    return max(0.0, min(late) - margin), min(1.0, max(late) + margin)


def draw_curves(runs: Sequence[ShownRun], path: Path) -> None:
    """Draws accuracy and loss by epoch."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(12, 5 + 0.25 * math.ceil(len(runs) / 4)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run in runs:
        for axes, name, scale in ((left, "accuracy", 100), (right, "loss", 1)):
            for split, width, style in (("train", 1, "--"), (run.split, 2, "-")):
                epochs, values = run.curve(split, name)
                marker = "." if split != "train" and len(epochs) < 30 else ""
                axes.plot(epochs, [scale * value for value in values], marker + style, lw=width, color=run.colour)
    left.set(title="Accuracy", ylabel="images classified correctly [%]")
    low, high = _limits(runs)[0], max((line["accuracy"] for run in runs for line in run.lines), default=1.0)
    left.set_ylim(100 * low, 100 * (high + 0.03 * (high - low)))
    right.set(title="Loss", ylabel="mean cross-entropy [nats]", yscale="log")
    for axes in (left, right):
        axes.set(xlabel="epoch", xlim=(0, None))
        axes.grid(alpha=0.3, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter("")
    splits = " or ".join(sorted({run.split for run in runs}))
    styles = [Line2D([], [], color="grey", linestyle=style) for style in ("solid", "dashed")]
    right.legend(styles, [splits, "train"], loc="best")
    handles = [Line2D([], [], color=run.colour, linewidth=3) for run in runs]
    names = [f"{run.letter} {run.name}   test {figures_of(run)['test accuracy'] or 'not evaluated'}" for run in runs]
    legend = figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(runs)), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    try:
        with writing(path, "give another --out"):
            figure.savefig(path, dpi=120)
    except ValueError:
        raise UsageError(f"--out: got {path}, wanted a name in .png, .pdf or .svg") from None


def plot_curves(runs: Sequence[ShownRun], width: int) -> Text:
    """Plots accuracy by epoch in the terminal; a run's letter is on its curve and beside the end of it."""
    evaluated = [run for run in runs if run.curve(run.split, "accuracy")[0]]
    if not evaluated:
        return Text("no run has been evaluated yet")
    columns, (low, high) = max(10, width - 12 - len(evaluated)), _limits(runs)
    last = max(max(run.curve(run.split, "accuracy")[0]) for run in evaluated)
    cells = [[(" ", "")] * columns for _ in range(ROWS)]
    ends = [Text() for _ in range(ROWS)]
    for number, run in enumerate(evaluated):
        epochs, values = run.curve(run.split, "accuracy")
        xs = [epoch / last * (2 * columns - 1) for epoch in epochs]
        ys = [(high - value) / (high - low) * (4 * ROWS - 1) for value in values]
        _trace(cells, xs, ys, run.colour)
        for column in range(round(xs[0] / 2) + 20 * number // len(evaluated), round(xs[-1]) // 2, 20):
            row = round(float(np.interp(2 * column, xs, ys))) // 4
            if row < ROWS:
                cells[row][column] = run.letter, f"bold {run.colour}"
        ends[min(round(ys[-1]) // 4, ROWS - 1)].append(run.letter, f"bold {run.colour}")
    plot = Text(f"{' or '.join(sorted({run.split for run in runs}))} accuracy by epoch\n")
    for row in range(ROWS):
        label = f"{high - (row + 0.5) / ROWS * (high - low):7.1%} ┤" if row % 3 == 1 else "        │"
        plot.append_text(Text.assemble(label, *cells[row], " ", ends[row], "\n"))
    plot.append("        └" + "─" * columns + "\n")
    ticks = " " * (columns + 12)
    step = next(n * 10**power for power in range(9) for n in (1, 2, 5) if 8 * n * 10**power >= last)
    for tick in range(0, last + 1, step):
        start = 9 + round(tick / last * (columns - 1)) - len(str(tick)) // 2
        ticks = ticks[:start] + str(tick) + ticks[start + len(str(tick)) :]
    return plot.append(ticks.rstrip())


def _trace(cells: list[list[tuple[str, str]]], xs: Sequence[float], ys: Sequence[float], colour: str) -> None:
    """Draws a line through points, in dots from the top left, two in the width of a cell and four in its height."""
    previous = round(ys[0])
    for x in range(round(xs[0]), round(xs[-1]) + 1):
        y = round(float(np.interp(x, xs, ys)))
        for dot in range(min(y, previous + 1), max(y, previous - 1) + 1):
            if 0 <= dot < 4 * len(cells):
                cell, _ = cells[dot // 4][x // 2]
                old = ord(cell) if cell >= BLANK else ord(BLANK)
                cells[dot // 4][x // 2] = chr(old | DOTS[dot % 4][x % 2]), colour
        previous = y
