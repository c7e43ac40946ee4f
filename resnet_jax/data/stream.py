"""The stream feed: images stay encoded until a worker decodes and crops them for the next step (Grain).

Image i of the run is a function of the seed and of i alone, and so is batch b, made of the images from b * batch_size
on. Workers, threads and processes only divide these batches among themselves, which therefore do not depend on their
number; and a resumed run starts the pipeline at its step, without any state of an iterator.
"""

import logging
import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import PyTree

from resnet_jax.data.encoded import Decoded, EncodedSplit
from resnet_jax.data.feed import EvalBatch, Examples, check_kind
from resnet_jax.data.workers import DecodedBatches, Workers
from resnet_jax.errors import UserError
from resnet_jax.hardware.sharding import sharded

UNREADABLE_SHARE = 0.01
"""Share of a split's images that may be unreadable; with more, the run stops."""
ENDLESS = 2**31 - 1


@dataclass(frozen=True)
class ForTraining(grain.transforms.RandomMap):
    """From the place of an image to the image, cropped at random."""

    split: EncodedSplit
    crop_scale: tuple[float, float] | None

    def random_map(self, element: int, rng: np.random.Generator) -> Decoded:
        return self.split.read_or_replace(element, rng, self.crop_scale)


@dataclass(frozen=True)
class ForEvaluation(grain.transforms.Map):
    """From the place of an image to the image."""

    split: EncodedSplit

    def map(self, element: int) -> Decoded:
        return self.split.read(element)


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
        self._batches = training_batches(split, batch_size, seed, crop_scale, _parts())
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
        return jax.block_until_ready(Examples(*(_global(array, self._sharding) for array in local)))


class StreamedBatches:
    """Batches of a split for an evaluation, in its order, decoded each time that they are iterated over.

    Unreadable images, and those that fill up the last batch, are masked. If too many are unreadable, the iteration
    raises a `UserError`.

    Args:
        split: the images.
        batch_size: images in a batch, over all devices of all processes.
        workers: who decodes.
        mesh: the devices; None for batches on the host.
    """

    def __init__(self, split: EncodedSplit, *, batch_size: int, workers: Workers, mesh: Mesh | None = None):
        self._count = split.num_images
        self._batch_size = batch_size
        self._workers = workers
        self._sharding = None if mesh is None else sharded(mesh)
        self._part, self._parts = (0, 1) if mesh is None else _parts()
        # Endless, since Grain keeps the last batch of a dataset that ends in shared memory until a garbage collection.
        images = grain.MapDataset.range(ENDLESS).map(ForEvaluation(split))
        self._batches = images.batch(batch_size // self._parts)[self._part :: self._parts]
        self._unreadable = Unreadable(split)

    def __len__(self) -> int:
        return math.ceil(self._count / self._batch_size)

    def __iter__(self) -> Iterator[EvalBatch]:
        local = self._batch_size // self._parts
        with closing(self._workers.iterate(self._batches)) as decoded:
            for number, batch in enumerate(islice(decoded, len(self))):
                self._unreadable.add(batch)
                places = number * self._batch_size + self._part * local + np.arange(local)
                mask = (places < self._count) & (batch.unreadable < 0)
                arrays = batch.image, batch.label, mask
                yield EvalBatch(*(arrays if self._sharding is None else (_global(it, self._sharding) for it in arrays)))


class Unreadable:
    """Counts the unreadable images of a split, and logs each of them once."""

    def __init__(self, split: EncodedSplit):
        self._split = split
        self._found: set[int] = set()

    def add(self, batch: Decoded) -> None:
        """Count those of a batch.

        Raises:
            UserError: there are too many.
        """
        for place in sorted(set(batch.unreadable.ravel().tolist()) - self._found - {-1}):
            self._found.add(place)
            count, every = len(self._found), self._split.num_images
            note = f"{_reason(self._split, place)} It is left out; {count:,} of {every:,} images are unreadable so far"
            if count > UNREADABLE_SHARE * every:
                raise UserError(
                    f"{note}, over {UNREADABLE_SHARE:.0%}: restore the images, or remove the unreadable ones"
                )
            logging.getLogger(__name__).warning("%s.", note)


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
    images = grain.MapDataset.range(split.num_images).seed(seed % 2**32).shuffle()
    images = images[: split.num_images // batch_size * batch_size].repeat()
    # Each part of a batch holds images that follow each other: an image's place does not depend on the number of parts.
    return images.random_map(ForTraining(split, crop_scale)).batch(batch_size // count)[part::count]


def _parts() -> tuple[int, int]:
    """Return the part of each batch that this process loads, and their number."""
    return jax.process_index(), jax.process_count()


def _global(local: np.ndarray, sharding: NamedSharding) -> PyTree:
    """Make one array over all processes, each of which has loaded its part."""
    return jax.make_array_from_process_local_data(sharding, local)


def _reason(split: EncodedSplit, index: int) -> str:
    """Return why an image is unreadable, with its name."""
    try:
        split.image(index)
    except UserError as error:
        return str(error)
    return f"{split.origin(index)} could not be read once."
