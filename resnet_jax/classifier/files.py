"""From image files to class probabilities: threads decode while the devices compute."""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import UnidentifiedImageError

from resnet_jax.classifier.classifier import Classifier
from resnet_jax.classifier.gradcam import write_overlay
from resnet_jax.classifier.predictor import Predictor
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.data.reading.skipped import what_is

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Image = UInt8[np.ndarray, "size size 3"]


class Guess(NamedTuple):
    """A class and its probability, from 0 to 1."""

    number: int
    name: str
    probability: float


class Result(NamedTuple):
    """The likeliest classes of an image, the likeliest first, or what is wrong with the image."""

    path: str
    guesses: tuple[Guess, ...] = ()
    error: str | None = None


def classify_files(
    classifier: Classifier,
    paths: Sequence[str],
    *,
    batch_size: int,
    top_k: int,
    overlays: Mapping[str, Path] = MappingProxyType({}),
) -> Iterator[list[Result]]:
    """Classify image files a batch at a time, while threads decode the next ones.

    Args:
        classifier: the network with its class names and preprocessing.
        paths: of the images.
        batch_size: images in a step, over all devices.
        top_k: number of classes in a result.
        overlays: by path of the image, where to draw its Grad-CAM.

    Yields:
        The results of a batch, in the order of the paths.

    Raises:
        UserError: an overlay can't be written.
    """
    predictor = Predictor(classifier, batch_size=batch_size, explain=bool(overlays))
    decoded = decode_ahead(paths, classifier.preprocessing, ahead=2 * batch_size)
    while batch := list(islice(decoded, batch_size)):
        images = [image for _, image in batch if not isinstance(image, str)]
        prediction = predictor(np.stack(images)) if images else None
        results, row = [], 0
        for path, image in batch:
            if isinstance(image, str) or prediction is None:
                results.append(Result(path, error=str(image)))
                continue
            results.append(Result(path, best(prediction.probabilities[row], classifier.class_names, top_k)))
            if path in overlays and prediction.heat is not None:
                write_overlay(overlays[path], image, prediction.heat[row])
            row += 1
        yield results


def decode_ahead(paths: Sequence[str], preprocessing: Preprocessing, ahead: int) -> Iterator[tuple[str, Image | str]]:
    """Decode in threads, in order, at most `ahead` images in advance; for one that can't be read, yield the reason."""

    def decode(path: str) -> Image | str:
        if os.path.lexists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            return what_is(Path(path))  # reading a pipe would wait forever
        try:
            return preprocessing.decode(Path(path))
        except UnidentifiedImageError:
            return "not an image, or in an unknown format"
        except IsADirectoryError:
            return "a folder without images"
        except Exception as error:  # Pillow's decoders raise a dozen kinds of errors
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


def best(probabilities: Float[np.ndarray, " classes"], names: Sequence[str], count: int) -> tuple[Guess, ...]:
    """Return the `count` likeliest classes, the likeliest first."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return tuple(Guess(int(number), names[number], float(probabilities[number])) for number in order)
