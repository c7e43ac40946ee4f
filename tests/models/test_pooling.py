"""Pooling against PyTorch's, and in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax.models.layers.pooling import AveragePool, MaxPool, adaptive_average, blur, flatten

MAPS = jnp.float32(np.random.default_rng(0).normal(size=(2, 13, 10, 3)) - 3)  # mostly below the 0 of a wrong padding


def theirs(layer, maps):
    import torch

    return layer(torch.tensor(np.asarray(maps).transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)


@pytest.mark.parity  # needs torch
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("size, stride, padding", [(3, 2, 0), (3, 2, 1), (2, 2, 0), (2, 2, 1), (3, 1, 1), (2, 3, 1)])
@pytest.mark.parametrize("side", [5, 6, 7, 8, 10])
def test_max_pooling_equals_pytorchs(size, stride, padding, ceil, side):
    import torch

    maps = MAPS[:, :side]
    expected = theirs(torch.nn.MaxPool2d(size, stride, padding, ceil_mode=ceil), maps)
    np.testing.assert_array_equal(MaxPool(size, stride, padding, ceil)(maps), expected)


@pytest.mark.parametrize("size, stride, padding", [(3, 2, 0), (3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 3, 1)])
@pytest.mark.parametrize("side", [1, 6, 9])
def test_max_pooling_and_its_derivatives_are_xlas(size, stride, padding, side):
    maps = jnp.maximum(MAPS[:, :side] + 3, 0)  # as after ReLU: windows have several maxima

    def xlas(maps):
        return nnx.max_pool(maps, (size, size), (stride, stride), ((padding, padding),) * 2)

    def derivatives(pooling, maps):
        pooled, transpose = jax.vjp(pooling, maps)
        cotangents = jnp.cos(jnp.arange(pooled.size, dtype=jnp.float32)).reshape(pooled.shape)
        along = jax.jvp(lambda maps: jax.vjp(lambda x: pooling(x) ** 3, maps)[1](cotangents)[0], (maps,), (maps,))
        return pooled, *transpose(cotangents), *along

    ours, theirs = (jax.jit(derivatives, static_argnums=0)(it, maps) for it in (MaxPool(size, stride, padding), xlas))
    np.testing.assert_array_equal(ours[0], theirs[0])
    for got, expected in zip(ours[1:], theirs[1:], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_an_incomplete_last_window_counts_with_ceil_alone():
    maps = jnp.arange(4.0).reshape(1, 4, 1, 1) * jnp.ones((1, 4, 4, 1))
    assert MaxPool(3, 2)(maps)[0, :, 0, 0].tolist() == [2]
    assert MaxPool(3, 2, ceil=True)(maps)[0, :, 0, 0].tolist() == [2, 3]


@pytest.mark.parity  # needs torch
def test_average_pooling_equals_pytorchs():
    import torch

    np.testing.assert_allclose(AveragePool(2)(MAPS), theirs(torch.nn.AvgPool2d(2), MAPS), rtol=1e-6)


@pytest.mark.parity  # needs torch
@pytest.mark.parametrize("size", [1, 3, 7, 10, 13, 20])
def test_the_adaptive_average_equals_pytorchs_for_smaller_and_larger_maps(size):
    import torch

    np.testing.assert_allclose(
        adaptive_average(MAPS, size), theirs(torch.nn.AdaptiveAvgPool2d(size), MAPS), rtol=1e-5, atol=1e-6
    )


def test_maps_are_flattened_channels_first():
    maps = jnp.arange(12.0).reshape(1, 2, 3, 2)
    assert flatten(maps)[0].tolist() == [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]


def test_a_blurred_pixel_is_the_weighted_mean_of_its_neighbors():
    single = jnp.zeros((1, 5, 6, 2)).at[0, 2, 3, 1].set(16.0).at[0, 0, 0, 0].set(16.0)
    blurred = blur(single)[0]
    assert blurred[..., 1].tolist() == np.pad([[1, 2, 1], [2, 4, 2], [1, 2, 1]], ((1, 1), (2, 1))).tolist()
    assert blurred[:2, :2, 0].tolist() == [[4, 2], [2, 1]] and blurred[..., 0].sum() == 9  # the rest is beyond the edge


def test_blurring_removes_what_changes_with_each_pixel_and_keeps_what_does_not_change():
    stripes = jnp.ones((1, 8, 8, 1)) + jnp.cos(jnp.pi * jnp.arange(8))[:, None]
    np.testing.assert_allclose(blur(stripes)[:, 1:-1, 1:-1], 1.0, rtol=1e-6)
