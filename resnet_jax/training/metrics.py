"""Metrics as sums and counts, so that batches, devices and restarts do not change the figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

from resnet_jax.training.loss import cross_entropy

CALIBRATION_BINS = 15  # as in Guo et al. 2017, "On calibration of modern neural networks"
NEVER = jnp.iinfo(jnp.int32).max


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainMetrics:
    """Sums over the training steps of an epoch."""

    loss: Float32[Array | np.ndarray, ""]
    correct: Int32[Array | np.ndarray, ""]
    count: Int32[Array | np.ndarray, ""]
    nonfinite_step: Int32[Array | np.ndarray, ""]
    """First step whose loss was infinite or not a number; `NEVER` if there was none."""

    @classmethod
    def zero(cls) -> "TrainMetrics":
        return cls(jnp.float32(0), jnp.int32(0), jnp.int32(0), jnp.int32(NEVER))

    @classmethod
    def of_batch(
        cls,
        losses: Float[Array, " batch"],
        logits: Float[Array, "batch classes"],
        soft_labels: Float[Array, "batch classes"],
        step: Int32[Array, ""],
    ) -> "TrainMetrics":
        """Sum over one batch; an image counts as correct if its highest score is at its highest soft label."""
        loss = losses.sum()
        correct = (logits.argmax(-1) == soft_labels.argmax(-1)).sum(dtype=jnp.int32)
        return cls(loss, correct, jnp.int32(len(losses)), jnp.where(jnp.isfinite(loss), NEVER, step))

    def __add__(self, other: "TrainMetrics") -> "TrainMetrics":
        return TrainMetrics(
            self.loss + other.loss,
            self.correct + other.correct,
            self.count + other.count,
            jnp.minimum(self.nonfinite_step, other.nonfinite_step),
        )


class TopGuess(NamedTuple):
    """The class with the highest score of each image, and its probability."""

    predicted: Int32[Array, " batch"]
    confidence: Float[Array, " batch"]

    @classmethod
    def of_batch(cls, logits: Float[Array, "batch classes"]) -> "TopGuess":
        return cls(logits.argmax(-1).astype(jnp.int32), jax.nn.softmax(logits).max(-1))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EvalMetrics:
    """Sums over evaluated images; the properties are the figures derived from them."""

    loss: Float[Array | np.ndarray, ""]
    top5: Int[Array | np.ndarray, ""]
    confusion: Int[Array | np.ndarray, "classes classes"]
    """Images by (true class, predicted class)."""
    bin_confidence: Float[Array | np.ndarray, " bins"]
    """Sum of the predicted class's probability, by bins of that probability."""
    bin_correct: Int[Array | np.ndarray, " bins"]
    bin_count: Int[Array | np.ndarray, " bins"]

    @classmethod
    def of_batch(
        cls, logits: Float[Array, "batch classes"], labels: Int[Array, " batch"], mask: Bool[Array, " batch"]
    ) -> "EvalMetrics":
        """Sum over one batch, without the images where `mask` is False."""
        classes = logits.shape[-1]
        predicted, confidence = TopGuess.of_batch(logits)
        at_label = jnp.take_along_axis(logits, labels[:, None], -1)
        rank = (~(logits < at_label)).sum(-1)  # 1 is best; ties and NaN count against the network
        bins = jnp.clip((confidence * CALIBRATION_BINS).astype(jnp.int32), 0, CALIBRATION_BINS - 1)

        def by_bin(values: Array) -> Array:
            return jnp.zeros(CALIBRATION_BINS, values.dtype).at[bins].add(jnp.where(mask, values, 0))

        return cls(
            loss=jnp.where(mask, cross_entropy(logits, jax.nn.one_hot(labels, classes)), 0).sum(),
            top5=((rank <= 5) & mask).sum(dtype=jnp.int32),
            confusion=jnp.zeros((classes, classes), jnp.int32).at[labels, predicted].add(mask.astype(jnp.int32)),
            bin_confidence=by_bin(confidence),
            bin_correct=by_bin((predicted == labels).astype(jnp.int32)),
            bin_count=by_bin(jnp.ones_like(predicted, jnp.int32)),
        )

    @classmethod
    def total(cls, batches: "list[EvalMetrics]") -> "EvalMetrics":
        """Add batches up on the host, in float64."""
        return jax.tree.map(
            lambda *leaves: np.asarray(np.sum(leaves, 0, dtype=_wide(leaves[0]))), *jax.device_get(batches)
        )

    @property
    def count(self) -> int:
        return int(self.confusion.sum())

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return float(self.loss / self.count)

    @property
    def accuracy(self) -> float:
        """Share of images whose highest score is the true class's."""
        return float(np.trace(self.confusion) / self.count)

    @property
    def top5_accuracy(self) -> float:
        """Share of images with the true class among the five highest scores."""
        return float(self.top5 / self.count)

    @property
    def class_accuracy(self) -> Float[np.ndarray, " classes"]:
        """Share of each class's images that are classified correctly; NaN for a class without images."""
        totals = self.confusion.sum(1)
        return np.divide(np.diag(self.confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)

    @property
    def class_precision(self) -> Float[np.ndarray, " classes"]:
        """Share of the images classified as each class that belong to it; NaN if there are none."""
        totals = self.confusion.sum(0)
        return np.divide(np.diag(self.confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)

    @property
    def class_f1(self) -> Float[np.ndarray, " classes"]:
        """Harmonic mean of each class's accuracy and precision; NaN for a class neither present nor predicted."""
        totals = self.confusion.sum(0) + self.confusion.sum(1)
        return np.divide(2 * np.diag(self.confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)

    def most_confused(self, names: Sequence[str], count: int = 5) -> list[dict[str, str | int]]:
        """Return the pairs of true and predicted class with the most mistakes, the worst first."""
        wrong = np.array(self.confusion)
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = [divmod(int(place), len(names)) for place in order]
        return [
            {"true": names[true], "predicted": names[guess], "images": int(wrong[true, guess])}
            for true, guess in pairs
            if wrong[true, guess] > 0
        ]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error, a share: mean of |confidence - accuracy| over the bins, by their images."""
        return float(np.abs(self.bin_confidence - self.bin_correct).sum() / self.count)


def _wide(leaf: np.ndarray) -> type:
    return np.float64 if np.issubdtype(leaf.dtype, np.floating) else np.int64
