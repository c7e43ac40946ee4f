"""Figures of a comparison as the columns of the table in the terminal and of the CSV file."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Network = Mapping[str, Any]


class Column(NamedTuple):
    """One figure of each network."""

    heading: str
    """In the terminal."""
    name: str
    """In the CSV file: timm's (github.com/huggingface/pytorch-image-models, benchmark.py), where it has this figure."""
    value: Callable[[Network], float | int | None]
    format: str

    def text(self, network: Network) -> str:
        """Return the figure as it is shown, empty if it is missing."""
        value = self.value(network)
        return "" if value is None else format(value, self.format)


def _measured(key: str, scale: float = 1.0) -> Callable[[Network], float | None]:
    return lambda network: None if network.get(key) is None else network[key] * scale


def _trained(key: str, scale: float = 1.0) -> Callable[[Network], float | None]:
    def value(network: Network) -> float | None:
        figure = (network["trained"] or {}).get(key)
        return None if figure is None else figure * scale

    return value


def _published(weights: str, figure: str) -> Callable[[Network], float | None]:
    return lambda network: next((it[figure] for it in network["published"] if it["weights"] == weights), None)


def _ceiling(target: str) -> Callable[[Network], float | None]:
    return lambda network: network["ceilings"].get(target, {}).get("images_per_second")


COLUMNS = (
    Column("M parameters", "param_count", _measured("parameters", 1e-6), ".2f"),
    Column("GMAC", "infer_gmacs", _measured("multiply_adds", 1e-9), ".4g"),
    Column("M activations", "infer_macts", _measured("activations", 1e-6), ".3g"),
    Column("latency, ms", "infer_latency_ms", _measured("latency_seconds", 1e3), ",.2f"),
    Column("forward images/s", "infer_samples_per_sec", _measured("forward_images_per_second"), ",.1f"),
    Column("batch", "infer_batch_size", _measured("forward_batch_size"), ".0f"),
    Column("training images/s", "train_samples_per_sec", _measured("train_images_per_second"), ",.1f"),
    Column("batch trained", "train_batch_size", _measured("train_batch_size"), ".0f"),
    Column("MB in a step", "train_memory_mb", _measured("step_memory_bytes", 1e-6), ",.0f"),
    Column("MB of weights", "weights_mb", _measured("weight_bytes", 1e-6), ",.1f"),
    Column("forward compiles, s", "infer_compile_seconds", _measured("forward_compile_seconds"), ".1f"),
    Column("step compiles, s", "train_compile_seconds", _measured("train_compile_seconds"), ".1f"),
)
TRAINED = (
    Column("test accuracy, %", "test_accuracy", _trained("accuracy_mean", 100.0), ".2f"),
    Column("+-", "test_accuracy_std", _trained("accuracy_std", 100.0), ".2f"),
    Column("calibration error, %", "calibration_error", _trained("calibration_error_mean", 100.0), ".2f"),
    Column("training, s", "training_seconds", _trained("training_seconds_mean"), ",.1f"),
    Column(
        "% per training second", "accuracy_per_training_second", _trained("accuracy_per_training_second", 100.0), ".3g"
    ),
    Column("% per M parameters", "accuracy_per_m_params", _trained("accuracy_per_million_parameters", 100.0), ".3g"),
    Column("% per GMAC", "accuracy_per_gmac", _trained("accuracy_per_giga_multiply_adds", 100.0), ",.0f"),
)
PUBLISHED = tuple(
    Column(f"published {weights[-2:]} {figure}, %", f"published_{figure}_{weights[-2:].lower()}", value, ".2f")
    for weights in ("IMAGENET1K_V1", "IMAGENET1K_V2")
    for figure, value in (("top1", _published(weights, "top1")), ("top5", _published(weights, "top5")))
)


def columns_of(networks: Sequence[Network]) -> list[Column]:
    """Return the columns that have a figure for at least one network; accuracies come first."""
    targets = dict.fromkeys(target for network in networks for target in network["ceilings"])
    ceilings = (
        Column(f"{target}, at most images/s", f"ceiling_{target}_samples_per_sec", _ceiling(target), ",.0f")
        for target in targets
    )
    columns = (*TRAINED, *COLUMNS, *ceilings, *PUBLISHED)
    return [column for column in columns if any(column.value(network) is not None for network in networks)]


def rows_of(networks: Sequence[Network]) -> list[dict[str, str]]:
    """Return a row of texts for each network, by heading."""
    columns = columns_of(networks)
    return [{column.heading: column.text(network) for column in columns} for network in networks]


def csv_of(networks: Sequence[Network], image_size: int) -> str:
    """Return the CSV file: a row for each network, with full precision.

    Args:
        networks: of the comparison.
        image_size: height and width of the measured images, pixels.
    """
    columns, file = columns_of(networks), io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(("model", "infer_img_size", "train_img_size", *(column.name for column in columns)))
    for network in networks:
        values = (column.value(network) for column in columns)
        rows.writerow((network["arch"], image_size, image_size, *("" if it is None else f"{it:.8g}" for it in values)))
    return file.getvalue()
