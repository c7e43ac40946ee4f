"""A source decoded into memory, with a cache of the decoded images."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int32, UInt8

from resnet_jax.data.reading.cache import cached, fingerprint, stamps
from resnet_jax.data.reading.images import Interpolation, decode
from resnet_jax.data.source import Source
from resnet_jax.data.split import stratified_holdout
from resnet_jax.data.statistics import channel_statistics
from resnet_jax.errors import UserError


class Split(NamedTuple):
    """Decoded images and the class of each."""

    images: UInt8[np.ndarray, "n height width 3"]
    labels: Int32[np.ndarray, " n"]


@dataclass(frozen=True)
class Dataset:
    """A data set in memory; its arrays are read-only."""

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    val: Split | None = None
    """Images held out of the training set."""
    key: str | None = None
    """Hash of everything that the images depend on; None if they are not cached."""

    def hold_out(self, fraction: float | None) -> "Dataset":
        """Return the data set with this share of the training images, of each class, in `val`; with None, as it is."""
        if fraction is None:
            return self
        kept, held = (
            Split(self.train.images[indices], self.train.labels[indices])
            for indices in stratified_holdout(self.train.labels, fraction)
        )
        key = None if self.key is None else f"{self.key}-{fraction}"
        return Dataset(self.name, self.class_names, kept, self.test, held, key)

    def statistics(self) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
        """Return mean and standard deviation of the training images' channels, in units of 0 to 1."""

        def compute() -> dict[str, np.ndarray]:
            return dict(zip(("mean", "std"), channel_statistics(self.train.images), strict=True))

        arrays = compute() if self.key is None else cached(f"{self.name}-statistics", fingerprint(self.key), compute)
        return np.asarray(arrays["mean"]), np.asarray(arrays["std"])


def load(
    source: Source, image_size: int | None, *, resize: int | None = None, interpolation: Interpolation = "bilinear"
) -> Dataset:
    """Decode all images of a source, or read them from the cache.

    Args:
        source: the images.
        image_size: pixels; the shorter side is resized and the center square of this size kept. None for as stored.
        resize: pixels that the shorter side is resized to; by default `image_size`.
        interpolation: how images are resized.

    Raises:
        UserError: an image is unreadable, the images differ in size, or they do not fit in memory.
    """

    def decode_splits() -> dict[str, np.ndarray]:
        (train, train_labels), (test, test_labels) = (
            decode(split, image_size, resize, interpolation) for split in (source.train, source.test)
        )
        if train.shape[1:] != test.shape[1:]:
            raise UserError(
                f"the images of {source.name} have one size (height, width) in train and another in test: "
                f"{train.shape[1:3]} and {test.shape[1:3]}. Set `--data.image-size` to resize and crop all of them."
            )
        return {"train": train, "train_labels": train_labels, "test": test, "test_labels": test_labels}

    sizes = [image_size, resize, interpolation]
    key = fingerprint(source.class_names, source.layout, sizes, stamps(source.files))
    arrays = cached(source.name, key, decode_splits)
    train, test = (Split(arrays[split], arrays[f"{split}_labels"]) for split in ("train", "test"))
    return Dataset(source.name, source.class_names, train, test, key=key)
