"""Decoded arrays kept as .npy files, so that the next start does not decode the images again."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_path

LIMIT_BYTES = 20 * 10**9
"""Size of the cache, bytes; above it, the least recently used data sets are removed."""
_FORMAT = 4  # of the cache: raised when the same files decode to other arrays
_SUMS = "checksums.json"

Arrays = dict[str, np.ndarray]


def cached(name: str, key: str, make: Callable[[], Arrays]) -> Arrays:
    """Return `make()`, from the cache if it was kept under the same name and key.

    The arrays are read-only. If they are damaged, they are made again; if the cache can't be written, nothing else
    changes. Both are logged as warnings.

    Args:
        name: of the data set, for users who look at the cache.
        key: `fingerprint` of everything that the arrays depend on.
        make: makes the arrays.
    """
    folder = image_cache() / f"{name.replace('/', '-')}-{key}"
    arrays, problem = _read(folder)
    if problem is not None:
        logging.getLogger(__name__).warning("The cache %s is damaged (%s) and is made again.", folder, problem)
    if arrays is None:
        arrays = make()
        for array in arrays.values():
            array.setflags(write=False)
        try:
            _write(folder, arrays)
        except OSError as error:
            logging.getLogger(__name__).warning("Continuing without a cache of the decoded images: %s", error)
    with suppress(OSError):
        os.utime(folder)  # the least recently used are removed first
    return arrays


def image_cache() -> Path:
    """Return the folder of the decoded images, in the platform's cache folder ($XDG_CACHE_HOME on Linux)."""
    return user_cache_path("resnet_jax", appauthor=False) / "images"


def fingerprint(*parts: Any) -> str:
    """Return a hash of values of JSON's types."""
    return hashlib.sha256(json.dumps([_FORMAT, parts]).encode()).hexdigest()[:20]


def stamps(files: Iterable[Path]) -> list[tuple[str, str, int, int]]:
    """Return values that identify each file and its version.

    Both the given and the resolved path are included: a symbolic link may move, or point to another file.
    """
    found = []
    for path in sorted(files):
        stat = path.stat()
        found.append((os.fspath(path.absolute()), os.fspath(path.resolve()), stat.st_size, stat.st_mtime_ns))
    return found


def _read(folder: Path) -> tuple[Arrays | None, object]:
    """Map the arrays in a folder into memory; return them, if they are there and intact, or what damages them."""
    if not folder.is_dir():
        return None, None
    try:
        sums = json.loads((folder / _SUMS).read_text())
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in sums}
        if {name: _checksum(array) for name, array in arrays.items()} == sums:
            return arrays, None
        return None, "checksums differ"
    except (OSError, ValueError, TypeError, EOFError) as error:
        return None, error


def _checksum(array: np.ndarray) -> list[Any]:
    """Return type, shape and CRC-32 of an array, as JSON has them."""
    return [str(array.dtype), list(array.shape), zlib.crc32(np.ascontiguousarray(array).data.cast("B"))]


def _write(folder: Path, arrays: Arrays) -> None:
    """Write the arrays into a temporary folder and rename it when it is complete: a kill leaves no partial cache."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob("*.tmp"):
        if time.time() - left.stat().st_mtime > 3600:  # of a killed run
            shutil.rmtree(left, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array)
        (partial / _SUMS).write_text(json.dumps({name: _checksum(array) for name, array in arrays.items()}))
        if _read(folder)[0] is None:  # and not written by another process meanwhile
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _remove_oldest(folder)


def _remove_oldest(new: Path) -> None:
    """Remove the least recently used folders until the cache is within its limit; the new one is kept."""
    others = [path for path in new.parent.iterdir() if path.is_dir() and path != new and path.suffix != ".tmp"]
    sizes = {path: folder_size(path) for path in (new, *others)}
    total = sum(sizes.values())
    for path in sorted(others, key=lambda path: path.stat().st_mtime):
        if total <= LIMIT_BYTES:
            break
        shutil.rmtree(path, ignore_errors=True)
        total -= sizes[path]


def folder_size(folder: Path) -> int:
    """Return the bytes of all files below a folder; 0 if it does not exist."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process has just removed it
            total += path.stat().st_size if path.is_file() else 0
    return total
