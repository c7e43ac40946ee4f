"""From image files to class probabilities: threads decode while the devices compute."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8
from PIL import UnidentifiedImageError

from resnet_jax.classifier.gradcam import grad_cam, write_overlay
from resnet_jax.classifier.pretrained import Classifier, Preprocessing
from resnet_jax.hardware.sharding import make_mesh, replicated, sharded

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Image = UInt8[np.ndarray, "size size 3"]


class Guess(NamedTuple):
    """A class and its probability, from 0 to 1."""

    number: int
    name: str
    probability: float


class Result(NamedTuple):
    """The likeliest classes of an image, the likeliest first, or what is wrong with it."""

    path: str
    guesses: tuple[Guess, ...] = ()
    error: str | None = None


def classify(
    classifier: Classifier,
    paths: Sequence[str],
    *,
    batch_size: int,
    top_k: int,
    overlays: Mapping[str, Path] = MappingProxyType({}),
) -> Iterator[list[Result]]:
    """Classifies images on all devices, a batch at a time, while threads decode the next ones.

    Args:
        classifier: the network with its class names and preprocessing.
        paths: of the images.
        batch_size: over all devices; the last batch is padded to it, so that there is one compilation.
        top_k: classes in a result.
        overlays: by path of the image, where to draw its Grad-CAM.

    Yields:
        The results of a batch, in the order of the paths.

    Raises:
        UserError: an overlay can't be written.
    """
    side = classifier.preprocessing.image_size
    forward = _make_forward(classifier, batch_size)
    decoded = decode_ahead(paths, classifier.preprocessing, ahead=2 * batch_size)
    while batch := list(islice(decoded, batch_size)):
        images = np.zeros((batch_size, side, side, 3), np.uint8)
        for row, (_, image) in enumerate(batch):
            images[row] = 0 if isinstance(image, str) else image
        probabilities, heat = map(np.asarray, forward(images))
        results = []
        for row, (path, image) in enumerate(batch):
            if isinstance(image, str):
                results.append(Result(path, error=image))
            else:
                results.append(Result(path, _best(probabilities[row], classifier.class_names, top_k)))
                if path in overlays:
                    write_overlay(overlays[path], image, heat[row])
        yield results


def _make_forward(classifier: Classifier, batch_size: int) -> Callable[[np.ndarray], tuple[Array, Array]]:
    """Makes uint8 images -> probabilities `[batch, classes]` and Grad-CAM `[batch, height, width]` of the likeliest."""
    mesh = make_mesh(batch_size, jax.devices()[: math.gcd(batch_size, jax.device_count())])
    graphdef, variables = nnx.split(classifier.model)
    variables = jax.device_put(nnx.to_pure_dict(variables), replicated(mesh))

    @jax.jit
    def forward(variables, images: UInt8[Array, "batch size size 3"]):
        model = nnx.merge(graphdef, variables)
        features = model.features(classifier.preprocessing.normalize(images))
        logits = model.fc(features.pooled)
        return jax.nn.softmax(logits), grad_cam(features.stages[-1], model.fc.kernel[...], logits.argmax(1))

    return lambda images: forward(variables, jax.device_put(images, sharded(mesh)))


def decode_ahead(paths: Sequence[str], preprocessing: Preprocessing, ahead: int) -> Iterator[tuple[str, Image | str]]:
    """Decodes in threads, at most `ahead` images early, in order; what can't be read comes as the reason."""

    def decode(path: str) -> Image | str:
        try:
            return preprocessing.decode(Path(path))
        except UnidentifiedImageError:
            return "no image, or of an unknown format"
        except IsADirectoryError:
            return "a folder without images"
        except Exception as error:  # Pillow's decoders raise a dozen kinds
            return getattr(error, "strerror", None) or str(error) or type(error).__name__

    with ThreadPoolExecutor(CORES) as pool:
        waiting: deque[tuple[str, Future[Image | str]]] = deque()
        for path in paths:
            waiting.append((path, pool.submit(decode, path)))
            if len(waiting) > ahead:
                first, image = waiting.popleft()
                yield first, image.result()
        for last, image in waiting:
            yield last, image.result()


def _best(probabilities: Float[np.ndarray, " classes"], names: Sequence[str], count: int) -> tuple[Guess, ...]:
    order = np.argsort(-probabilities, kind="stable")[:count]
    return tuple(Guess(int(number), names[number], float(probabilities[number])) for number in order)
