"""Layers of the networks beside the ResNets against their closed forms, and against PyTorch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax import Conv
from resnet_jax.models.layers.dropout import StochasticDepth
from resnet_jax.models.layers.initializers import next_key, truncated_normal
from resnet_jax.models.layers.layer_norm import LayerNorm
from resnet_jax.models.layers.pooling import AveragePool
from resnet_jax.models.layers.residual import ResNetBlock
from resnet_jax.models.layers.squeeze_excitation import SqueezeExcitation
from resnet_jax.models.resnet_d import ResNetDBlock


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("make", [lambda: nnx.Rngs(0), lambda: nnx.Rngs(1, params=2)])
def test_the_next_keys_are_those_of_flax(make):
    ours, flaxs = make(), make()
    got, expected = [next_key(ours) for _ in range(3)], [flaxs.params() for _ in range(3)]
    assert got == expected and ours.params() == flaxs.params()


def test_layer_norm_normalizes_the_channels_of_each_pixel_by_their_biased_variance():
    maps = draw(2, 3, 4, 5) * 3 + 1
    norm = LayerNorm(5)
    norm.scale[...], norm.bias[...] = draw(5, seed=1), draw(5, seed=2)
    centered = maps - maps.mean(-1, keepdims=True)
    expected = centered / np.sqrt(maps.var(-1, keepdims=True) + 1e-6) * draw(5, seed=1) + draw(5, seed=2)
    np.testing.assert_allclose(norm(jnp.asarray(maps)), expected, rtol=1e-4, atol=1e-5)


def test_layer_norm_keeps_its_precision_far_from_zero():
    maps = jnp.asarray(draw(1, 1, 4, 64) + 1000)
    np.testing.assert_allclose(LayerNorm(64)(maps).var(-1), 1, rtol=1e-4)


def test_layer_norm_computes_its_statistics_in_float32_and_returns_its_own_type():
    maps = jnp.asarray(draw(1, 2, 2, 512) + 50, jnp.bfloat16)
    normalized = LayerNorm(512, dtype=jnp.bfloat16)(maps)
    expected = LayerNorm(512)(maps.astype(jnp.float32)).astype(jnp.bfloat16)
    assert normalized.dtype == jnp.bfloat16 and (normalized == expected).all()


def test_stochastic_depth_drops_whole_images_at_its_rate_and_keeps_the_mean():
    maps = jnp.ones((4000, 2, 2, 1))
    dropped = np.asarray(StochasticDepth(0.25)(maps, train=True, rngs=nnx.Rngs(dropout=0)))
    firsts = dropped[:, :1, :1]
    assert (dropped == firsts).all() and set(np.unique(firsts)) == {0, np.float32(1 / 0.75)}
    assert dropped.mean() == pytest.approx(1, abs=5 * np.sqrt(0.25 / 0.75 / 4000))


def test_stochastic_depth_is_the_identity_in_evaluation_and_at_rate_0():
    maps = jnp.asarray(draw(3, 2, 2, 4))
    assert (StochasticDepth(0.5)(maps, train=False) == maps).all()
    assert (StochasticDepth(0.0)(maps, train=True) == maps).all()


def test_squeeze_and_excitation_multiplies_each_channel_by_its_gate():
    layer = SqueezeExcitation(6, 2, conv=partial(Conv, rngs=nnx.Rngs(0)))
    layer.fc1.bias[...], layer.fc2.bias[...] = draw(2, seed=1), draw(6, seed=2)
    maps = draw(3, 4, 5, 6) + 0.5
    (first, second) = (np.asarray(conv.kernel[0, 0]) for conv in (layer.fc1, layer.fc2))
    squeezed = np.maximum(maps.mean((1, 2)) @ first + draw(2, seed=1), 0)
    gates = 1 / (1 + np.exp(-(squeezed @ second + draw(6, seed=2))))
    np.testing.assert_allclose(layer(jnp.asarray(maps)), maps * gates[:, None, None], rtol=1e-5, atol=1e-6)


def test_an_average_over_an_incomplete_window_is_that_of_its_pixels():
    maps = jnp.arange(15.0).reshape(1, 3, 5, 1)
    pooled = AveragePool(2, ceil=True)(maps)[0, :, :, 0]
    np.testing.assert_allclose(pooled, [[3, 5, 6.5], [10.5, 12.5, 14]])


@pytest.mark.parity  # needs torch
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("ceil", [False, True])
def test_average_pooling_equals_pytorchs(size, ceil):
    import torch

    maps = draw(2, 7, 8, 3)
    pool = torch.nn.AvgPool2d(size, ceil_mode=ceil, count_include_pad=False)
    expected = pool(torch.tensor(maps.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(AveragePool(size, ceil)(jnp.asarray(maps)), expected, rtol=1e-5, atol=1e-6)


def test_truncated_normal_values_within_wide_limits_are_never_at_a_limit():
    """Key 4 has a draw that `jax.random.truncated_normal` turns into the lower end, 100 deviations from 0."""
    values = np.asarray(jax.jit(lambda: truncated_normal(0.02)(jax.random.key(4), (4096, 1024)))())
    assert np.abs(values).max() < 6 * 0.02 and values.std() == pytest.approx(0.02, rel=1e-3)


def test_the_shortcut_of_the_d_block_uses_every_pixel_and_that_of_the_original_one_of_four():
    def pixels(kind: type[ResNetBlock]) -> int:
        block = kind(2, 4, stride=2, rngs=nnx.Rngs(0))
        block.bn2.scale[...] = jnp.zeros(4)  # leaves the shortcut alone
        block.downsample[-1].bias[...] = jnp.full(4, 100.0)  # keeps ReLU out of the derivative
        return int((jax.grad(lambda maps: block(maps, train=False).sum())(jnp.ones((1, 6, 6, 2))) != 0).all(-1).sum())

    assert (pixels(ResNetBlock), pixels(ResNetDBlock)) == (9, 36)
