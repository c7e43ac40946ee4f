"""Images that calibrate a network of 8-bit integers, and others that show whether it can be trusted."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from resnet_jax.classifier.classifier import Classifier
from resnet_jax.classifier.files import decode_ahead
from resnet_jax.classifier.precision import chosen, computes_on_cpu
from resnet_jax.classifier.predictor import Predictor, make_forward, predictor_of
from resnet_jax.errors import UserError, printable
from resnet_jax.hardware.calibration import calibrate
from resnet_jax.hardware.compilation import compiler_options
from resnet_jax.models.cpu.processor import has_int8
from resnet_jax.models.cpu.quantization import Plan

Item = TypeVar("Item")
Decoded = UInt8[np.ndarray, "_ size size 3"]
CALIBRATING, COMPARING = 256, 1000
"""Images, at most."""
BATCH = 16
LOWEST_AGREEMENT = 0.9
"""Share of the images with the same likeliest class, below which integers are refused."""
LOWEST_SHARE = 0.5
"""Of the multiply-adds in convolutions, below which integers do not pay: the others are slower for the conversions."""


def quantize(classifier: Classifier, images: Sequence[tuple[str, Path]]) -> tuple[Plan, str]:
    """Find how to compute a network with 8-bit integers on this CPU, and compare it with the network in float32.

    Each channel of a kernel has a scale, and so has each channel of the maps. The first convolution, of three channels,
    those with other activations than ReLU, and the classifier keep the network's type.

    Args:
        classifier: the trained network.
        images: names and files. Half of them, at most `CALIBRATING`, calibrate, and the others compare.

    Returns:
        The plan, for `Predictor`, and a sentence about the comparison.

    Raises:
        UserError: the processor has no instructions for it, less than half of the network would be computed with them,
            fewer than two images can be read, or the likeliest class changes for too many of them.
    """
    if not (computes_on_cpu(1) and has_int8()):
        raise UserError(
            "--int8: this machine has no instructions for it, or jaxlib does not use them; expected a CPU with AMX, "
            "AVX512-VNNI or AVX-VNNI, Linux and a jaxlib that `resnet-jax doctor` calls tested; leave out --int8"
        )
    calibrating, comparing = halves(decoded(classifier, images))
    forward = make_forward(classifier, chosen("auto", 1), "none", False)
    batches = (calibrating[np.arange(start, start + BATCH) % len(calibrating)] for start in starts(calibrating))
    options = compiler_options("cpu")
    found = calibrate(forward, Predictor(classifier, batch_size=1).weights(), batches, options)
    if found.share < LOWEST_SHARE:
        raise UserError(
            f"--int8: only {found.share:.0%} of the multiply-adds of {classifier.network.arch} would be computed with "
            "integers, expected at least half, as for the ResNets; leave out --int8"
        )
    predictor = Predictor(classifier, batch_size=BATCH, precision=found.plan)
    verdict = compared(
        classifier, comparing, np.concatenate([predictor(it).probabilities for it in in_batches(comparing)])
    )
    return found.plan, f"int8: calibrated with {len(calibrating)} images; {verdict}"


def decoded(classifier: Classifier, images: Sequence[tuple[str, Path]]) -> Decoded:
    """Decode images at equal distances, of which there may be many, and report those that can't be read.

    Raises:
        UserError: fewer than two can be read.
    """
    readable = []
    chosen = spread(images, CALIBRATING + COMPARING)
    for name, image in decode_ahead(chosen, classifier.preprocessing, ahead=2 * BATCH):
        if isinstance(image, str):
            print(f"skipped {printable(name)}: {printable(image)}", file=sys.stderr)
        else:
            readable.append(image)
    if len(readable) < 2:
        raise UserError(
            f"--int8: got {len(readable)} images that can be read, expected 2 or more, better some hundred that show "
            "what the network will be used for"
        )
    return np.stack(readable)


def halves(images: Decoded) -> tuple[Decoded, Decoded]:
    """Divide images into those that calibrate and those that compare."""
    calibrating = spread(range(len(images)), min(CALIBRATING, len(images) // 2))
    return images[list(calibrating)], images[np.setdiff1d(np.arange(len(images)), calibrating)]


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return that many items, or all if there are fewer, at equal distances: folders are sorted by class."""
    count = min(count, len(items))
    return [items[position * len(items) // count] for position in range(count)]


def starts(images: Decoded) -> range:
    return range(0, len(images), BATCH)


def in_batches(images: Decoded) -> list[Decoded]:
    return [images[start : start + BATCH] for start in starts(images)]


def compared(classifier: Classifier, images: Decoded, probabilities: Float[np.ndarray, "_ classes"]) -> str:
    """Compare probabilities with those of the network in float32.

    Raises:
        UserError: the likeliest class changes for too many images.
    """
    predictor = predictor_of(classifier, batch_size=BATCH)
    expected = np.concatenate([predictor(batch).probabilities for batch in in_batches(images)])
    same = float((probabilities.argmax(1) == expected.argmax(1)).mean())
    verdict = (
        f"the same likeliest class as in float32 for {same:.1%} of {len(images)} images that it was not calibrated "
        f"with, largest change of a probability {np.abs(probabilities - expected).max():.3f}"
    )
    if not same >= LOWEST_AGREEMENT:
        raise UserError(
            f"int8 can't be trusted here: {verdict}; expected at least {LOWEST_AGREEMENT:.0%}; give more images of the "
            "kind the network will be used for, or leave out --int8"
        )
    return verdict
