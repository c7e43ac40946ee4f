"""A source decoded into memory, with a cache of the decoded images."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int32, UInt8

from resnet_jax.data.reading.cache import cached, fingerprint, stamps
from resnet_jax.data.reading.images import Interpolation, decode
from resnet_jax.data.source import Source
from resnet_jax.data.split import stratified_holdout
from resnet_jax.data.statistics import channel_statistics
from resnet_jax.errors import UsageError, UserError


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
    """Images held out to choose the best checkpoint."""
    key: str | None = None
    """Hash of everything that the images depend on; None if they are not cached."""
    contents: Any = None
    """What identifies the images, as in `Source`."""
    test_names: tuple[str, ...] = ()
    """Paths of the test images; empty if they have none."""
    remarks: tuple[str, ...] = ()
    """Notes about the images for the user."""

    def hold_out(self, fraction: float | None) -> "Dataset":
        """Return the data set with this share of the training images, of each class, in `val`; with None, as it is.

        Raises:
            UsageError: the data set has a validation split of its own.
        """
        if fraction is None:
            return self
        if self.val is not None:
            raise UsageError(
                f"{self.name} has a validation split of its own, and the configuration holds out {fraction} "
                "of the training images as well: train without one of them (`--data.val-fraction None`)"
            )
        kept, held = (
            Split(self.train.images[indices], self.train.labels[indices])
            for indices in stratified_holdout(self.train.labels, fraction)
        )
        remark = f"--data.val-fraction: {fraction:.3g} of the training images of each class choose the best checkpoint"
        key = None if self.key is None else f"{self.key}-{fraction}"
        return replace(self, train=kept, val=held, key=key, remarks=(*self.remarks, remark))

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
        arrays: dict[str, np.ndarray] = {}
        for split, examples in splits.items():
            images, labels = decode(examples, image_size, resize, interpolation)
            first = next(iter(splits))
            if images.shape[1:] != arrays.setdefault(first, images).shape[1:]:
                raise UserError(
                    f"the images of {source.name} have one size (height, width) in {first} and another in {split}: "
                    f"{arrays[first].shape[1:3]} and {images.shape[1:3]}. Resize them, or train with "
                    "`--data.image-size` for all of them."
                )
            arrays |= {split: images, f"{split}_labels": labels}
        return arrays

    named = {"train": source.train, "test": source.test, "val": source.val or ()}
    splits = {split: examples for split, examples in named.items() if len(examples)}
    sizes = [image_size, resize, interpolation]
    key = fingerprint(source.class_names, source.layout, sizes, stamps(source.files))
    arrays = cached(source.name, key, decode_splits)
    read = {name: Split(arrays[name], arrays[f"{name}_labels"]) for name in splits}
    train = read.get("train", Split(*(values[:0] for values in read["test"])))
    return Dataset(
        name=source.name,
        class_names=source.class_names,
        train=train,
        test=read["test"],
        val=read.get("val"),
        key=key,
        contents=source.contents,
        test_names=tuple(example.origin for example in source.test) if source.layout else (),
        remarks=source.remarks,
    )
