"""Plots of a comparison, as SVG for a page: narrow, so that their text can be read on a telephone."""

import io
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean, stdev
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter

from resnet_jax.comparing.labels import Box, place_labels
from resnet_jax.comparing.pareto import Point, pareto_front
from resnet_jax.runs.lettering import Lettering

WIDTH, HEIGHT = 4.6, 3.7  # inches: 331 points, so that on 360 pixels a point is wider than a pixel
FONT_SIZE = 9.5
LINE_HEIGHT = 11.0  # of a label, points
SHOWN = 15.0  # points of accuracy below the lowest final one that learning curves show at least
NEAR = 8.0  # points between a name and its point without a line
SUBJECT = "resnet18"  # the network that the page is about
FRONT_COLOR, SUBJECT_COLOR, OTHER_COLOR, LINE_COLOR = "#1558b0", "#c2410c", "#5f6670", "#9aa2ab"
COLORS = ("#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf", "#3f51ff", "#00a878", "#7f7f7f")
STYLES = ("-", "--", ":")  # after all colors
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "font.size": FONT_SIZE, "axes.titlesize": FONT_SIZE}


def draw_tradeoff(points: Sequence[Point], cost: str, accuracy: str) -> tuple[str, list[str]]:
    """Draw accuracy against a cost, with the Pareto front.

    Args:
        points: of the networks, at least one.
        cost: label of the horizontal axis, which is logarithmic.
        accuracy: label of the vertical axis.

    Returns:
        The SVG element, and the names for which there was no room in it: it has their numbers, from 1.
    """
    return _draw_points(points, cost, accuracy, pareto_front(points))


def draw_speeds(points: Sequence[Point], cost: str, speed: str) -> tuple[str, list[str]]:
    """Draw speed against a count of the work, both logarithmic; see `draw_tradeoff`."""
    return _draw_points(points, cost, speed, (), yscale="log")


def _draw_points(
    points: Sequence[Point], cost: str, value: str, front: Sequence[Point], yscale: str = "linear"
) -> tuple[str, list[str]]:
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": cost + value}):  # names of parts, different in each plot
        figure, axes = _start(cost, value)
        axes.set(xscale="log", yscale=yscale)
        axes.margins(x=0.12, y=0.1)
        ranked = sorted(points, key=lambda each: (each.name != SUBJECT, each not in front))
        for point in ranked:
            on_top = 6 if point.name == SUBJECT else 3
            axes.plot(point.cost, point.accuracy, "o", markersize=5, color=_color(point, front), zorder=on_top)
        axes.step([each.cost for each in front], [each.accuracy for each in front], where="post", color=FRONT_COLOR)
        _tick(axes)
        unnamed = _name_points(axes, ranked, front)
        return _svg(figure), unnamed


def draw_curves(networks: Sequence[Mapping[str, Any]]) -> str:
    """Draw the evaluated accuracy by epoch: the mean over the seeds, and one standard deviation around it.

    Args:
        networks: that were trained, at least one.

    Returns:
        The SVG element.
    """
    curves = {network["arch"]: _curve(network["trained"]["runs"]) for network in networks}
    rows = -(-len(curves) // 2)
    legend = 0.2 * rows + 0.15  # inches
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "curves"}):
        figure, axes = _start("completed epochs", "images classified correctly [%]", legend)
        for number, (name, curve) in enumerate(curves.items()):
            color = SUBJECT_COLOR if name == SUBJECT else COLORS[number % len(COLORS)]
            epochs, means, spreads = zip(*curve, strict=True) if curve else ((), (), ())
            low, high = ([m + sign * s for m, s in zip(means, spreads, strict=True)] for sign in (-1, 1))
            style = STYLES[number // len(COLORS) % len(STYLES)]
            axes.plot(epochs, means, style, color=color, label=name, marker="." if len(epochs) == 1 else "")
            axes.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=(1, 2, 5, 10), integer=True))
        ends = [curve[-1][1] for curve in curves.values() if curve] or [0.0]
        axes.set_ylim(bottom=max(axes.get_ylim()[0], min(ends) - max(SHOWN, max(ends) - min(ends))))
        figure.legend(loc="lower left", ncols=2, frameon=False, fontsize=FONT_SIZE, borderaxespad=0.1)
        return _svg(figure)


