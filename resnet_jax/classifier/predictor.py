"""A trained network that is compiled once and then classifies any number of decoded images."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from resnet_jax.classifier.classifier import Classifier
from resnet_jax.classifier.gradcam import grad_cam
from resnet_jax.classifier.tta import Tta, averaged_logits
from resnet_jax.hardware.compilation import compiler_options
from resnet_jax.hardware.sharding import make_mesh, replicated, settle, sharded


class Prediction(NamedTuple):
    """The outputs of a network for some images."""

    logits: Float[np.ndarray, "batch classes"]
    probabilities: Float[np.ndarray, "batch classes"]
    heat: Float[np.ndarray, "batch height width"] | None
    """Grad-CAM of the likeliest class, if requested."""


class Predictor:
    """Classifies decoded images in batches of a few sizes, each compiled when it is first needed.

    A batch is filled up to the smallest compiled size that holds it, or else to the next power of 2; the results do not
    depend on it.

    Args:
        classifier: the network with its preprocessing.
        batch_size: largest number of images in a step, over all devices.
        tta: test-time augmentation; see `averaged_logits`.
        explain: compute Grad-CAM as well.
    """

    def __init__(self, classifier: Classifier, *, batch_size: int, tta: Tta = "none", explain: bool = False):
        self.batch_size = batch_size
        self.mesh = make_mesh(batch_size, jax.devices()[: math.gcd(batch_size, jax.device_count())])
        graphdef, variables = nnx.split(classifier.model)
        self._variables = jax.device_put(nnx.to_pure_dict(variables), replicated(self.mesh))
        self._sizes: set[int] = set()
        self._forward = _make_forward(classifier, graphdef, tta, explain)

    def __call__(self, images: UInt8[np.ndarray, "batch height width 3"]) -> Prediction:
        """Classify at most `batch_size` images that are resized and cropped, but not normalized."""
        count = len(images)
        assert 0 < count <= self.batch_size
        size = min((it for it in self._sizes if it >= count), default=self._size_for(count))
        self._sizes.add(size)
        padded = np.zeros((size, *images.shape[1:]), np.uint8)
        padded[:count] = images
        placed = jax.device_put(padded, sharded(self.mesh))
        logits, probabilities, heat = settle(self._forward(self._variables, placed))
        heat = None if heat is None else np.asarray(heat)[:count]
        return Prediction(np.asarray(logits)[:count], np.asarray(probabilities)[:count], heat)

    def _size_for(self, count: int) -> int:
        """Return the next power of 2 that the devices divide, at most the largest batch."""
        return min(
            max(1 << (count - 1).bit_length(), self.mesh.size) // self.mesh.size * self.mesh.size, self.batch_size
        )


def _make_forward(classifier: Classifier, graphdef: nnx.GraphDef, tta: Tta, explain: bool) -> Callable:
    """Make the jitted function from variables and uint8 images to logits, probabilities and Grad-CAM or None."""
    normalize, head = classifier.preprocessing.normalize, classifier.model.head

    def forward(variables, images: UInt8[Array, "batch height width 3"]):
        model = nnx.merge(graphdef, variables)
        if not explain:
            logits = averaged_logits(model, images, normalize, tta)
            return logits, jax.nn.softmax(logits), None
        features, classify = model.features(normalize(images), train=False), getattr(model, head)
        logits = classify(features.pooled)
        heat = grad_cam(features.stages[-1], classify.kernel[...], logits.argmax(1))
        return logits, jax.nn.softmax(logits), heat

    return jax.jit(forward, compiler_options=compiler_options(jax.default_backend()))
