"""Evaluation of a network on a whole split."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float, Int32, PyTree, UInt8

from resnet_jax.classifier.predictor import Predictor
from resnet_jax.data.resident import EvalBatch
from resnet_jax.hardware.sharding import settle
from resnet_jax.training.metrics import EvalMetrics


def evaluate(
    eval_step: Callable[..., tuple[EvalMetrics, Array]],
    weights: tuple[PyTree, PyTree],
    batches: Sequence[EvalBatch],
) -> tuple[EvalMetrics, Float[np.ndarray, "n classes"]]:
    """Evaluate every image of `batches` once.

    Args:
        eval_step: of `make_eval_step`.
        weights: params and batch_stats.
        batches: of `eval_batches`, on the devices.

    Returns:
        The total metrics, and the logits in the order of the images.
    """
    metrics, logits = [], []
    for batch in batches:
        sums, scores = settle(eval_step(*weights, *batch))
        metrics.append(sums)
        logits.append(scores)
    mask = np.concatenate([jax.device_get(batch.mask) for batch in batches])
    return EvalMetrics.total(metrics), np.concatenate(jax.device_get(logits))[mask]


def evaluate_predictor(
    predictor: Predictor, images: UInt8[np.ndarray, "n height width 3"], labels: Int32[np.ndarray, " n"]
) -> EvalMetrics:
    """Evaluate a trained network on every image once.

    Args:
        predictor: the network; its batch size is that of the evaluation.
        images: decoded, resized and cropped.
        labels: of the images, as numbers of the network's classes.
    """
    of_batch, metrics = jax.jit(EvalMetrics.of_batch), []
    for start in range(0, len(labels), predictor.batch_size):
        part = slice(start, start + predictor.batch_size)
        logits = predictor(images[part]).logits
        metrics.append(of_batch(logits, labels[part], np.ones(len(logits), bool)))
    return EvalMetrics.total(metrics)
