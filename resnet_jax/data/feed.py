"""The interface of a source of training images, wherever the images are stored."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Int, Int32, PyTree, UInt8

from resnet_jax.errors import UserError


class Examples(NamedTuple):
    """Images of one step on the devices, before augmentation."""

    images: UInt8[Array, "batch height width 3"]
    labels: Int[Array, " batch"]
    indices: Int[Array, " batch"]
    """Place of each image in the data set."""


class EvalBatch(NamedTuple):
    """Images to evaluate; those where `mask` is False do not count."""

    images: UInt8[np.ndarray | Array, "batch height width 3"]
    labels: Int32[np.ndarray | Array, " batch"]
    mask: Bool[np.ndarray | Array, " batch"]


@runtime_checkable
class Feed(Protocol):
    """A source of training images.

    What `take` returns is made into `Examples` on the device, inside the compiled step. Its order is a function of the
    seed and the step alone, whatever the number of devices.
    """

    steps_per_epoch: int
    data: PyTree
    """Arrays that stay on the devices during the whole run; empty if every step brings its own images."""

    def take(self, step: int, count: int) -> PyTree:
        """Return the input of `count` steps from `step` on, on the devices, with a leading axis of steps.

        Args:
            step: completed steps of the run.
            count: number of steps; they belong to one epoch.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint stores of the feed, in JSON's types."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a stored state."""
        ...

    def close(self) -> None:
        """End what works for the feed."""
        ...


def check_kind(state: dict[str, Any], kind: str) -> None:
    """Compare the kind of a feed with the stored one, since each has an order of its own.

    A state without a kind is that of a version that had the resident feed alone.

    Raises:
        UserError: they differ.
    """
    if (began := state.get("kind", "resident")) != kind:
        raise UserError(
            f"this run began with the {began} feed, and here its images would come from the {kind} feed in "
            f"another order: continue it on a machine with as much memory, or start a new run with --data.feed {kind}"
        )
