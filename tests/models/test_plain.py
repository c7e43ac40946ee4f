"""The networks without shortcuts are the ResNets with nothing but the shortcuts taken out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax import PlainBlock, PlainNet18, PlainNet34, ResNet18, ResNet34, ResNetBlock, to_torchvision
from resnet_jax.models.network import Network
from resnet_jax.weights.identify import identify

PAIRS = pytest.mark.parametrize("plain, resnet", [(PlainNet18, ResNet18), (PlainNet34, ResNet34)])


def with_weights_of(block: ResNetBlock, plain: PlainBlock) -> PlainBlock:
    """Give a plain block the weights and statistics that it shares with a ResNet's."""
    shared = nnx.to_pure_dict(nnx.state(block))
    nnx.update(plain, {key: value for key, value in shared.items() if key != "downsample"})
    return plain


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("inputs, stride", [(4, 1), (2, 2)], ids=["identity", "projection"])
def test_a_plain_block_with_the_shortcut_added_before_its_last_relu_is_the_block_of_a_resnet(inputs, stride, train):
    block = ResNetBlock(inputs, 4, stride=stride, rngs=nnx.Rngs(0))
    plain = with_weights_of(block, PlainBlock(inputs, 4, stride=stride, rngs=nnx.Rngs(1)))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, inputs)), jnp.float32)
    shortcut = images
    if block.downsample is not None:
        conv, norm = block.downsample
        shortcut = norm(conv(images), train=train)
    expected = nnx.relu(shortcut + plain.residual(images, train=train))
    np.testing.assert_allclose(block(images, train=train), expected, rtol=1e-5, atol=1e-6)


@PAIRS
def test_a_plain_network_has_the_weights_of_the_resnet_without_its_projections(plain, resnet):
    ours, theirs = (nnx.to_flat_state(nnx.state(nnx.eval_shape(network))) for network in (plain, resnet))
    shapes = {path: variable.shape for path, variable in theirs if "downsample" not in path}
    assert {path: variable.shape for path, variable in ours} == shapes


@PAIRS
def test_the_projections_are_all_that_a_plain_network_saves(plain, resnet):
    ours, theirs = (
        sum(leaf.size for leaf in jax.tree.leaves(nnx.state(nnx.eval_shape(network), nnx.Param)))
        for network in (plain, resnet)
    )
    convolutions, norms = 64 * 128 + 128 * 256 + 256 * 512, 2 * (128 + 256 + 512)
    assert theirs - ours == convolutions + norms == 173_824


def test_the_same_seed_starts_the_first_block_of_both_with_the_same_weights():
    plain, resnet = (to_torchvision(network(5, width=2, rngs=nnx.Rngs(3))) for network in (PlainNet18, ResNet18))
    np.testing.assert_array_equal(plain["layer1.0.conv1.weight"], resnet["layer1.0.conv1.weight"])


@pytest.mark.slow  # traces the known networks
def test_a_narrow_plain_network_is_identified_with_its_width():
    network = Network("plain34", num_classes=5, stem="cifar", width=2)
    assert identify(to_torchvision(nnx.jit(network.build)())) == network


@pytest.mark.parametrize("option", [{"zero_init": True}, {"drop_path": 0.1}])
def test_what_needs_a_shortcut_is_refused(option):
    with pytest.raises(ValueError, match="shortcut"):
        PlainNet18(**option)
