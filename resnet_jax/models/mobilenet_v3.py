"""MobileNetV3 (Howard et al. 2019, arXiv:1905.02244) with torchvision's attribute names, NHWC."""

from functools import partial
from typing import NamedTuple

import jax
from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make, conv_norm, trunk_stages
from resnet_jax.models.inverted_residual import InvertedResidual
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.initializers import normal
from resnet_jax.models.layers.pooling import global_average
from resnet_jax.models.layers.sequential import Sequential
from resnet_jax.models.layers.squeeze_excitation import SqueezeExcitation


class Row(NamedTuple):
    """A block, as a row of table 1 of the paper."""

    size: int
    """Of the depthwise kernel."""
    hidden: int
    """Channels of the depthwise convolution."""
    outputs: int
    squeezed: int
    """Channels inside the squeeze and excitation: a quarter of `hidden`, as a multiple of 8; 0 without it."""
    stride: int = 1


LARGE = (
    *(Row(3, 16, 16, 0), Row(3, 64, 24, 0, 2), Row(3, 72, 24, 0)),
    *(Row(5, 72, 40, 24, 2), Row(5, 120, 40, 32), Row(5, 120, 40, 32)),
    *(Row(3, 240, 80, 0, 2), Row(3, 200, 80, 0), Row(3, 184, 80, 0), Row(3, 184, 80, 0)),
    *(Row(3, 480, 112, 120), Row(3, 672, 112, 168)),
    *(Row(5, 672, 160, 168, 2), Row(5, 960, 160, 240), Row(5, 960, 160, 240)),
)
RELU = 6  # first blocks, whose activation is ReLU; after them it is hard swish


class MobileNetV3Large(ConvNet):
    """MobileNetV3-Large: 5,483,032 parameters and 0.217 billion multiply-adds at 224x224. Arguments: see `ConvNet`.

    The stem "cifar" has stride 1 in the first convolution and in the first block of 24 channels, like that of
    `MobileNetV2`, so that 32x32 images end as 4x4 maps.
    """

    head = "classifier.3"

    def build(self, num_classes: int, make: Make) -> None:
        small = self.stem == "cifar"
        make = make._replace(norm=partial(make.norm, momentum=0.99, epsilon=1e-3))
        squeeze = partial(SqueezeExcitation, conv=make.conv, gate=nnx.hard_sigmoid)
        layers: list[nnx.Module] = [conv_norm(make, 3, 16, 3, activation=nnx.hard_swish, stride=1 if small else 2)]
        inputs = 16
        for number, row in enumerate(LARGE):
            block = InvertedResidual(
                make,
                (inputs, row.hidden, row.outputs),
                row.size,
                stride=1 if small and row.outputs == 24 else row.stride,
                activation=nnx.relu if number < RELU else nnx.hard_swish,
                squeeze=squeeze(row.hidden, row.squeezed) if row.squeezed else None,
            )
            layers.append(block)
            inputs = row.outputs
        linear = partial(make.linear, kernel_init=normal(0.01))
        self.trunk = Sequential(*layers, conv_norm(make, inputs, 960, 1, activation=nnx.hard_swish))
        self.classifier = Sequential(linear(960, 1280), nnx.hard_swish, Dropout(0.2), linear(1280, num_classes))

    def stages(self) -> tuple[tuple[str, ...], ...]:
        return trunk_stages(4, 7, 13, 17) if self.stem == "cifar" else trunk_stages(2, 4, 7, 13, 17)

    def pool(self, maps: jax.Array, *, train: bool | None, rngs: nnx.Rngs | None) -> jax.Array:
        return self.classifier(global_average(maps), train=train, rngs=rngs, count=3)
