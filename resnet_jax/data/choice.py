"""Which feed a data set gets: in memory where it fits well, otherwise streamed."""

import math
import os
from typing import Literal

import jax
import numpy as np

from resnet_jax.data.dataset import Dataset
from resnet_jax.data.encoded import EncodedSplit
from resnet_jax.data.reading.cache import fingerprint
from resnet_jax.data.reading.images import Examples, Interpolation
from resnet_jax.data.source import ListedFiles, Source
from resnet_jax.errors import UsageError

FeedName = Literal["resident", "stream"]
SHARE = 0.25
"""Share of the memory that decoded images may take by default; the rest is for the network and its maps."""


def encoded(
    source: Source, image_size: int | None, *, resize: int | None = None, interpolation: Interpolation = "bilinear"
) -> Dataset:
    """Return a source as a data set whose images are decoded when they are needed; for the arguments see `load`."""

    def split(examples: Examples) -> EncodedSplit:
        labels = getattr(examples, "labels", None)
        return EncodedSplit(examples, np.arange(len(examples)), labels, image_size, resize, interpolation)

    return Dataset(
        name=source.name,
        class_names=source.class_names,
        train=split(source.train),
        test=split(source.test),
        val=None if source.val is None else split(source.val),
        key=fingerprint(source.name, source.contents, image_size, resize, interpolation),
        contents=source.contents,
        test_names=source.test.paths if isinstance(source.test, ListedFiles) else (),
        remarks=source.remarks,
    )


def choose_feed(dataset: Dataset, asked: FeedName | None, device: jax.Device, *, crops: bool) -> tuple[FeedName, str]:
    """Choose where the images are during the training.

    Args:
        dataset: the images, encoded.
        asked: the user's choice; None for the one that fits.
        device: one of the devices.
        crops: whether the recipe crops the stored images, which are then needed in each epoch.

    Returns:
        The feed, and a sentence with the reason.

    Raises:
        UsageError: decoded images can't be cropped as the recipe asks.
    """
    splits = [split for split in (dataset.train, dataset.val, dataset.test) if split is not None]
    shape = dataset.test.image_shape
    decoded = sum(split.num_images for split in splits) * math.prod(shape)
    memory = memory_of(device)
    size = f"{decoded / 1e6:,.0f} MB decoded; host or device, whichever has less memory, has {memory / 1e6:,.0f} MB"
    if crops and asked == "resident":
        raise UsageError(
            "--augment.crop-scale: it crops the images as they are stored, and with --data.feed resident only the "
            "resized ones are kept: leave out one of them"
        )
    if crops and dataset.test.image_shape != dataset.test.image_shape[:1] * 2 + (3,):
        raise UsageError("--augment.crop-scale: crops are squares, and the images are not: give --data.image-size")
    if asked is not None:
        return asked, f"feed: {asked}, as the configuration says ({size})"
    if crops:
        return "stream", f"feed: stream, since the crops are taken from the stored images ({size})"
    if decoded > SHARE * memory:
        return "stream", f"feed: stream, since the images would fill over {SHARE:.0%} of the memory ({size})"
    return "resident", f"feed: resident, since the images fit into memory ({size})"


def memory_of(device: jax.Device) -> int:
    """Return the bytes of memory of the host or of a device, whichever has less."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(host, (device.memory_stats() or {}).get("bytes_limit", host))
