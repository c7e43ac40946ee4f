"""Batch normalization against its closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax import BatchNorm


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_training_normalizes_by_the_biased_variance_of_the_batch():
    images = draw(4, 3, 5, 2) * 3 + 1
    norm = BatchNorm(2)
    norm.scale[...], norm.bias[...] = jnp.array([2.0, 0.5]), jnp.array([1.0, -1.0])
    expected = (images - images.mean((0, 1, 2))) / np.sqrt(images.var((0, 1, 2)) + 1e-5) * [2.0, 0.5] + [1.0, -1.0]
    np.testing.assert_allclose(norm(jnp.asarray(images), train=True), expected, rtol=1e-4, atol=1e-5)


def test_the_running_variance_averages_the_unbiased_variance():
    images = draw(2, 1, 2, 3)
    norm = BatchNorm(3)
    norm(jnp.asarray(images), train=True)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * images.var((0, 1, 2), ddof=1), rtol=1e-5)


def test_momentum_is_the_share_of_the_old_running_mean_that_is_kept():
    images = draw(2, 3, 3, 2) + 5
    norm = BatchNorm(2, momentum=0.75)
    norm.mean[...] = jnp.array([1.0, 2.0])
    norm(jnp.asarray(images), train=True)
    np.testing.assert_allclose(norm.mean[...], 0.75 * np.array([1, 2]) + 0.25 * images.mean((0, 1, 2)), rtol=1e-5)


def test_evaluation_normalizes_by_the_running_statistics():
    norm = BatchNorm(2)
    norm.mean[...], norm.var[...] = jnp.array([1.0, -1.0]), jnp.array([4.0, 0.25])
    images = draw(2, 3, 3, 2)
    expected = (images - [1.0, -1.0]) / np.sqrt(np.array([4.0, 0.25]) + 1e-5)
    np.testing.assert_allclose(norm(jnp.asarray(images), train=False), expected, rtol=1e-5, atol=1e-6)


def test_evaluation_does_not_change_the_running_statistics():
    norm = BatchNorm(2)
    norm(jnp.asarray(draw(2, 3, 3, 2)), train=False)
    assert (norm.mean[...] == 0).all() and (norm.var[...] == 1).all()


def test_ghost_normalization_normalizes_each_group_separately():
    images = jnp.asarray(draw(6, 3, 3, 4))
    ghost = BatchNorm(4, group_size=2)(images, train=True)
    alone = [BatchNorm(4)(images[start : start + 2], train=True) for start in (0, 2, 4)]
    np.testing.assert_allclose(ghost, jnp.concatenate(alone), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("statistic", ["mean", "var"])
def test_ghost_running_statistics_are_the_average_over_the_groups(statistic):
    images = jnp.asarray(draw(6, 3, 3, 4))
    ghost = BatchNorm(4, group_size=2)
    ghost(images, train=True)
    alone = [BatchNorm(4) for _ in range(3)]
    for index, norm in enumerate(alone):
        norm(images[2 * index : 2 * index + 2], train=True)
    expected = np.mean([getattr(norm, statistic)[...] for norm in alone], axis=0)
    np.testing.assert_allclose(getattr(ghost, statistic)[...], expected, rtol=1e-5, atol=1e-6)


def test_statistics_of_bfloat16_images_are_computed_in_float32():
    images = jnp.asarray(draw(64, 4, 4, 1) + 30, jnp.bfloat16)
    norm = BatchNorm(1, momentum=0.0, dtype=jnp.bfloat16)
    assert norm(images, train=True).dtype == jnp.bfloat16
    assert norm.var.dtype == jnp.float32
    expected = np.asarray(images, np.float64).var(ddof=1)
    np.testing.assert_allclose(norm.var[...], expected, rtol=1e-2)  # the error would be 1e-1 in bfloat16


def test_the_gradient_of_a_channel_is_orthogonal_to_a_constant_and_to_the_images():
    images, weights = jnp.asarray(draw(4, 3, 3, 2)), jnp.asarray(draw(4, 3, 3, 2, seed=1))
    gradient = jax.grad(lambda images: (BatchNorm(2)(images, train=True) * weights).sum())(images)
    np.testing.assert_allclose(gradient.sum((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose((gradient * images).sum((0, 1, 2)), 0, atol=1e-3)  # not exactly 0, because of epsilon


def test_the_gradients_equal_those_of_two_pass_statistics_in_float64():
    def reference(groups, scale, bias):
        mean = groups.mean((1, 2, 3), keepdims=True)
        var = jnp.square(groups - mean).mean((1, 2, 3), keepdims=True)
        return (groups - mean) / jnp.sqrt(var + 1e-5) * scale + bias

    def ours(groups, scale, bias):
        norm = BatchNorm(6, group_size=3, dtype=jnp.float64)
        for variable, value in ((norm.scale, scale), (norm.bias, bias), (norm.mean, origin)):
            variable.set_value(value)  # with its type
        return norm(groups.reshape(-1, *groups.shape[2:]), train=True).reshape(groups.shape)

    with jax.enable_x64(True):
        shapes = ((2, 3, 4, 5, 6), (6,), (6,), (2, 3, 4, 5, 6), (6,))
        groups, scale, bias, weights, origin = (
            jnp.asarray(draw(*shape, seed=seed), jnp.float64) for seed, shape in enumerate(shapes)
        )

        def gradients(function):
            return jax.grad(lambda *args: (jnp.sin(function(*args)) * weights).sum(), (0, 1, 2))(groups, scale, bias)

        for got, expected in zip(gradients(ours), gradients(reference), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_the_variance_of_values_far_from_zero_is_exact_if_the_running_mean_is_near_them():
    images = draw(64, 4, 4, 1) + 3000
    norm = BatchNorm(1, momentum=0.0)
    norm.mean[...] = jnp.array([2998.0])
    norm(jnp.asarray(images), train=True)
    np.testing.assert_allclose(norm.var[...], images.astype(np.float64).var(ddof=1), rtol=1e-5)


def test_training_on_a_single_value_per_channel_names_the_remedy():
    with pytest.raises(ValueError, match=r"got one value per channel.*\(1, 1, 1, 2\).*use a larger batch"):
        BatchNorm(2)(jnp.zeros((1, 1, 1, 2)), train=True)


def test_a_batch_that_is_not_a_multiple_of_the_group_size_is_an_error():
    with pytest.raises(ValueError, match=r"got 6 images; expected a multiple of group_size=4"):
        BatchNorm(2, group_size=4)(jnp.zeros((6, 3, 3, 2)), train=True)
