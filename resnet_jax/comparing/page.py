"""A comparison as one page that needs no other file and makes no request."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from resnet_jax.checked_text import write_text
from resnet_jax.comparing.accuracy import accuracies_of, was_trained
from resnet_jax.comparing.columns import COLUMNS, PUBLISHED, TRAINED, Column, columns_of
from resnet_jax.comparing.conditions import conditions_of
from resnet_jax.comparing.pareto import Point
from resnet_jax.comparing.plots import draw_curves, draw_speeds, draw_tradeoff
from resnet_jax.comparing.recommend import RULES, recommend
from resnet_jax.comparing.remarks import learned_nothing, remarks_of
from resnet_jax.comparing.speed import speed_sentences, speeds_of
from resnet_jax.errors import writing

COSTS = {
    "latency_seconds": ("latency of one image [ms]", 1e-3),
    "parameters": ("parameters [millions]", 1e6),
    "multiply_adds": ("multiply-adds [billions]", 1e9),
    "activations": ("activations [millions]", 1e6),
}
"""Label of the axis and unit of each figure that accuracy and speed are drawn against."""
TIMM = (
    "https://github.com/huggingface/pytorch-image-models/blob/main/results/"
    "benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv"
)
Network = Mapping[str, Any]


class Plot(NamedTuple):
    """A picture of the page."""

    title: str
    svg: Markup
    unnamed: Sequence[str] = ()
    """Networks for whose names there was no room; the picture has their numbers, from 1."""


def write_page(comparison: Mapping[str, Any], path: Path) -> None:
    """Write a comparison, which may be incomplete, as an HTML file.

    Args:
        comparison: `machine`, `settings`, `command` and `networks`, of JSON's types.
        path: of the file.

    Raises:
        UserError: it can't be written.
    """
    # StrictUndefined: a misspelt name in the template is an error. Nothing but our own SVG is inserted unescaped.
    loader = PackageLoader("resnet_jax.comparing", "template")
    template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("compare.html")
    with writing(path, "give another --workdir"):
        write_text(path, template.render(content_of(comparison)))


def content_of(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template shows, by the names that it uses."""
    networks, settings = comparison["networks"], comparison["settings"]
    recommendation, groups = recommend(comparison), groups_of(networks)
    trained = [network for network in networks if network.get("trained")]
    failed = [network for network in networks if learned_nothing(network, settings["classes"])]
    curves = Plot("Mean over the seeds, and one standard deviation", Markup(draw_curves(trained))) if trained else None
    return {
        "subject": settings.get("dataset") or f"images of {settings['image_size']} pixels",
        "chosen": recommendation.chosen,
        "sentences": recommendation.sentences,
        "rules": RULES,
        "groups": groups,
        "rows": [{"name": network["arch"], "cells": list(_cells(network, groups))} for network in networks],
        "remarks": remarks_of(comparison),
        "sources": [
            (network["arch"], network["published"][0]["source"]) for network in networks if network["published"]
        ],
        "tradeoffs": tradeoffs_of([network for network in networks if network not in failed]),
        "accuracy_source": _accuracy_source(comparison, failed),
        "curves": curves,
        "timm": TIMM,
        "speed_sentences": speed_sentences(networks),
        "speeds": speed_plots_of(networks),
        "conditions": conditions_of(comparison),
        "command": comparison["command"],
    }


def groups_of(networks: Sequence[Network]) -> list[tuple[str, list[Column]]]:
    """Return the columns with figures, in groups of one origin, each with its title."""
    present = columns_of(networks)
    ceilings = [column for column in present if column not in (*TRAINED, *COLUMNS, *PUBLISHED)]
    ours: list[tuple[str, Sequence[Column]]] = [("Trained here", TRAINED)]
    ours += [("Counted and measured here", COLUMNS), ("Computed ceilings", ceilings)]
    published = [
        (f"Published, {version} weights", [column for column in PUBLISHED if version in column.heading])
        for version in ("V1", "V2")
    ]
    groups = [*ours, *published] if was_trained(networks) else [*published, *ours]
    shown = [(title, [column for column in columns if column in present]) for title, columns in groups]
    return [(title, columns) for title, columns in shown if columns]


def _cells(network: Network, groups: Sequence[tuple[str, Sequence[Column]]]) -> list[dict[str, Any]]:
    return [
        {"value": "" if column.value(network) is None else column.value(network), "text": text, "first": not number}
        for _, columns in groups
        for number, column in enumerate(columns)
        for text in [column.text(network)]
    ]


def tradeoffs_of(networks: Sequence[Network]) -> list[Plot]:
    """Draw accuracy against each cost that is known of a network with an accuracy."""
    label = "accuracy on the test images, trained here [%]" if was_trained(networks) else "published ImageNet top-1 [%]"
    accuracies, plots = accuracies_of(networks), []
    for figure, (cost, unit) in COSTS.items():
        points = [
            Point(network["arch"], network[figure] / unit, accuracies[network["arch"]].percent)
            for network in networks
            if network.get(figure) and network["arch"] in accuracies
        ]
        if points:
            svg, unnamed = draw_tradeoff(points, cost, label)
            plots.append(Plot(f"Accuracy against {cost.split(' [')[0]}", Markup(svg), unnamed))
    return plots


def speed_plots_of(networks: Sequence[Network]) -> list[Plot]:
    """Draw each speed against multiply-adds and against activations."""
    plots = []
    for where, speeds in speeds_of(networks).items():
        for figure in ("multiply_adds", "activations"):
            cost, unit = COSTS[figure]
            counted = [network for network in networks if network.get(figure) and network["arch"] in speeds]
            points = [Point(it["arch"], it[figure] / unit, speeds[it["arch"]]) for it in counted]
            if points:
                svg, unnamed = draw_speeds(points, cost, "images per second")
                title = f"{where[0].upper()}{where[1:]}: speed against {cost.split(' [')[0]}"
                plots.append(Plot(title, Markup(svg), unnamed))
    return plots


def _accuracy_source(comparison: Mapping[str, Any], failed: Sequence[Network]) -> str:
    settings = comparison["settings"]
    if not was_trained(comparison["networks"]):
        return "The accuracies are published ones: ImageNet top-1 of torchvision's V1 weights, not measured here."
    seeds = f"the mean over {settings['seeds']} seeds" if settings["seeds"] > 1 else "one seed"
    text = f"The accuracies are those of networks trained here with {settings['recipe']}, {seeds}."
    if failed:
        text += f" Left out, since they are about as good as guessing: {', '.join(it['arch'] for it in failed)}."
    return text
