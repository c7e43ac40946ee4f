"""Metrics against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.training.loss import binary_cross_entropy, cross_entropy
from resnet_jax.training.metrics import NEVER, EvalMetrics, TopGuess, TrainMetrics

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(200, 10)).astype(np.float32) * 2
LABELS = RNG.integers(0, 10, 200).astype(np.int32)
SOFT_LABELS = jnp.asarray(np.eye(10, dtype=np.float32)[LABELS])


of_batch = jax.jit(EvalMetrics.of_batch)


def total(batch_size: int) -> EvalMetrics:
    batches = []
    for start in range(0, 200, batch_size):
        index = np.arange(start, start + batch_size)
        mask = jnp.asarray(index < 200)
        index = np.minimum(index, 199)
        batches.append(of_batch(jnp.asarray(LOGITS[index]), jnp.asarray(LABELS[index]), mask))
    return EvalMetrics.total(batches)


def test_cross_entropy_is_minus_the_log_probability_of_the_label():
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    expected = -np.log(probabilities[np.arange(200), LABELS])
    np.testing.assert_allclose(cross_entropy(jnp.asarray(LOGITS), SOFT_LABELS), expected, rtol=1e-5)


def test_cross_entropy_is_linear_in_the_soft_labels():
    logits = jnp.asarray(LOGITS)
    uniform = -jax.nn.log_softmax(logits).mean(1)
    expected = 0.9 * cross_entropy(logits, SOFT_LABELS) + 0.1 * uniform
    np.testing.assert_allclose(cross_entropy(logits, 0.9 * SOFT_LABELS + 0.1 / 10), expected, rtol=1e-5)


def test_binary_cross_entropy_counts_every_class_of_a_mixed_image_as_present():
    logits, mixed = jnp.asarray(LOGITS), 0.7 * SOFT_LABELS + 0.3 * jnp.roll(SOFT_LABELS, 1, 0)
    present = np.maximum(SOFT_LABELS, np.roll(SOFT_LABELS, 1, 0))
    probabilities = 1 / (1 + np.exp(-LOGITS))
    expected = -(present * np.log(probabilities) + (1 - present) * np.log(1 - probabilities)).mean(1)
    np.testing.assert_allclose(binary_cross_entropy(logits, mixed), expected, rtol=1e-5)


def test_binary_cross_entropy_leaves_out_a_class_of_a_fifth_or_less():
    logits, mixed = jnp.asarray(LOGITS), 0.85 * SOFT_LABELS + 0.15 * jnp.roll(SOFT_LABELS, 1, 0)
    np.testing.assert_allclose(binary_cross_entropy(logits, mixed), binary_cross_entropy(logits, SOFT_LABELS))


def test_the_training_accuracy_of_mixed_images_is_that_of_their_larger_part():
    other = jnp.roll(SOFT_LABELS, 1, 0)
    for own, labels in ((0.6, SOFT_LABELS), (0.4, other)):
        metrics = TrainMetrics.of_batch(jnp.ones(200), 9 * labels, own * SOFT_LABELS + (1 - own) * other, jnp.int32(0))
        assert metrics.correct == metrics.count == 200


def test_cross_entropy_of_half_precision_logits_is_float32():
    assert cross_entropy(jnp.zeros((2, 3), jnp.bfloat16), jnp.eye(2, 3)).dtype == jnp.float32


@pytest.mark.parametrize("batch_size", [1, 33, 200, 256])
def test_figures_do_not_depend_on_the_batch_size(batch_size):
    whole, parts = total(200), total(batch_size)
    np.testing.assert_array_equal(parts.confusion, whole.confusion)
    for name in ("mean_loss", "accuracy", "top5_accuracy", "calibration_error"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-6)


def test_the_top_guess_is_the_class_of_the_highest_probability():
    predicted, confidence = TopGuess.of_batch(jnp.asarray(LOGITS))
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    np.testing.assert_array_equal(predicted, probabilities.argmax(1))
    np.testing.assert_allclose(confidence, probabilities.max(1), rtol=1e-5)


def test_top5_accuracy_looks_for_the_label_among_the_five_highest():
    highest = np.argsort(-LOGITS, 1)[:, :5]
    assert total(200).top5_accuracy == pytest.approx((highest == LABELS[:, None]).any(1).mean())


def test_confusion_rows_are_true_classes():
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (LABELS, LOGITS.argmax(1)), 1)
    np.testing.assert_array_equal(total(64).confusion, expected)


def test_class_accuracy_is_undefined_for_a_class_without_images():
    metrics = EvalMetrics.total([of_batch(jnp.eye(3), jnp.array([0, 1, 1]), jnp.ones(3, bool))])
    np.testing.assert_array_equal(metrics.class_accuracy, [1.0, 0.5, np.nan])


def test_calibration_error_of_a_confident_network_that_is_always_wrong_is_1():
    logits = 100 * jax.nn.one_hot(jnp.zeros(8, int), 4)
    metrics = EvalMetrics.total([of_batch(logits, jnp.ones(8, int), jnp.ones(8, bool))])
    assert metrics.calibration_error == pytest.approx(1.0)


def test_calibration_error_of_a_network_whose_confidence_equals_its_accuracy_is_0():
    logits = jnp.log(jnp.tile(jnp.array([[0.75, 0.25]]), (4, 1)))
    metrics = EvalMetrics.total([of_batch(logits, jnp.array([0, 0, 0, 1]), jnp.ones(4, bool))])
    assert metrics.calibration_error == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("logits", [jnp.zeros((1, 10)), jnp.full((1, 10), jnp.nan)])
def test_ties_and_nan_are_not_in_the_top_five(logits):
    metrics = of_batch(logits, jnp.array([3]), jnp.ones(1, bool))
    assert metrics.top5 == 0


def test_train_metrics_remember_the_first_nonfinite_step():
    losses = [jnp.array([1.0]), jnp.array([jnp.nan]), jnp.array([jnp.inf])]
    sums = TrainMetrics.zero()
    assert sums.nonfinite_step == NEVER
    for step, loss in enumerate(losses):
        sums += TrainMetrics.of_batch(loss, jnp.zeros((1, 2)), jnp.eye(1, 2), jnp.int32(step))
    assert sums.nonfinite_step == 1


def test_precision_and_f1_of_a_class_follow_their_definitions():
    logits = jax.nn.one_hot(jnp.array([0, 0, 1, 1, 1]), 3)
    metrics = EvalMetrics.total([of_batch(logits, jnp.array([0, 1, 1, 1, 0]), jnp.ones(5, bool))])
    np.testing.assert_allclose(metrics.class_precision, [1 / 2, 2 / 3, np.nan])
    np.testing.assert_allclose(metrics.class_f1, [1 / 2, 2 / 3, np.nan])


def test_the_most_confused_pairs_come_first():
    logits = jax.nn.one_hot(jnp.array([1, 1, 0, 2]), 3)
    metrics = EvalMetrics.total([of_batch(logits, jnp.array([0, 0, 1, 2]), jnp.ones(4, bool))])
    first, second = metrics.most_confused(("a", "b", "c"))
    assert first == {"true": "a", "predicted": "b", "images": 2}
    assert second == {"true": "b", "predicted": "a", "images": 1}
