"""Figures that torchvision publishes for its networks, from `published.csv`. Importing it loads no JAX."""

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple


class PublishedFigures(NamedTuple):
    """What torchvision's documentation says of some weights: accuracies on ImageNet's 50,000 validation images."""

    weights: str
    """Their name in torchvision, `IMAGENET1K_V1` or `IMAGENET1K_V2`."""
    top1: float
    """Images whose class has the highest score, percent."""
    top5: float
    """Images whose class is among the five highest scores, percent."""
    parameters: int
    """Number of weights with 1000 classes."""
    multiply_adds_billions: float
    """Multiply-adds of one image of 224x224 pixels, 1e9, rounded to 0.001; the documentation calls them GFLOPS."""
    source: str
    """Address of the page."""


@cache
def published_figures() -> dict[str, list[PublishedFigures]]:
    """Return the figures by torchvision's name of the network; the older weights come first."""
    values: dict[tuple[str, str], dict[str, str]] = {}
    with Path(__file__).with_name("published.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            figures = values.setdefault((line["network"], line["weights"]), {"source": line["source"]})
            figures[line["figure"]] = line["value"]
    published: dict[str, list[PublishedFigures]] = {}
    for (network, weights), figures in values.items():
        published.setdefault(network, []).append(
            PublishedFigures(
                weights=weights,
                top1=float(figures["top1"]),
                top5=float(figures["top5"]),
                parameters=int(figures["parameters"]),
                multiply_adds_billions=float(figures["multiply_adds_billions"]),
                source=figures["source"],
            )
        )
    return published
