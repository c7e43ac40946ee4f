"""A network with the input of its export, and the comparison of the two."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from resnet_jax.classifier.classifier import Classifier
from resnet_jax.errors import UserError

Layout = Literal["NHWC", "NCHW"]
TOLERANCE = 1e-4  # absolute for logits up to 10, as trained networks have; in proportion for larger ones


@dataclass(frozen=True, eq=False)
class Served:
    """A network with the input that its users will give it."""

    classifier: Classifier
    batch_size: int | None
    """Number of images in a call; None for any number."""
    layout: Layout
    with_preprocessing: bool
    """Whether it accepts uint8 images and normalizes them; otherwise float32 images that are normalized."""

    def logits(self, images: jax.Array) -> jax.Array:
        return self.classifier.model(self.prepare(images))

    def prepare(self, images: jax.Array) -> jax.Array:
        """Map the input of the export to that of the network."""
        if self.layout == "NCHW":
            images = images.transpose(0, 2, 3, 1)
        return self.classifier.preprocessing.normalize(images) if self.with_preprocessing else images

    def images(self) -> jax.ShapeDtypeStruct:
        """Return shape and type of the input; a dynamic batch is a symbol."""
        size = self.classifier.preprocessing.image_size
        batch = self.batch_size or jax.export.symbolic_shape("batch")[0]
        shape = (batch, size, size, 3) if self.layout == "NHWC" else (batch, 3, size, size)
        return jax.ShapeDtypeStruct(shape, jnp.uint8 if self.with_preprocessing else jnp.float32)

    def description(self) -> dict[str, Any]:
        """Return what a user of the export needs to know."""
        images, batch = self.images(), self.batch_size or "batch"
        return {
            "architecture": self.classifier.network.arch,
            "images": {"shape": [batch, *images.shape[1:]], "dtype": images.dtype.name, "layout": self.layout},
            "logits": {"shape": [batch, self.classifier.network.num_classes], "dtype": "float32"},
            "class_names": self.classifier.class_names,
            "preprocessing": {"normalizes": self.with_preprocessing, **asdict(self.classifier.preprocessing)},
        }


def compare(served: Served, run: Callable[[list[np.ndarray]], list[np.ndarray]]) -> str:
    """Compare the logits of `run` with the network's on batches of random images.

    Raises:
        UserError: they differ by more than rounding.
    """
    counts, size = [served.batch_size] if served.batch_size else [1, 7], served.classifier.preprocessing.image_size
    images = np.random.default_rng(0).integers(0, 256, (max(counts), size, size, 3), np.uint8)
    normalized = np.asarray(served.classifier.preprocessing.normalize(jnp.asarray(images)))
    with jax.default_matmul_precision("highest"):  # GPUs and TPUs multiply more coarsely by default
        network = jax.jit(lambda images: served.classifier.model(images))
        expected = [np.asarray(network(normalized[:count])) for count in counts]
    given = images if served.with_preprocessing else normalized
    given = given.transpose(0, 3, 1, 2) if served.layout == "NCHW" else given
    found = run([given[:count] for count in counts])
    reach = np.abs(expected[-1]).max()
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which is refused below
        difference = np.max([np.abs(ours - theirs).max() for ours, theirs in zip(expected, found, strict=True)])
    verdict = f"largest difference of the logits {difference:.1e} (the largest logit is {reach:.1f})"
    if not difference <= TOLERANCE * max(1, reach / 10):  # also true if a logit is NaN
        raise UserError(
            f"the export gives other logits: {verdict}. Nothing was written; export to another format, and report this"
        )
    return verdict
