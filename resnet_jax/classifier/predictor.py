"""A trained network that is compiled once and then classifies any number of decoded images."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree, UInt8

from resnet_jax.classifier.classifier import Classifier
from resnet_jax.classifier.gradcam import explained
from resnet_jax.classifier.precision import chosen, computes_on_cpu
from resnet_jax.classifier.tta import Tta, averaged_logits
from resnet_jax.hardware.compilation import compiler_options
from resnet_jax.hardware.inference import Inference
from resnet_jax.hardware.sharding import make_mesh, replicated, settle, sharded
from resnet_jax.models.cpu.processor import Precision
from resnet_jax.models.cpu.quantization import Plan


class Prediction(NamedTuple):
    """The outputs of a network for some images."""

    logits: Float[np.ndarray, "batch classes"]
    probabilities: Float[np.ndarray, "batch classes"]
    heat: Float[np.ndarray, "batch height width"] | None
    """Grad-CAM of the likeliest class, if requested."""


class Predictor:
    """Classifies decoded images in batches of a few sizes, each compiled when it is first needed.

    A batch is filled up to the smallest compiled size that holds it, or else to the next power of 2; the results do not
    depend on it. The weights are those that the network has at the time of a call.

    Args:
        classifier: the network with its preprocessing.
        batch_size: largest number of images in a step, over all devices.
        tta: test-time augmentation; see `averaged_logits`.
        explain: compute Grad-CAM as well.
        often: whether many calls will follow; then more time is spent on preparing the weights.
        precision: type of the computation; "auto" is bfloat16 on a CPU with instructions for it, otherwise float32; or
            a plan of 8-bit integers, from `resnet_jax.classifier.calibration`. Logits and probabilities are float32.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        batch_size: int,
        tta: Tta = "none",
        explain: bool = False,
        often: bool = False,
        precision: Precision | Plan = "float32",
    ):
        plan = precision if isinstance(precision, Plan) else None
        assert plan is None or tta == "none"
        self.batch_size = batch_size
        devices = 1 if plan else math.gcd(batch_size, jax.device_count())
        self.mesh = make_mesh(batch_size, jax.devices()[:devices])
        self._model = classifier.model
        self._weights: list[Array] = []
        self._variables: PyTree = None
        self._sizes: set[int] = set()
        self.precision = chosen("auto" if isinstance(precision, Plan) else precision, self.mesh.size)
        forward = make_forward(classifier, self.precision, tta, explain)
        options = compiler_options(jax.default_backend())
        by_onednn = computes_on_cpu(self.mesh.size)
        self._forward = (
            Inference(forward, options, packed=often, plan=plan)
            if by_onednn
            else jax.jit(forward, compiler_options=options)
        )

    def __call__(self, images: UInt8[np.ndarray, "batch height width 3"]) -> Prediction:
        """Classify at most `batch_size` images that are resized and cropped, but not normalized."""
        count = len(images)
        assert 0 < count <= self.batch_size
        size = min((it for it in self._sizes if it >= count), default=self._size_for(count))
        self._sizes.add(size)
        padded = np.zeros((size, *images.shape[1:]), np.uint8)
        padded[:count] = images
        placed = jax.device_put(padded, sharded(self.mesh))
        logits, probabilities, heat = settle(self._forward(self.weights(), placed))
        heat = None if heat is None else np.asarray(heat)[:count]
        return Prediction(np.asarray(logits)[:count], np.asarray(probabilities)[:count], heat)

    def weights(self) -> PyTree:
        """Return the network's variables on the devices, where they are put again only after one has changed."""
        variables = nnx.to_pure_dict(nnx.state(self._model))
        weights = jax.tree.leaves(variables)
        if list(map(id, weights)) != list(map(id, self._weights)):
            self._weights, self._variables = weights, jax.device_put(variables, replicated(self.mesh))
        return self._variables

    def _size_for(self, count: int) -> int:
        """Return the next power of 2 that the devices divide, at most the largest batch."""
        return min(
            max(1 << (count - 1).bit_length(), self.mesh.size) // self.mesh.size * self.mesh.size, self.batch_size
        )


def predictor_of(
    classifier: Classifier,
    *,
    batch_size: int,
    explain: bool = False,
    often: bool = False,
    precision: Precision | Plan = "float32",
) -> Predictor:
    """Return the classifier's predictor with these options, which is made once."""
    options = batch_size, explain, often, precision
    if options not in classifier.predictors:
        classifier.predictors[options] = Predictor(
            classifier, batch_size=batch_size, explain=explain, often=often, precision=precision
        )
    return classifier.predictors[options]


def make_forward(classifier: Classifier, dtype: Literal["float32", "bfloat16"], tta: Tta, explain: bool) -> Callable:
    """Make the function from variables and uint8 images to logits, probabilities and Grad-CAM or None."""
    normalize = classifier.preprocessing.normalize
    narrow = nnx.graphdef(classifier.network.abstract(dtype=jnp.bfloat16)) if dtype == "bfloat16" else None
    graphdef = narrow or nnx.graphdef(classifier.model)

    def forward(variables, images: UInt8[Array, "batch height width 3"]):
        model = nnx.merge(graphdef, variables)
        if not explain:
            logits = averaged_logits(model, images, normalize, tta)
            return logits, jax.nn.softmax(logits), None
        logits, heat = explained(model, normalize(images))
        return logits, jax.nn.softmax(logits), heat

    return forward
