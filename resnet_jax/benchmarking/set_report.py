"""The speeds of several networks as rows in the terminal, one as soon as it is there."""

from collections.abc import Mapping, Sequence
from statistics import geometric_mean
from typing import Any

from rich.console import Console

from resnet_jax.benchmarking.report import short

PARTS = {"train": "training", "forward": "forward"}
"""Headings of what is measured."""
Networks = Sequence[Mapping[str, Any]]


def print_headings(console: Console) -> None:
    """Print the names of the columns: images per second of ours and of PyTorch, and the ratio."""
    columns = [cell for heading in PARTS.values() for cell in (heading, "PyTorch", "ratio")]
    console.print(_line("images/s", columns), soft_wrap=True)


def print_row(console: Console, figures: Mapping[str, Any]) -> None:
    """Print the speeds of a network, or why it could not be measured."""
    if "failure" in figures:
        console.print(f"{figures['arch']:<18} {figures['failure']}", soft_wrap=True, markup=False)
        return
    cells = []
    for name in PARTS:
        speeds = [figures.get(f"{prefix}{name}_images_per_second") for prefix in ("", "torch_")]
        ratio = figures.get(f"{name}_ratio")
        cells += ["" if speed is None else short(speed) for speed in speeds] + ["" if ratio is None else f"{ratio:.2f}"]
    console.print(_line(figures["arch"], cells), soft_wrap=True)


def means_of(networks: Networks) -> dict[str, float]:
    """Return the geometric means of the ratios of our speed to PyTorch's, if there are any."""
    ratios = {name: [it[f"{name}_ratio"] for it in networks if f"{name}_ratio" in it] for name in PARTS}
    return {f"{name}_ratio_geometric_mean": geometric_mean(found) for name, found in ratios.items() if found}


def print_means(console: Console, networks: Networks) -> None:
    """Print what the rows have in common, and the geometric means of the ratios."""
    measured = [figures for figures in networks if "failure" not in figures]
    means = means_of(networks)
    common = "{stem} stem, {image_size}x{image_size}, {dtype}; {devices} x {device_kind}, JAX {jax_version}"
    sizes = sorted({figures["batch_size"] for figures in measured})
    text = f"batches of {', '.join(map(str, sizes))}, {common.format(**measured[0])}"
    if means:
        text += ", PyTorch {torch_version} ({torch_threads} threads)".format(**measured[0])
    console.print(text, soft_wrap=True)
    if means:
        found = [f"{heading} {means[f'{name}_ratio_geometric_mean']:.2f}" for name, heading in PARTS.items()]
        console.print(
            f"times as fast as PyTorch, geometric mean of {len(measured)} networks: {', '.join(found)}", soft_wrap=True
        )


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<18}" + "".join(f" {cell:>8}" for cell in cells)
