"""Splits whose images stay encoded until they are needed; workers import this module, so it does not load JAX."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, UInt8

from resnet_jax.data.reading.crop import random_resized_crop
from resnet_jax.data.reading.images import Examples, Interpolation, decode_rgb, decoding
from resnet_jax.errors import UserError

SAMPLE = 1000
"""Images that represent a split where all would take too long."""
_REPLACEMENTS = 20  # tries to replace an unreadable image; if a tenth is unreadable, all fail once in 1e20

Decode = Callable[[bytes | Path], np.ndarray]


class Decoded(NamedTuple):
    """One decoded image, or with a leading axis those of a batch."""

    image: UInt8[np.ndarray, "*batch height width 3"]
    label: Int32[np.ndarray, "*batch"]
    place: Int32[np.ndarray, "*batch"]
    """Place of the image in the split."""
    unreadable: Int32[np.ndarray, "*batch"]
    """Place of the unreadable image that this one stands for; -1 if it stands for itself."""


@dataclass(frozen=True)
class EncodedSplit:
    """Images of one split, each decoded when it is read."""

    examples: Examples
    indices: Int[np.ndarray, " n"]
    """Index of each image in `examples`."""
    labels: Int32[np.ndarray, " n"] | None
    """Class of each image; None if only the records themselves have them."""
    image_size: int | None
    """Pixels; None for as stored."""
    resize: int | None = None
    """Pixels that the shorter side is resized to before the center square is cropped."""
    interpolation: Interpolation = "bilinear"

    @property
    def num_images(self) -> int:
        return len(self.indices)

    @cached_property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and 3; without `image_size`, those of the first image."""
        if self.image_size is not None:
            return (self.image_size, self.image_size, 3)
        height, width, _ = decoding(next(iter(self.examples)), self._whole).shape
        return (height, width, 3)

    def select(self, indices: Int[np.ndarray, " kept"]) -> "EncodedSplit":
        """Return the split with only the images at `indices`."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, indices=self.indices[indices], labels=labels)

    def sample(self) -> UInt8[np.ndarray, "n height width 3"]:
        """Decode `SAMPLE` images, evenly spaced over the split, or all if it has fewer; unreadable ones are left out.

        Raises:
            UserError: none of them is readable.
        """
        count = min(self.num_images, SAMPLE)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            read = pool.map(self.read, (index * self.num_images // count for index in range(count)))
            images = [each.image for each in read if each.unreadable < 0]
        return np.stack(images or [self.image(0)])  # which raises the reason

    def image(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """Decode one image, resized and cropped as for an evaluation.

        Raises:
            UserError: it is not readable.
        """
        return self._decode(index, self._whole)[0]

    def origin(self, index: int) -> str:
        """Return where an image comes from, as a name for messages."""
        return self.examples[int(self.indices[index])].origin

    def read(self, index: int) -> Decoded:
        """Decode one image for an evaluation; black, with `unreadable` set, if it can't be, and black after the end."""
        if index < self.num_images:
            try:
                return _decoded(*self._decode(index, self._whole), index, -1)
            except UserError:
                pass
        return _decoded(np.zeros(self.image_shape, np.uint8), 0, index, index if index < self.num_images else -1)

    def read_or_replace(
        self, index: int, rng: np.random.Generator, crop_scale: tuple[float, float] | None = None
    ) -> Decoded:
        """Decode one image for the training; one at a random place stands for an unreadable one.

        Args:
            index: place of the image in the split.
            rng: source of all randomness, so that the result is a function of its state.
            crop_scale: share of the area that `random_resized_crop` takes; None for the image as in an evaluation.

        Raises:
            UserError: no readable image was found.
        """
        decode = self._whole
        if crop_scale is not None:
            decode = partial(random_resized_crop, size=self.image_shape[0], scale=crop_scale, rng=rng)
        unreadable, place = -1, index
        for _ in range(_REPLACEMENTS):
            try:
                return _decoded(*self._decode(place, decode), place, unreadable)
            except UserError as error:
                unreadable, reason, place = index, error, int(rng.integers(self.num_images))
        raise reason

    def _decode(self, index: int, decode: Decode) -> tuple[np.ndarray, int]:
        example = self.examples[int(self.indices[index])]
        image = decoding(example, decode)
        if image.shape != self.image_shape:
            raise UserError(
                f"{example.origin} is {image.shape[1]}x{image.shape[0]}, and the first image is "
                f"{self.image_shape[1]}x{self.image_shape[0]}, but all images must have the same size: resize them, or "
                "train with `--data.image-size` for all of them."
            )
        return image, example.label

    def _whole(self, encoded: bytes | Path) -> np.ndarray:
        return decode_rgb(encoded, self.image_size, resize=self.resize, interpolation=self.interpolation)


def _decoded(image: np.ndarray, label: int, index: int, unreadable: int) -> Decoded:
    return Decoded(image, *(np.array(value, np.int32) for value in (label, index, unreadable)))
