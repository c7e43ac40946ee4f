"""Benchmark figures as CSV rows with the columns of timm's benchmark."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_jax.errors import UserError, writing

COLUMNS = (
    *("model", "infer_samples_per_sec", "infer_step_time", "infer_batch_size", "infer_img_size"),
    *("infer_gmacs", "infer_macts", "train_samples_per_sec", "train_step_time", "train_batch_size", "train_img_size"),
    "param_count",
)
"""github.com/huggingface/pytorch-image-models, benchmark.py: times in ms, parameters and activations in millions."""


def check_csv(path: Path) -> None:
    """Make the file if it does not exist.

    Raises:
        UserError: it can't be written, or has other columns.
    """
    with writing(path, "give another --csv"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    if path.stat().st_size:
        with path.open(newline="") as file:
            header = tuple(next(csv.reader(file)))
        if header != COLUMNS:
            raise UserError(f"--csv: {path} has other columns, {','.join(header)}; expected timm's, or a new file")


def add_to_csv(path: Path, figures: Mapping[str, Any]) -> None:
    """Add a row to a file that `check_csv` has checked, and the header if it is new."""
    row: dict[str, Any] = {"model": figures["arch"], "param_count": round(figures["parameters"] / 1e6, 2)}
    for prefix, name in (("infer", "forward"), ("train", "train")):
        row |= {
            f"{prefix}_samples_per_sec": round(figures[f"{name}_images_per_second"], 2),
            f"{prefix}_step_time": round(1000 * figures[f"{name}_step_seconds"], 3),
            f"{prefix}_batch_size": figures["batch_size"],
            f"{prefix}_img_size": figures["image_size"],
        }
    row["infer_gmacs"] = round(figures["multiply_adds_per_image"] / 1e9, 2)
    row["infer_macts"] = round(figures["activations_per_image"] / 1e6, 2)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
