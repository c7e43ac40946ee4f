"""From images to class probabilities: threads decode while the devices compute."""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError

from resnet_jax.classifier.classifier import Classifier
from resnet_jax.classifier.gradcam import write_overlay
from resnet_jax.classifier.predictor import predictor_of
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.data.reading.formats import remedy
from resnet_jax.data.reading.skipped import what_is
from resnet_jax.models.cpu.processor import Precision
from resnet_jax.models.cpu.quantization import Plan

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MANY = 256
"""Images from which on the weights are prepared more thoroughly."""
LOADING = Lock()
"""An image of Pillow reads its file when it is first needed, which two threads may not do at once."""

Decoded = UInt8[np.ndarray, "size size 3"]
AnyImage = str | os.PathLike | Image.Image | np.ndarray | jax.Array
Images = AnyImage | Sequence[AnyImage]


class Guess(NamedTuple):
    """A class and its probability, from 0 to 1."""

    number: int
    name: str
    probability: float


class Result(NamedTuple):
    """The likeliest classes of an image, the likeliest first, or what is wrong with the image."""

    path: str
    """Of the file; "#" and the position among the images, from 0, of an image that is not one."""
    guesses: tuple[Guess, ...] = ()
    error: str | None = None


def predict(
    classifier: Classifier, images: Images, *, top_k: int | None, batch_size: int, precision: Precision
) -> list[Result]:
    """Classify images of any kind; see `Classifier.predict`."""
    for name, value in (("top_k", top_k), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name}: got {value}, expected 1 or more")
    single = isinstance(images, str | os.PathLike | Image.Image) or getattr(images, "ndim", 4) < 4
    several: Any = [images] if single else images
    named = [_named(image, f"#{position}") for position, image in enumerate(several)]
    top_k = top_k or len(classifier.class_names)
    batches = classify(classifier, named, batch_size=batch_size, top_k=top_k, precision=precision)
    return [result for batch in batches for result in batch]


def _named(image: AnyImage, position: str) -> tuple[str, Path | Image.Image]:
    """Return an image's name in results, and the image in one of the forms that `Preprocessing.decode` takes.

    Raises:
        TypeError, ValueError: it is not an image, or an array of another type or shape.
    """
    if isinstance(image, str | os.PathLike):
        return os.fspath(image), Path(image)
    if isinstance(image, Image.Image):
        return position, image
    if not isinstance(image, np.ndarray | jax.Array):
        raise TypeError(f"image {position}: got {type(image).__name__}, expected a path, a Pillow image or an array")
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
        raise ValueError(
            f"image {position}: got an array of {image.dtype} {image.shape}, expected uint8, 0 to 255, of shape "
            "(height, width), (height, width, 3) or (height, width, 4)"
        )
    return position, Image.fromarray(np.asarray(image))


def classify(
    classifier: Classifier,
    images: Sequence[tuple[str, Path | Image.Image]],
    *,
    batch_size: int,
    top_k: int,
    overlays: Mapping[str, Path] = MappingProxyType({}),
    precision: Precision | Plan = "float32",
) -> Iterator[list[Result]]:
    """Classify images a batch at a time, while threads decode the next ones.

    Args:
        classifier: the network with its class names and preprocessing.
        images: files or images of Pillow, each with its name in the results.
        batch_size: images in a step, over all devices.
        top_k: number of classes in a result.
        overlays: by name of the image, where to draw its Grad-CAM.
        precision: type of the computation, or a plan of 8-bit integers.

    Yields:
        The results of a batch, in the order of the images.

    Raises:
        UserError: an overlay can't be written.
    """
    predictor = predictor_of(
        classifier, batch_size=batch_size, explain=bool(overlays), often=len(images) >= MANY, precision=precision
    )
    decoded = decode_ahead(images, classifier.preprocessing, ahead=2 * batch_size)
    while batch := list(islice(decoded, batch_size)):
        readable = [image for _, image in batch if not isinstance(image, str)]
        prediction = predictor(np.stack(readable)) if readable else None
        results, row = [], 0
        for name, image in batch:
            if isinstance(image, str) or prediction is None:
                results.append(Result(name, error=str(image)))
                continue
            results.append(Result(name, best(prediction.probabilities[row], classifier.class_names, top_k)))
            if name in overlays and prediction.heat is not None:
                write_overlay(overlays[name], image, prediction.heat[row])
            row += 1
        yield results


def decode_ahead(
    images: Sequence[tuple[str, Path | Image.Image]], preprocessing: Preprocessing, ahead: int
) -> Iterator[tuple[str, Decoded | str]]:
    """Decode in threads, in order, at most `ahead` images in advance; for one that can't be read, yield the reason."""

    def decode(image: Path | Image.Image) -> Decoded | str:
        if isinstance(image, Path) and os.path.lexists(image) and not image.is_file() and not image.is_dir():
            return what_is(image)  # reading a pipe would wait forever
        try:
            if isinstance(image, Image.Image):
                with LOADING:
                    image.load()
            return preprocessing.decode(image)
        except Exception as error:  # Pillow's decoders raise a dozen kinds of errors
            return why_unreadable(error, image if isinstance(image, Path) else None)

    with ThreadPoolExecutor(CORES) as pool:
        waiting: deque[tuple[str, Future[Decoded | str]]] = deque()
        for name, image in images:
            waiting.append((name, pool.submit(decode, image)))
            if len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        for last, future in waiting:
            yield last, future.result()


def why_unreadable(error: Exception, path: Path | None) -> str:
    """Return what is wrong with an image, for a message.

    Args:
        error: raised when it was decoded.
        path: of its file, if it has one.
    """
    if isinstance(error, UnidentifiedImageError):
        advice = remedy(path) if path else None
        return "not an image, or in an unknown format" + (f": {advice}" if advice else "")
    if isinstance(error, IsADirectoryError):
        return "a folder without images"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def best(probabilities: Float[np.ndarray, " classes"], names: Sequence[str], count: int) -> tuple[Guess, ...]:
    """Return the `count` likeliest classes, the likeliest first."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return tuple(Guess(int(number), names[number], float(probabilities[number])) for number in order)
