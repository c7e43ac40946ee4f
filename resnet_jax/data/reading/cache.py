"""Decoded arrays kept as .npy files, so that the second start reads no image."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

_FORMAT = 2  # of the cache: raised when the same files decode to other arrays

Arrays = dict[str, np.ndarray]
Sizes = tuple[int | None, int | None]


def cached(name: str, files: Iterable[Path], sizes: Sizes, make: Callable[[], Arrays]) -> Arrays:
    """Returns `make()`, from the cache where one was kept for the same files and sizes.

    The arrays are read-only. A cache that cannot be written costs a warning and nothing else.

    Args:
        name: of the data set, for people who look at the cache.
        files: what the arrays are made from; another path, size or modification time makes another cache.
        sizes: of the images and before their crop, pixels; None for as stored.
        make: makes the arrays.
    """
    folder = cache_dir() / f"{name.replace('/', '-')}-{_fingerprint(files, sizes)}"
    arrays = _read(folder)
    if arrays is None:
        arrays = make()
        for array in arrays.values():
            array.setflags(write=False)
        try:
            _write(folder, arrays)
        except OSError as error:
            logging.getLogger(__name__).warning("Going on without a cache of the decoded images: %s", error)
    return arrays


def cache_dir() -> Path:
    """Returns $XDG_CACHE_HOME/resnet_jax, by default ~/.cache/resnet_jax."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnet_jax"


def _fingerprint(files: Iterable[Path], sizes: Sizes) -> str:
    stats = [(os.fspath(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(files)]
    return hashlib.sha256(json.dumps([_FORMAT, sizes, stats]).encode()).hexdigest()[:20]


def _read(folder: Path) -> Arrays | None:
    """Memory-maps the arrays in a folder; None where there is none or it is damaged."""
    try:
        return {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")} or None
    except (OSError, ValueError, EOFError):
        return None


def _write(folder: Path, arrays: Arrays) -> None:
    """Writes the arrays into a temporary folder, and renames it once whole: a kill leaves no half cache in place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob("*.tmp"):
        if time.time() - left.stat().st_mtime > 3600:  # of a killed run
            shutil.rmtree(left, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array)
        if _read(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
