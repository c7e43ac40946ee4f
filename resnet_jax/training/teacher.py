"""The teacher of a distilled run: a trained network that sees each step's images too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PyTree

from resnet_jax.classifier.class_names import match_classes
from resnet_jax.classifier.classifier import Classifier, load_classifier
from resnet_jax.errors import UsageError, UserError
from resnet_jax.models.cpu.by_onednn import training_by_onednn
from resnet_jax.models.cpu.fusion import fused
from resnet_jax.training.step import Batch


class Taught(NamedTuple):
    """What stays on the devices during a run with a teacher."""

    data: PyTree
    """The `data` of the feed."""
    weights: PyTree
    """Of the teacher."""


@dataclass(frozen=True)
class Teacher:
    """A trained network, as part of a training step."""

    weights: PyTree
    """Parameters and running statistics, an argument of `logits`, since constants would be copied into the program."""
    logits: Callable[[PyTree, Float[Array, "batch height width 3"]], Float[Array, "batch classes"]]
    """From weights and the student's normalized images to logits in the order of the student's classes."""
    info: dict[str, Any]
    """Source, network and checksum, for the checkpoints."""

    def look_at(self, batch: Batch, weights: PyTree) -> Batch:
        """Return a batch with the teacher's logits of its images."""
        return batch._replace(teacher_logits=self.logits(weights, batch.images))

    def join(self, make_batch: Callable[..., Batch]) -> Callable[..., Batch]:
        """Return `make_batch` with the teacher's logits in its batches; its data are then `Taught`."""
        return lambda data, *rest: self.look_at(make_batch(data.data, *rest), data.weights)


def load_teacher(
    source: str,
    class_names: Sequence[str],
    mean: Float[np.ndarray, " 3"],
    std: Float[np.ndarray, " 3"],
    dtype: DTypeLike,
) -> Teacher:
    """Read a teacher.

    Args:
        source: a run folder, a weights file or a published name.
        class_names: of the data set, all of which the teacher must know.
        mean, std: by which the student's images are normalized, in units of 0 to 1.
        dtype: type of the computation.

    Raises:
        UsageError: it does not know one of the classes.
        UserError: it can't be read.
    """
    classifier = load_classifier(source)
    try:
        logit_of = match_classes(classifier, class_names)
    except UserError as error:
        raise UsageError(f"--train.teacher {source}: {error}") from error
    return make_teacher(classifier, source, logit_of, mean, std, dtype)


def make_teacher(
    classifier: Classifier,
    source: str,
    logit_of: Int[np.ndarray, " classes"],
    mean: Float[np.ndarray, " 3"],
    std: Float[np.ndarray, " 3"],
    dtype: DTypeLike,
) -> Teacher:
    """Make a teacher of a trained network; `logit_of` is its logit of each class, the others as in `load_teacher`."""
    network, expected = classifier.network, classifier.preprocessing
    graphdef = nnx.graphdef(network.abstract(dtype=jnp.dtype(dtype)))
    weights = tuple(nnx.to_pure_dict(nnx.state(classifier.model, kind)) for kind in (nnx.Param, nnx.BatchStat))
    own_mean, own_std = (np.array(it, np.float32) for it in (expected.mean, expected.std))
    factor, offset = std / own_std, (mean - own_mean) / own_std

    def forward(weights: PyTree, images: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        model = nnx.merge(graphdef, *weights, copy=True)
        return model(images * factor + offset, train=False)[:, logit_of]

    def logits(weights: PyTree, images: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        return (fused(forward) if training_by_onednn.value else forward)(weights, images)

    checksum = 0
    for leaf in jax.tree.leaves(weights):
        checksum = crc32(np.asarray(leaf).tobytes(), checksum)
    described = {"arch": network.arch, "stem": network.stem, "width": network.width, "classes": network.num_classes}
    return Teacher(weights, logits, {"source": source, **described, "crc32": f"{checksum:08x}"})
