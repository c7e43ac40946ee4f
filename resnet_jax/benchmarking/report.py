"""The figures of `resnet-jax benchmark` as tables in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

ROWS = {
    "forward": "forward pass",
    "train": "training step",
    "input": "input alone",
    "end_to_end": "end to end",
    "torch_forward": "PyTorch forward",
    "torch_train": "PyTorch training",
}
TEXTS = ("", "operation", "output", "from")
"""Headings of columns without numbers."""


def print_figures(figures: Mapping[str, Any]) -> None:
    """Print the figures as tables."""
    console = Console(highlight=False)
    console.print(
        "{arch}, {width} channels, {stem} stem, {parameters:,} parameters; batches of {batch_size} at {image_size}x"
        "{image_size}, {dtype}; {devices} x {device_kind}, JAX {jax_version}".format(**figures),
        soft_wrap=True,
    )
    if "sweep" in figures:
        _print_rows(console, ("batch size", "training images/s"), _sweep_rows(figures))
    _print_rows(console, ("", "images/s", "range", "ms per step", "GFLOP/s", "of peak"), _rows(figures))
    for line in _lines(figures):
        console.print(line, soft_wrap=True)
    if "operations" in figures:
        _print_operations(console, figures)


def _print_operations(console: Console, figures: Mapping[str, Any]) -> None:
    folder, operations, failure = figures["profile"], figures["operations"], figures["operations_failure"]
    if operations:
        header = ("ms per step", "of all", "operation", "output", "from")
        rows = [
            (f"{1000 * it['seconds']:.3f}", f"{it['share']:.1%}", it["name"], it["output"], _first(it["source"]))
            for it in operations
        ]
        _print_rows(console, header, rows)
    found = "these are the longest operations" if operations else "its operations have no names"
    if failure is not None:
        found = f"its operations could not be listed: {failure}"
    console.print(f"trace of the training step in {folder} ({found}); to open it: xprof {folder}", soft_wrap=True)


def _print_rows(console: Console, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    filled = [index for index in range(len(header)) if any(row[index] for row in rows)]
    for column in (header[index] for index in filled):
        table.add_column(column, justify="left" if column in TEXTS else "right", overflow="fold")
    for row in rows:
        table.add_row(*(row[index] for index in filled))
    console.print(table)


def _sweep_rows(figures: Mapping[str, Any]) -> Sequence[tuple[str, ...]]:
    return [(f"{each['batch_size']}", short(each["train_images_per_second"])) for each in figures["sweep"]]


def _rows(figures: Mapping[str, Any]) -> Sequence[tuple[str, ...]]:
    rows = []
    for name in (name for name in ROWS if f"{name}_step_seconds" in figures):
        speed, low_high = figures[f"{name}_images_per_second"], figures[f"{name}_images_per_second_range"]
        rate, share = figures.get(f"{name}_flops_per_second"), figures.get(f"{name}_peak_share")
        rows.append(
            (
                ROWS[name],
                short(speed),
                " to ".join(map(short, low_high)),
                f"{1000 * figures[f'{name}_step_seconds']:,.2f}",
                "" if rate is None else f"{rate / 1e9:,.1f}",
                "" if share is None else f"{share:.1%}",
            )
        )
    return rows


def _first(source: str) -> str:
    """Return the first source of a merged operation, "(one:another)"."""
    return source.lstrip("(").split(":")[0]


def short(number: float) -> str:
    """Return a speed with as many digits as its measurement has."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:,.1f}"


def _lines(figures: Mapping[str, Any]) -> list[str]:
    kind, peak = figures["device_kind"], figures["bfloat16_peak_flops_per_second"]
    in_use = figures["peak_memory_bytes"]
    lines = [
        f"share of peak: unknown, no peak rate is listed for {kind}"
        if peak is None
        else f"peak: {peak / 1e12:,.0f} TFLOP/s of bfloat16, by the data sheet",
        "compilation: {forward_compile_seconds:.1f} s forward pass, {train_compile_seconds:.1f} s training step".format(
            **figures
        ),
        f"memory per device: {figures['step_memory_bytes'] / 1e6:,.0f} MB training step, peak of the whole benchmark "
        + ("unknown: the device does not report it" if in_use is None else f"{in_use / 1e6:,.0f} MB"),
        "waiting for data: {waiting_for_data_share:.1%} of end to end; outside the training step: "
        "{outside_step_share:.1%}".format(**figures),
    ]
    if "against" in figures:
        ratios = [
            "{} {:.2f} ({:.2f} to {:.2f})".format(what, figures[f"{name}_ratio"], *figures[f"{name}_ratio_range"])
            for name, what in (("train", "training step"), ("forward", "forward pass"))
        ]
        version, threads = figures["torch_version"], figures["torch_threads"]
        lines.append(f"times as fast as PyTorch {version} ({threads} threads): {', '.join(ratios)}")
    return lines
