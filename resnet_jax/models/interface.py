"""The interface of every network in the registry."""

from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

Images = Float[Array | np.ndarray, "batch height width 3"]


class Features(NamedTuple):
    """What a network computes before its classifier."""

    pooled: Float[Array, "batch features"]
    stages: tuple[Float[Array, "batch height width channels"], ...]


@runtime_checkable
class ImageClassifier(Protocol):
    """A network for image classification, an `nnx.Module` without random state of its own."""

    head: ClassVar[str]
    """Attribute name of the classifier."""

    def features(self, images: Images, *, train: bool | None = None, rngs: nnx.Rngs | None = None) -> Features:
        """Compute the pooled features and the output of each stage; arguments as in `__call__`."""
        ...

    def __call__(
        self, images: Images, *, train: bool | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        """Compute the logits, float32.

        Args:
            images: normalized images.
            train: normalize by the statistics of the batch, update the running ones, and apply dropout.
                By default, as `model.train()` or `model.eval()` has set it; evaluation from the start.
            rngs: random state of the call, whose stream `dropout` networks with dropout or stochastic depth use.
        """
        ...

    def depth(self, path: tuple) -> int:
        """Return how far a weight is below the classifier, 0 in it, from its path of names and indices."""
        ...
