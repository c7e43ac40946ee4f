"""Squeeze and excitation: channels weighted by what the whole map holds."""

from collections.abc import Callable

import jax
from flax import nnx

from resnet_jax.models.layers.convolution import Conv


class SqueezeExcitation(nnx.Module):
    """Multiply each channel by a gate that two 1x1 convolutions compute from the means of all channels.

    Hu et al. 2017, arXiv:1709.01507.

    Args:
        channels: of the maps.
        squeezed: channels between the two convolutions.
        conv: makes a convolution, with bias.
        activation: after the first convolution.
        gate: after the second, with values from 0 to 1.
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        *,
        conv: Callable[..., Conv],
        activation: Callable = nnx.relu,
        gate: Callable = nnx.sigmoid,
    ):
        self.fc1 = conv(channels, squeezed, 1, bias=True)
        self.fc2 = conv(squeezed, channels, 1, bias=True)
        self.activation = activation
        self.gate = gate

    def __call__(self, maps: jax.Array) -> jax.Array:
        means = maps.mean((1, 2), keepdims=True)
        return maps * self.gate(self.fc2(self.activation(self.fc1(means))))
