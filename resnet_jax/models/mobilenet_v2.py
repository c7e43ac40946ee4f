"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) with torchvision's attribute names, NHWC."""

import jax
from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make, conv_norm, trunk_stages
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.initializers import normal
from resnet_jax.models.layers.pooling import global_average
from resnet_jax.models.layers.sequential import Sequential

GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Blocks by group, as in table 2 of the paper: expansion, channels, number of blocks, stride of the first."""


class InvertedResidual(nnx.Module):
    """A 1x1 convolution to more channels, a depthwise 3x3 one, and a 1x1 one to fewer, without an activation after it.

    The shortcut, where there is one, is the identity.

    Args:
        make: makes the layers.
        inputs, outputs: channels of the block's input and output.
        expansion: channels of the depthwise convolution, as a multiple of `inputs`; with 1 it is the first one.
        stride: of the depthwise convolution.
    """

    def __init__(self, make: Make, inputs: int, outputs: int, *, expansion: int, stride: int):
        hidden = expansion * inputs
        expand = (conv_norm(make, inputs, hidden, 1, activation=nnx.relu6),) if expansion > 1 else ()
        depthwise = conv_norm(make, hidden, hidden, 3, activation=nnx.relu6, stride=stride, groups=hidden)
        self.conv = Sequential(*expand, depthwise, make.conv(hidden, outputs, 1), make.norm(outputs))
        self.shortcut = stride == 1 and inputs == outputs

    def __call__(self, maps: jax.Array, *, train: bool | None = None) -> jax.Array:
        residual = self.conv(maps, train=train)
        return maps + residual if self.shortcut else residual


class MobileNetV2(ConvNet):
    """MobileNetV2: 3,504,872 parameters and 0.301 billion multiply-adds at 224x224. Arguments: see `ConvNet`.

    The stem "cifar" has stride 1 in the first convolution and in the group of 24 channels, as in
    https://github.com/kuangliu/pytorch-cifar, so that 32x32 images end as 4x4 maps.
    """

    head = "classifier.1"

    def build(self, num_classes: int, make: Make) -> None:
        small = self.stem == "cifar"
        layers: list[nnx.Module] = [conv_norm(make, 3, 32, 3, activation=nnx.relu6, stride=1 if small else 2)]
        inputs = 32
        for expansion, outputs, count, stride in GROUPS:
            for index in range(count):
                stays = index > 0 or (small and outputs == 24)
                block = InvertedResidual(make, inputs, outputs, expansion=expansion, stride=1 if stays else stride)
                layers.append(block)
                inputs = outputs
        self.trunk = Sequential(*layers, conv_norm(make, inputs, 1280, 1, activation=nnx.relu6))
        self.classifier = Sequential(Dropout(0.2), make.linear(1280, num_classes, kernel_init=normal(0.01)))

    def stages(self) -> tuple[tuple[str, ...], ...]:
        return trunk_stages(4, 7, 14, 19) if self.stem == "cifar" else trunk_stages(2, 4, 7, 14, 19)

    def pool(self, maps: jax.Array, *, train: bool | None, rngs: nnx.Rngs | None) -> jax.Array:
        return self.classifier(global_average(maps), train=train, rngs=rngs, count=1)
