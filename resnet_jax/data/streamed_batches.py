"""Batches of a split for an evaluation, decoded when they are needed."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from resnet_jax.data.encoded import Decoded, EncodedSplit
from resnet_jax.data.feed import EvalBatch
from resnet_jax.data.unreadable import Unreadable
from resnet_jax.data.workers import Workers
from resnet_jax.hardware.sharding import from_parts, own_part, sharded

ENDLESS = 2**31 - 1


@dataclass(frozen=True)
class ForEvaluation(grain.transforms.Map):
    """From the places of the images of a batch to the images."""

    split: EncodedSplit

    def map(self, element: np.ndarray) -> Decoded:
        return self.split.read(element)


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
        self._part, self._parts = (0, 1) if mesh is None else own_part()
        # Endless, since Grain keeps the last batch of a dataset that ends in shared memory until a garbage collection.
        places = grain.MapDataset.range(ENDLESS).batch(batch_size // self._parts)
        self._batches = places.map(ForEvaluation(split))[self._part :: self._parts]
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
                yield EvalBatch(*map(self._place, (batch.image, batch.label, mask)))

    def _place(self, array: np.ndarray) -> np.ndarray | jax.Array:
        return array if self._sharding is None else from_parts(array, self._sharding)
