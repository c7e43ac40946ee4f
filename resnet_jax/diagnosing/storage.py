"""Disks, caches and prepared data sets, and how fast images are decoded."""

import io
import shutil
import time
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_jax.data.reading.cache import LIMIT_BYTES, folder_size, image_cache
from resnet_jax.data.reading.images import Example, decode
from resnet_jax.data.reading.tfds_folders import OWN, prepared_folders
from resnet_jax.diagnosing.finding import Finding

GB = 1e9


def compiled_programs(folder: str | None) -> Finding:
    """Report where JAX keeps compiled programs from one start to the next, and their size."""
    if folder is None:
        remedy = "unset JAX_COMPILATION_CACHE_DIR, which is empty, or name a folder"
        return Finding("note", "compilations", "not kept: each start compiles again", remedy)
    return Finding("ok", "compilations", f"kept in {folder}, {folder_size(Path(folder)) / GB:.2f} GB")


def decoded_images() -> Finding:
    """Report the size of the cache of decoded images."""
    folder = image_cache()
    size, limit = folder_size(folder) / GB, LIMIT_BYTES / GB
    return Finding("ok", "image cache", f"{folder}, {size:.2f} of at most {limit:.0f} GB")


def disk(what: str, folder: Path, remedy: str) -> Finding:
    """Report the free space of the disk on which something is written."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / GB:,.1f} GB free at {folder}"
    if free > 10 * GB:
        return Finding("ok", f"disk of {what}", found)
    return Finding("note" if free > GB else "problem", f"disk of {what}", found, f"free space, or {remedy}")


def prepared(data_dir: Path) -> Finding:
    """Report the data sets in a TFDS folder."""
    names = sorted(path.relative_to(data_dir).as_posix() for path in prepared_folders(data_dir))
    if names:
        return Finding("ok", "data sets", f"{', '.join(names)} in {data_dir}")
    remedy = f"none is needed: {', '.join(OWN)} are prepared on first use; for another folder set TFDS_DATA_DIR"
    return Finding("note", "data sets", f"none in {data_dir}", remedy)


def decoding(count: int = 128) -> Finding:
    """Measure how fast JPEG files of a photograph's usual size are decoded."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((500, 375), Image.Resampling.BICUBIC)
    photograph = np.clip(np.asarray(smooth) + rng.normal(0, 12, (375, 500, 1)), 0, 255).astype(np.uint8)
    jpeg = io.BytesIO()
    Image.fromarray(photograph).save(jpeg, "jpeg", quality=90)
    start = time.perf_counter()
    decode([Example("made here", jpeg.getvalue(), 0)] * count, image_size=224)
    speed = count / (time.perf_counter() - start)
    size = f"JPEG of 500x375 and {len(jpeg.getvalue()) / 1000:.0f} kB, to 224x224"
    return Finding("ok", "decoding", f"{speed:,.0f} images/s ({size}), once for each data set")