def _curve(runs: Sequence[Mapping[str, Any]]) -> list[tuple[int, float, float]]:
    """Return epoch, mean and standard deviation of the accuracy in percent, for the epochs that all runs have."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for epoch, accuracy in run["curve"]:
            values.setdefault(epoch, []).append(100 * accuracy)
    complete = {epoch: each for epoch, each in sorted(values.items()) if len(each) == len(runs)}
    return [(epoch, mean(each), stdev(each) if len(each) > 1 else 0.0) for epoch, each in complete.items()]


def _start(horizontal: str, vertical: str, legend: float = 0.0) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, and room for a legend of so many inches below them."""
    height = HEIGHT + legend
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.13, (0.5 + legend) / height, 0.81, (HEIGHT - 0.8) / height))
    axes.set_xlabel(horizontal)
    axes.set_title(vertical, loc="left")  # a label beside the axis would take width, and be read with the head turned
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _tick(axes: Axes) -> None:
    """Write the numbers of logarithmic axes without powers of ten, three to seven of them."""
    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":
            low, high = axis.get_view_interval()
            axis.set_major_locator(_locator(high / low))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(NullFormatter())


def _locator(ratio: float) -> Locator:
    """Return where a logarithmic axis has numbers, by the ratio of its ends."""
    if ratio < 8:
        return MaxNLocator(6, steps=(1, 2, 5, 10))
    return LogLocator(subs=(1, 2, 5) if ratio < 100 else (1, 3) if ratio < 3000 else (1,))


def _name_points(axes: Axes, points: Sequence[Point], front: Sequence[Point]) -> list[str]:
    """Write the names beside the points; those without room are numbered in the plot, and returned."""
    lettering, per_pixel = Lettering([point.name for point in points]), 72 / axes.figure.dpi

    def place(cost: float, accuracy: float) -> tuple[float, float]:
        x, y = per_pixel * axes.transData.transform((cost, accuracy))
        return float(x), float(y)

    places = [place(point.cost, point.accuracy) for point in points]
    widths = [72 * lettering.width(point.name, FONT_SIZE) for point in points]
    frame = Box(*(float(per_pixel * value) for value in axes.get_window_extent().extents))
    corners = [(cost, each.accuracy) for each, after in pairwise(front) for cost in (each.cost, after.cost)]
    line = [place(*corner) for corner in (*corners, *((each.cost, each.accuracy) for each in front[-1:]))]
    unnamed = []
    boxes = place_labels(places, widths, LINE_HEIGHT, frame, line)
    for point, at, box in zip(points, places, boxes, strict=True):
        if box is None:
            unnamed.append(point.name)
            _number(axes, point, len(unnamed), _color(point, front))
        else:
            _write_name(axes, point, box, at, _color(point, front))
    return unnamed


def _number(axes: Axes, point: Point, number: int, color: str) -> None:
    axes.plot(point.cost, point.accuracy, "o", markersize=12, color=color, markeredgecolor="white", zorder=4)
    axes.text(point.cost, point.accuracy, str(number), ha="center", va="center_baseline", color="white", zorder=5)


def _write_name(axes: Axes, point: Point, box: Box, at: tuple[float, float], color: str) -> None:
    """Write the name of a point into its box, with a line to the point if that is far."""
    right, up = (box.left + box.right) / 2 - at[0], (box.bottom + box.top) / 2 - at[1]
    distance = max(abs(right) - (box.right - box.left) / 2, abs(up) - (box.top - box.bottom) / 2)
    line = {"arrowstyle": "-", "color": LINE_COLOR, "lw": 0.7, "shrinkA": 0, "shrinkB": 3}
    axes.annotate(
        point.name,
        (point.cost, point.accuracy),
        (right, up),
        textcoords="offset points",
        ha="center",
        va="center",
        color=color,
        arrowprops=line if distance > NEAR else None,
        parse_math=False,
    )


def _color(point: Point, front: Sequence[Point]) -> str:
    return SUBJECT_COLOR if point.name == SUBJECT else FRONT_COLOR if point in front else OTHER_COLOR


def _svg(figure: Figure) -> str:
    """Return the SVG element alone, without its size in inches and with names for its parts that no other plot has."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True)
    svg = file.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg))
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    return re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", svg)
