"""Accuracy and loss by epoch of several runs, as a picture."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from resnet_jax.errors import UsageError, writing
from resnet_jax.runs.lettering import Lettering
from resnet_jax.runs.reading import ShownRun, accuracy_limits, figures_of


def draw_comparison(runs: Sequence[ShownRun], path: Path) -> None:
    """Draw accuracy and loss by epoch: training dashed, evaluation solid, one color per run.

    Raises:
        UsageError: the name of the picture has no known ending.
        UserError: the picture can't be written.
    """
    figure = Figure(figsize=(12, 5 + 0.25 * math.ceil(len(runs) / 3)), layout="constrained")
    if path.suffix[1:].lower() not in figure.canvas.get_supported_filetypes():
        raise UsageError(f"--out: got {path}, expected a name that ends in .png, .pdf or .svg")
    left, right = figure.subplots(1, 2)
    left.set(title="Accuracy", ylabel="images classified correctly [%]")
    _draw(left, runs, "accuracy", 100)
    low, high = accuracy_limits(runs)[0], max((line["accuracy"] for run in runs for line in run.lines), default=1.0)
    left.set_ylim(100 * low, 100 * (high + 0.03 * (high - low)))
    right.set(title="Loss", ylabel="mean cross-entropy [nats]", yscale="log")
    _draw(right, runs, "loss", 1)
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter("")
    styles = [Line2D([], [], color="gray", linestyle=style) for style in ("solid", "dashed")]
    right.legend(styles, [" or ".join(sorted({run.split for run in runs})), "train"], loc="best")
    handles = [Line2D([], [], color=run.color, linewidth=3) for run in runs]
    lettering = Lettering([run.name for run in runs])
    labels = lettering.labels([run.name for run in runs], 2.0, 10.0)
    names = [
        f"{run.letter} {label}   test {figures_of(run)['test accuracy'] or 'not evaluated'}"
        for run, label in zip(runs, labels, strict=True)
    ]
    columns = min(3, len(runs))
    legend = figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)
    for text in legend.get_texts():
        text.set(parse_math=False, family=lettering.families, fontsize=10)
    with writing(path, "give another --out"):
        figure.savefig(path, dpi=120)


def _draw(axes: Axes, runs: Sequence[ShownRun], figure: str, scale: int) -> None:
    """Draw a figure of `metrics.jsonl`, multiplied by `scale`, for the training and the evaluation of each run."""
    for run in runs:
        for split, width, style in (("train", 1, "--"), (run.split, 2, "-")):
            epochs, values = run.curve(split, figure)
            marker = "." if split != "train" and len(epochs) < 30 else ""
            axes.plot(epochs, [scale * value for value in values], marker + style, lw=width, color=run.color)
    axes.set(xlabel="epoch", xlim=(0, None))
    axes.grid(alpha=0.3, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=(1, 2, 5, 10), integer=True))
