"""The block of MobileNetV3 and EfficientNet, with torchvision's attribute names."""

from collections.abc import Callable

import jax
from flax import nnx

from resnet_jax.models.convnet import Make, conv_norm
from resnet_jax.models.layers.dropout import StochasticDepth
from resnet_jax.models.layers.sequential import Sequential
from resnet_jax.models.layers.squeeze_excitation import SqueezeExcitation


class InvertedResidual(nnx.Module):
    """A 1x1 convolution to more channels, a depthwise one, squeeze and excitation, and a 1x1 one to fewer channels.

    Howard et al. 2019, arXiv:1905.02244, figure 4. The shortcut, where there is one, is the identity, and there is no
    activation at the end.

    Args:
        make: makes the layers.
        channels: of the input, of the depthwise convolution and of the output; if the first two are equal, the
            depthwise convolution is the first one.
        size: of the depthwise kernel.
        stride: of the depthwise convolution.
        activation: after the first and the depthwise convolution.
        squeeze: squeeze and excitation for the depthwise convolution's channels, or None.
        drop_rate: probability that the residual of an image is dropped in training.
    """

    def __init__(
        self,
        make: Make,
        channels: tuple[int, int, int],
        size: int,
        *,
        stride: int,
        activation: Callable,
        squeeze: SqueezeExcitation | None,
        drop_rate: float = 0.0,
    ):
        inputs, hidden, outputs = channels
        self.block = Sequential(
            *((conv_norm(make, inputs, hidden, 1, activation=activation),) if inputs != hidden else ()),
            conv_norm(make, hidden, hidden, size, activation=activation, stride=stride, groups=hidden),
            *((squeeze,) if squeeze else ()),
            conv_norm(make, hidden, outputs, 1, activation=None),
        )
        self.shortcut = stride == 1 and inputs == outputs
        self.stochastic_depth = StochasticDepth(drop_rate)

    def __call__(self, maps: jax.Array, *, train: bool | None = None, rngs: nnx.Rngs | None = None) -> jax.Array:
        residual = self.block(maps, train=train)
        if not self.shortcut:
            return residual
        return maps + self.stochastic_depth(residual, train=train, rngs=rngs)
