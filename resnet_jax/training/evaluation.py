"""Evaluation of a network on a whole split."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int, PyTree

from resnet_jax.classifier.predictor import Predictor
from resnet_jax.data.feed import EvalBatch
from resnet_jax.hardware.processes import on_host
from resnet_jax.hardware.sharding import settle
from resnet_jax.runs.tables import Guesses
from resnet_jax.training.metrics import EvalMetrics, TopGuess

EvalStep = Callable[..., tuple[EvalMetrics, TopGuess]]


class Evaluation(NamedTuple):
    """Figures of a network on a split, and its guess for each image that counts."""

    metrics: EvalMetrics
    guesses: Guesses
    places: Int[np.ndarray, " n"]
    """Place in the split of each image that counts."""


def evaluate(eval_step: EvalStep, weights: tuple[PyTree, PyTree], batches: Iterable[EvalBatch]) -> Evaluation:
    """Evaluate every image of `batches` once, and gather the guess for each from all processes.

    The logits stay on the devices and end with their batch: an image takes 13 bytes, whatever the number of classes.

    Args:
        eval_step: of `make_eval_step`.
        weights: params and batch_stats.
        batches: the whole split in its order, on the devices.
    """
    metrics, of_images = [], []
    for batch in batches:
        sums, top = settle(eval_step(*weights, *batch))
        metrics.append(sums)
        of_images.append((batch.mask, batch.labels, *top))
    mask, *columns = map(np.concatenate, zip(*on_host(of_images), strict=True))
    places = np.flatnonzero(mask)
    return Evaluation(EvalMetrics.total(metrics), Guesses(*(column[places] for column in columns)), places)


def measure(eval_step: EvalStep, weights: tuple[PyTree, PyTree], batches: Iterable[EvalBatch]) -> EvalMetrics:
    """Evaluate every image of `batches` once, as `evaluate` does, and keep the sums alone."""
    return EvalMetrics.total([settle(eval_step(*weights, *batch))[0] for batch in batches])


def evaluate_predictor(
    predictor: Predictor, batches: Iterable[EvalBatch], numbers: Int[np.ndarray, " classes"]
) -> EvalMetrics:
    """Evaluate a trained network on every image of `batches` once.

    Args:
        predictor: the network.
        batches: resized and cropped images on the host, at most the predictor's batch size of them.
        numbers: the network's number of each class.
    """
    of_batch, metrics = jax.jit(EvalMetrics.of_batch), []
    for images, labels, mask in batches:
        metrics.append(of_batch(predictor(np.asarray(images)).logits, numbers[labels], mask))
    return EvalMetrics.total(metrics)
