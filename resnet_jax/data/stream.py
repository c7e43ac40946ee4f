"""The stream feed: images stay encoded until a worker decodes and crops them for the next step (Grain).

Image i of the run is a function of the seed and of i alone, and so is batch b, made of the images from b * batch_size
on. Workers, threads and processes only divide these batches among themselves, which therefore do not depend on their
number; and a resumed run starts the pipeline at its step, without any state of an iterator.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from resnet_jax.data.encoded import Decoded, EncodedSplit
from resnet_jax.data.feed import Examples, check_kind
from resnet_jax.data.unreadable import Unreadable
from resnet_jax.data.workers import DecodedBatches, Workers
from resnet_jax.hardware.sharding import from_parts, own_part, sharded


@dataclass(frozen=True)
class ForTraining(grain.transforms.MapWithIndex):
    """From the places of the images of a batch to the images, cropped at random."""

    split: EncodedSplit
    crop_scale: tuple[float, float] | None
    seed: int

    def map_with_index(self, index: int, element: np.ndarray) -> Decoded:
        first = index * len(element)  # number of its first image in the run
        return self.split.read_or_replace(element, lambda number: image_rng(self.seed, first + number), self.crop_scale)


def image_rng(seed: int, image: int) -> np.random.Generator:
    """Return the source of randomness of an image of a run, which overlaps with that of no other image.

    Args:
        seed: of the run.
        image: its number in the run.
    """
    return np.random.Generator(np.random.Philox(key=seed, counter=image << 128))


class StreamFeed:
    """A `Feed` that decodes the images of the next call while the devices compute.

    Args:
        split: the training images.
        batch_size: images in a step, over all devices of all processes.
        seed: decides the order of the images and their crops.
        crop_scale: share of an image's area that a random-resized crop takes; None for no crop.
        mesh: the devices.
        workers: who decodes.
    """

    data = ()

    def __init__(
        self,
        split: EncodedSplit,
        *,
        batch_size: int,
        seed: int,
        crop_scale: tuple[float, float] | None,
        mesh: Mesh,
        workers: Workers,
    ):
        self.steps_per_epoch = split.num_images // batch_size
        self._sharding = sharded(mesh, axis=1)
        self._batches = training_batches(split, batch_size, seed, crop_scale, own_part())
        self._workers = workers
        self._unreadable = Unreadable(split)
        self._iterator: DecodedBatches | None = None
        self._loader = ThreadPoolExecutor(1, "loading")
        self._next: tuple[int, int, Future] | None = None
        """Step and count of a call, and its input."""

    def take(self, step: int, count: int) -> Examples:
        """Return the images of `count` steps from `step` on, and start to load those of the next call.

        Raises:
            UserError: too many images are unreadable.
        """
        assert step % self.steps_per_epoch + count <= self.steps_per_epoch
        if self._next is None or self._next[:2] != (step, count):
            self._restart(step)
            self._prefetch(step, count)
        assert self._next is not None
        examples = self._next[2].result()
        after = step + count
        self._prefetch(after, min(count, self.steps_per_epoch - after % self.steps_per_epoch))
        return examples

    def state(self) -> dict[str, Any]:
        """Return the kind of the feed alone: the images are a function of the seed and the step."""
        return {"kind": "stream"}

    def restore(self, state: dict[str, Any]) -> None:
        """Check that the run had this feed.

        Raises:
            UserError: it had another one, with another order.
        """
        check_kind(state, "stream")

    def close(self) -> None:
        """End the workers."""
        if self._next is not None:
            self._next[2].exception()  # ends: a batch is loaded, or an error has come
            self._next = None
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _restart(self, step: int) -> None:
        self.close()
        self._iterator = self._workers.iterate(self._batches[step:])

    def _prefetch(self, step: int, count: int) -> None:
        self._next = step, count, self._loader.submit(self._load, count)

    def _load(self, count: int) -> Examples:
        assert self._iterator is not None
        batches = [next(self._iterator) for _ in range(count)]
        for batch in batches:
            self._unreadable.add(batch)
        local = (np.stack(arrays) for arrays in zip(*((it.image, it.label, it.place) for it in batches), strict=True))
        return jax.block_until_ready(Examples(*(from_parts(array, self._sharding) for array in local)))


def training_batches(
    split: EncodedSplit,
    batch_size: int,
    seed: int,
    crop_scale: tuple[float, float] | None,
    parts: tuple[int, int] = (0, 1),
) -> grain.MapDataset[Decoded]:
    """Return the endless sequence of training batches; batch b holds the images of step b.

    Each epoch has an order of its own, and leaves out the images beyond its last full batch.

    Args:
        split: the training images.
        batch_size: images in a step, over all processes.
        seed: decides the order and the crops.
        crop_scale: see `StreamFeed`.
        parts: which part of each batch to return, from 0, and the number of parts.
    """
    part, count = parts
    seed %= 2**32  # what Grain takes
    places = grain.MapDataset.range(split.num_images).seed(seed).shuffle()
    places = places[: split.num_images // batch_size * batch_size].repeat()
    # Each part of a batch holds images that follow each other: an image's number does not depend on that of the parts.
    decoded = places.batch(batch_size // count).map_with_index(ForTraining(split, crop_scale, seed))
    return decoded[part::count]
