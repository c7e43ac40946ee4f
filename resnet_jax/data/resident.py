"""The resident feed: the data set stays on the devices as uint8, and a step takes rows of it by index.

During the training, only indices are copied from the host.
"""

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, Int32, Key, UInt8

from resnet_jax.data.feed import EvalBatch, Examples, check_kind
from resnet_jax.hardware.sharding import place, replicated, sharded


class ResidentData(NamedTuple):
    """A split on the devices, one image a row.

    As `[n, height, width, 3]` a TPU would copy all of it in every call, into tiles that make it 4 times as large.
    """

    rows: UInt8[Array, "n values"]
    labels: Int32[Array, " n"]


class ResidentFeed:
    """A `Feed` whose images are all on the devices.

    Args:
        images, labels: the training split.
        batch_size: images in a step, over all devices.
        key: decides the order of the images.
        mesh: the devices, each of which holds the whole split.
    """

    def __init__(
        self,
        images: UInt8[np.ndarray, "n height width 3"],
        labels: Int32[np.ndarray, " n"],
        *,
        batch_size: int,
        key: Key[Array, ""],
        mesh: Mesh,
    ):
        count = len(labels)
        self.steps_per_epoch = count // batch_size
        self.data = ResidentData(*place((images.reshape(count, -1), labels), replicated(mesh)))
        self._mesh = mesh
        draw = jax.jit(partial(epoch_order, count=count, batch_size=batch_size))
        self._order = lru_cache(maxsize=1)(lambda epoch: np.asarray(draw(key, epoch)))

    def take(self, step: int, count: int) -> Int32[Array, "steps batch"]:
        """Return the indices of the images of `count` steps from `step` on, all of one epoch."""
        epoch, offset = divmod(step, self.steps_per_epoch)
        assert offset + count <= self.steps_per_epoch
        return place(self._order(epoch)[offset : offset + count], sharded(self._mesh, axis=1))

    def state(self) -> dict[str, Any]:
        """Return the kind of the feed alone: the order is a function of the seed and the step."""
        return {"kind": "resident"}

    def restore(self, state: dict[str, Any]) -> None:
        """Check that the run had this feed.

        Raises:
            UserError: it had another one, with another order.
        """
        check_kind(state, "resident")

    def close(self) -> None:
        """Do nothing."""


def gather(data: ResidentData, indices: Int[Array, " batch"], shape: tuple[int, int, int]) -> Examples:
    """Take the images at `indices`; `shape` is that of one image, `(height, width, 3)`."""
    return Examples(data.rows[indices].reshape(-1, *shape), data.labels[indices], indices)


def epoch_order(
    key: Key[Array, ""], epoch: int | Int[Array, ""], count: int, batch_size: int
) -> Int32[Array, "steps batch"]:
    """Draw the order of an epoch: rows are batches of indices; images beyond the last full batch are left out."""
    steps = count // batch_size
    order = jax.random.permutation(jax.random.fold_in(key, epoch), count)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(jnp.int32)


def eval_batches(
    images: UInt8[np.ndarray, "n height width 3"], labels: Int32[np.ndarray, " n"], batch_size: int
) -> Iterator[EvalBatch]:
    """Cut a split into batches of one size, the last one filled up with copies, in which every image counts once."""
    for start in range(0, len(images), batch_size):
        index = np.arange(start, start + batch_size)
        mask = index < len(images)
        index = np.minimum(index, len(images) - 1)
        yield EvalBatch(images[index], labels[index], mask)
