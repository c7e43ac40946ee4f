"""Folders that TFDS has prepared: where they are and what is in them. Importing this loads no TFDS."""

import os
import re
from pathlib import Path

OWN = ("cifar10", "cifar100", "digits", "fashion_mnist", "mnist")
"""Data sets that this project downloads and prepares itself."""


def default_data_dir() -> Path:
    """Return $TFDS_DATA_DIR, by default ~/tensorflow_datasets, as TFDS does."""
    return Path(os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets").expanduser()


def prepared_folders(root: Path) -> list[Path]:
    """Find the prepared versions up to three folders down; those being written are named incomplete.something."""
    paths = (path.parent for depth in ("", "*/", "*/*/", "*/*/*/") for path in root.glob(depth + "features.json"))
    return [path for path in paths if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
