"""Splits whose images stay encoded until they are needed; workers import this module, so it does not load JAX."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, UInt8

from resnet_jax.data.reading.crop import random_resized_crop
from resnet_jax.data.reading.images import Example, Examples, Interpolation, ReadTogether, decode_rgb, decoding
from resnet_jax.errors import UserError

SAMPLE = 1000
"""Images that represent a split where all would take too long."""
_REPLACEMENTS = 20  # tries to replace an unreadable image; if a tenth is unreadable, all fail once in 1e20

_NONE: Mapping[int, Example] = MappingProxyType({})
Decode = Callable[[bytes | Path], np.ndarray]
One = tuple[np.ndarray, int, int, int]
"""One image of a `Decoded`, with its label, place and unreadable image."""


class Decoded(NamedTuple):
    """Decoded images."""

    image: UInt8[np.ndarray, "batch height width 3"]
    label: Int32[np.ndarray, " batch"]
    place: Int32[np.ndarray, " batch"]
    """Place of each image in the split."""
    unreadable: Int32[np.ndarray, " batch"]
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
            read = pool.map(self._read, (index * self.num_images // count for index in range(count)))
            images = [image for image, _, _, unreadable in read if unreadable < 0]
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

    def read(self, places: Int[np.ndarray, " batch"]) -> Decoded:
        """Decode images for an evaluation; black, with `unreadable` set, if one can't be, and black after the end.

        Args:
            places: of the images in the split.
        """
        ahead = self._ahead(places)
        return _stack([self._read(place, ahead) for place in places.tolist()])

    def read_or_replace(
        self,
        places: Int[np.ndarray, " batch"],
        rng: Callable[[int], np.random.Generator],
        crop_scale: tuple[float, float] | None = None,
    ) -> Decoded:
        """Decode images for the training; one at a random place stands for an unreadable one.

        Args:
            places: of the images in the split.
            rng: from the number of an image in the batch to the source of all of its randomness.
            crop_scale: share of the area that `random_resized_crop` takes; None for the images as in an evaluation.

        Raises:
            UserError: no readable image was found in place of an unreadable one.
        """
        ahead = self._ahead(places)
        return _stack(
            [
                self._read_or_replace(place, partial(rng, number), crop_scale, ahead)
                for number, place in enumerate(places.tolist())
            ]
        )

    def _ahead(self, places: Int[np.ndarray, " batch"]) -> Mapping[int, Example]:
        """Read the examples of a batch at once, where that is faster."""
        if not isinstance(self.examples, ReadTogether):
            return {}
        return self.examples.together(self.indices[places[places < self.num_images]].tolist())

    def _read(self, place: int, ahead: Mapping[int, Example] = _NONE) -> One:
        if place < self.num_images:
            try:
                return *self._decode(place, self._whole, ahead), place, -1
            except UserError:
                pass
        return np.zeros(self.image_shape, np.uint8), 0, place, place if place < self.num_images else -1

    def _read_or_replace(
        self,
        place: int,
        rng: Callable[[], np.random.Generator],
        crop_scale: tuple[float, float] | None,
        ahead: Mapping[int, Example],
    ) -> One:
        decode, source = self._whole, None
        if crop_scale is not None:
            source = rng()
            decode = partial(random_resized_crop, size=self.image_shape[0], scale=crop_scale, rng=source)
        unreadable, other = -1, place
        for _ in range(_REPLACEMENTS):
            try:
                return *self._decode(other, decode, ahead), other, unreadable
            except UserError as error:
                source = source or rng()
                unreadable, reason, other = place, error, int(source.integers(self.num_images))
        raise reason

    def _decode(self, place: int, decode: Decode, ahead: Mapping[int, Example] = _NONE) -> tuple[np.ndarray, int]:
        index = int(self.indices[place])
        example = ahead[index] if index in ahead else self.examples[index]
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


def _stack(images: list[One]) -> Decoded:
    pixels, *numbers = zip(*images, strict=True)
    return Decoded(np.stack(pixels), *(np.array(each, np.int32) for each in numbers))
