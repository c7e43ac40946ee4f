"""Layers one after another: their paths, their order and what they are called with."""

import jax.numpy as jnp
from flax import nnx

from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.norm import BatchNorm
from resnet_jax.models.layers.sequential import Sequential


def paths(module: nnx.Module) -> set[tuple]:
    return {path for path, _ in nnx.to_flat_state(nnx.state(module, nnx.Param))}


def test_layers_are_numbered_or_have_the_name_they_are_given():
    layers = Sequential(BatchNorm(3), nnx.relu, BatchNorm(3), last=BatchNorm(3))
    assert paths(layers) == {(name, kind) for name in ("0", "2", "last") for kind in ("scale", "bias")}


def test_numbered_layers_come_first_and_each_in_its_order():
    layers = Sequential(lambda x: x + 1, double=lambda x: 2 * x, less=lambda x: x - 3)
    assert (float(layers(jnp.float32(2))), len(layers)) == (3, 3)
    assert float(layers(jnp.float32(2), count=2)) == 6
    assert layers[-1] is layers.less and list(layers) == [layers[0], layers[1], layers[2]]


def test_mode_and_random_state_reach_the_layers_that_take_them():
    layers = Sequential(Sequential(BatchNorm(1), nnx.relu), Dropout(0.5))
    maps = jnp.arange(64.0).reshape(4, 4, 4, 1)
    outputs = layers(maps, train=True, rngs=nnx.Rngs(dropout=0))
    assert float(layers[0][0].mean[0]) != 0 and (outputs == 0).sum() > 32
    unchanged = layers(maps, train=False)
    assert (unchanged == layers(maps)).all() and (unchanged > 0).sum() >= 60
