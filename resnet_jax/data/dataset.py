"""A labeled data set with its splits, decoded in memory or still encoded."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int32, UInt8

from resnet_jax.data.encoded import EncodedSplit
from resnet_jax.data.reading.cache import cached, fingerprint
from resnet_jax.data.split import stratified_holdout
from resnet_jax.data.statistics import channel_statistics
from resnet_jax.errors import UsageError


class Split(NamedTuple):
    """Decoded images and the class of each."""

    images: UInt8[np.ndarray, "n height width 3"]
    labels: Int32[np.ndarray, " n"]

    @property
    def num_images(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and 3."""
        return self.images.shape[1:]

    def select(self, indices: Int[np.ndarray, " kept"]) -> "Split":
        """Return the split with only the images at `indices`."""
        return Split(self.images[indices], self.labels[indices])

    def sample(self) -> UInt8[np.ndarray, "n height width 3"]:
        """Return all images."""
        return self.images

    def image(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """Return one image."""
        return self.images[index]


AnySplit = Split | EncodedSplit


@dataclass(frozen=True)
class Dataset:
    """A data set; arrays in memory are read-only."""

    name: str
    class_names: tuple[str, ...]
    train: AnySplit
    test: AnySplit
    val: AnySplit | None = None
    """Images held out to choose the best checkpoint."""
    key: str | None = None
    """Hash of everything that the images depend on; None if nothing is cached."""
    contents: Any = None
    """What identifies the images, as in `Source`."""
    test_names: tuple[str, ...] = ()
    """Paths of the test images; empty if they have none."""
    remarks: tuple[str, ...] = ()
    """Notes about the images for the user."""

    def hold_out(self, fraction: float | None) -> "Dataset":
        """Return the data set with this share of the training images in `val`; with None, as it is.

        The share is that of each class, up to one image, if the labels are known before the images are read.

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
        labels = self.train.labels
        groups = np.zeros(self.train.num_images, np.int32) if labels is None else labels
        kept, held = (self.train.select(indices) for indices in stratified_holdout(groups, fraction))
        images = "training images" if labels is None else "training images of each class"
        remark = f"--data.val-fraction: {fraction:.3g} of the {images} choose the best checkpoint"
        key = None if self.key is None else f"{self.key}-{fraction}"
        return replace(self, train=kept, val=held, key=key, remarks=(*self.remarks, remark))

    def statistics(self) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
        """Return mean and standard deviation of the training images' channels, in units of 0 to 1.

        Of encoded images, they are those of a sample; see `EncodedSplit.sample`.
        """

        def compute() -> dict[str, np.ndarray]:
            return dict(zip(("mean", "std"), channel_statistics(self.train.sample()), strict=True))

        arrays = compute() if self.key is None else cached(f"{self.name}-statistics", fingerprint(self.key), compute)
        return np.asarray(arrays["mean"]), np.asarray(arrays["std"])
