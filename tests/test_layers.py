"""Convolution and batch normalisation against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax import BatchNorm, Conv


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolved(images: np.ndarray, kernel: np.ndarray, stride: int, groups: int) -> np.ndarray:
    """Sums products over windows that start `size // 2` pixels before the image, for each group of channels alone."""
    size = kernel.shape[0]
    padded = np.pad(images, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    results = [
        np.einsum("bhwcij,ijco->bhwo", window, part)
        for window, part in zip(np.split(windows, groups, 3), np.split(kernel, groups, 3), strict=True)
    ]
    return np.concatenate(results, -1)


@pytest.mark.parametrize(
    "image_size", [3, 4, 8, 9]
)  # at 3 and 4 the output is small enough for the CPU's matrix product
@pytest.mark.parametrize(
    "kernel_size, stride, groups", [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 2, 2), (7, 2, 1)]
)
def test_a_convolution_is_padded_alike_on_every_side(image_size, kernel_size, stride, groups):
    conv = Conv(4, 6, kernel_size, stride=stride, groups=groups, rngs=nnx.Rngs(0))
    images = draw(2, image_size, image_size, 4)
    wanted = convolved(images, np.asarray(conv.kernel[...]), stride, groups)
    np.testing.assert_allclose(conv(jnp.asarray(images)), wanted, rtol=1e-4, atol=1e-5)


def test_a_kernel_is_drawn_with_variance_two_over_fan_out():
    kernel = Conv(64, 128, 3, rngs=nnx.Rngs(0)).kernel[...]
    wanted = np.sqrt(2 / (3 * 3 * 128))
    assert abs(kernel.std() - wanted) < 5 * wanted / np.sqrt(2 * kernel.size)


def test_a_convolution_in_bfloat16_keeps_its_kernel_in_float32():
    conv = Conv(4, 6, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert conv(jnp.asarray(draw(1, 5, 5, 4))).dtype == jnp.bfloat16
    assert conv.kernel.dtype == jnp.float32


def test_training_normalises_by_the_biased_variance_of_the_batch():
    images = draw(4, 3, 5, 2) * 3 + 1
    norm = BatchNorm(2)
    norm.scale[...], norm.bias[...] = jnp.array([2.0, 0.5]), jnp.array([1.0, -1.0])
    wanted = (images - images.mean((0, 1, 2))) / np.sqrt(images.var((0, 1, 2)) + 1e-5) * [2.0, 0.5] + [1.0, -1.0]
    np.testing.assert_allclose(norm(jnp.asarray(images), train=True), wanted, rtol=1e-4, atol=1e-5)


def test_the_running_variance_averages_the_unbiased_one():
    images = draw(2, 1, 2, 3)
    norm = BatchNorm(3)
    norm(jnp.asarray(images), train=True)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * images.var((0, 1, 2), ddof=1), rtol=1e-5)


def test_the_running_mean_keeps_the_share_momentum_of_the_old_one():
    images = draw(2, 3, 3, 2) + 5
    norm = BatchNorm(2, momentum=0.75)
    norm.mean[...] = jnp.array([1.0, 2.0])
    norm(jnp.asarray(images), train=True)
    np.testing.assert_allclose(norm.mean[...], 0.75 * np.array([1, 2]) + 0.25 * images.mean((0, 1, 2)), rtol=1e-5)


def test_evaluation_normalises_by_the_running_statistics():
    norm = BatchNorm(2)
    norm.mean[...], norm.var[...] = jnp.array([1.0, -1.0]), jnp.array([4.0, 0.25])
    images = draw(2, 3, 3, 2)
    wanted = (images - [1.0, -1.0]) / np.sqrt(np.array([4.0, 0.25]) + 1e-5)
    np.testing.assert_allclose(norm(jnp.asarray(images), train=False), wanted, rtol=1e-5, atol=1e-6)


def test_evaluation_leaves_the_running_statistics_alone():
    norm = BatchNorm(2)
    norm(jnp.asarray(draw(2, 3, 3, 2)), train=False)
    assert (norm.mean[...] == 0).all() and (norm.var[...] == 1).all()


def test_ghost_normalisation_treats_each_group_alone():
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
    wanted = np.mean([getattr(norm, statistic)[...] for norm in alone], axis=0)
    np.testing.assert_allclose(getattr(ghost, statistic)[...], wanted, rtol=1e-5, atol=1e-6)


def test_statistics_of_bfloat16_images_are_computed_in_float32():
    images = jnp.asarray(draw(64, 4, 4, 1) + 30, jnp.bfloat16)
    norm = BatchNorm(1, momentum=0.0, dtype=jnp.bfloat16)
    assert norm(images, train=True).dtype == jnp.bfloat16
    assert norm.var.dtype == jnp.float32
    np.testing.assert_allclose(norm.var[...], np.asarray(images, np.float64).var(ddof=1), rtol=1e-4)


def test_normalisation_passes_no_gradient_along_the_mean_and_the_slope_of_a_channel():
    images, weights = jnp.asarray(draw(4, 3, 3, 2)), jnp.asarray(draw(4, 3, 3, 2, seed=1))
    gradient = jax.grad(lambda images: (BatchNorm(2)(images, train=True) * weights).sum())(images)
    np.testing.assert_allclose(gradient.sum((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose((gradient * images).sum((0, 1, 2)), 0, atol=1e-3)  # not quite: epsilon


def test_training_on_a_single_value_per_channel_says_what_to_do():
    with pytest.raises(ValueError, match=r"got one value per channel.*\(1, 1, 1, 2\).*use a larger batch"):
        BatchNorm(2)(jnp.zeros((1, 1, 1, 2)), train=True)


def test_a_batch_that_is_no_multiple_of_the_group_says_what_is_wanted():
    with pytest.raises(ValueError, match=r"got 6 images; wanted a multiple of group_size=4"):
        BatchNorm(2, group_size=4)(jnp.zeros((6, 3, 3, 2)), train=True)
