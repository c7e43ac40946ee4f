"""Evaluation of a network on a whole split."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Int32, PyTree

from resnet_jax.classifier.predictor import Predictor
from resnet_jax.data.feed import EvalBatch
from resnet_jax.hardware.processes import on_host
from resnet_jax.hardware.sharding import settle
from resnet_jax.training.metrics import EvalMetrics


class Evaluation(NamedTuple):
    """Figures of a network on a split, and what they were computed from."""

    metrics: EvalMetrics
    logits: Float[np.ndarray, "n classes"]
    labels: Int32[np.ndarray, " n"]
    places: Int[np.ndarray, " n"]
    """Place in the split of each image that counts."""


def evaluate(
    eval_step: Callable[..., tuple[EvalMetrics, Array]],
    weights: tuple[PyTree, PyTree],
    batches: Iterable[EvalBatch],
) -> Evaluation:
    """Evaluate every image of `batches` once, and keep the logits of each on the host.

    Args:
        eval_step: of `make_eval_step`.
        weights: params and batch_stats.
        batches: the whole split in its order, on the devices.
    """
    metrics, logits, labels, masks = [], [], [], []
    for batch in batches:
        sums, of_batch = settle(eval_step(*weights, *batch))
        metrics.append(sums)
        logits.append(of_batch)
        labels.append(batch.labels)
        masks.append(batch.mask)
    places = np.flatnonzero(np.concatenate(on_host(masks)))
    scores, classes = (np.concatenate(on_host(arrays))[places] for arrays in (logits, labels))
    return Evaluation(EvalMetrics.total(metrics), scores, classes, places)


def measure(
    eval_step: Callable[..., tuple[EvalMetrics, Array]],
    weights: tuple[PyTree, PyTree],
    batches: Iterable[EvalBatch],
) -> EvalMetrics:
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
