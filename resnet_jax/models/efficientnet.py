"""EfficientNet (Tan and Le 2019, arXiv:1905.11946) with torchvision's attribute names, NHWC."""

import jax
from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make, conv_norm, trunk_stages
from resnet_jax.models.inverted_residual import InvertedResidual
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.initializers import uniform
from resnet_jax.models.layers.pooling import global_average
from resnet_jax.models.layers.sequential import Sequential
from resnet_jax.models.layers.squeeze_excitation import SqueezeExcitation

GROUPS = (
    *((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2)),
    *((6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1)),
)
"""Blocks by group, table 1 of the paper: expansion, kernel size, channels, number of blocks, stride of the first."""
DROP_RATE = 0.2  # of the residual of a block after the last; it grows linearly from 0 in the first


class EfficientNetB0(ConvNet):
    """EfficientNet-B0: 5,288,548 parameters and 0.386 billion multiply-adds at 224x224. Arguments: see `ConvNet`.

    The stem "cifar" has stride 1 in the first convolution and in the group of 24 channels, like that of `MobileNetV2`,
    so that 32x32 images end as 4x4 maps.
    """

    head = "classifier.1"

    def build(self, num_classes: int, make: Make) -> None:
        small = self.stem == "cifar"
        layers = [conv_norm(make, 3, 32, 3, activation=nnx.silu, stride=1 if small else 2)]
        inputs, before, total = 32, 0, sum(count for *_, count, _ in GROUPS)
        for expansion, size, outputs, count, stride in GROUPS:
            blocks = []
            for index in range(count):
                hidden, squeezed = expansion * inputs, inputs // 4
                block = InvertedResidual(
                    make,
                    (inputs, hidden, outputs),
                    size,
                    stride=1 if index > 0 or (small and outputs == 24) else stride,
                    activation=nnx.silu,
                    squeeze=SqueezeExcitation(hidden, squeezed, conv=make.conv, activation=nnx.silu),
                    drop_rate=DROP_RATE * (before + index) / total,
                )
                blocks.append(block)
                inputs = outputs
            layers.append(Sequential(*blocks))
            before += count
        self.trunk = Sequential(*layers, conv_norm(make, inputs, 1280, 1, activation=nnx.silu))
        kernel_init = uniform(num_classes**-0.5)
        self.classifier = Sequential(Dropout(0.2), make.linear(1280, num_classes, kernel_init=kernel_init))

    def stages(self) -> tuple[tuple[str, ...], ...]:
        return trunk_stages(3, 4, 6, 9) if self.stem == "cifar" else trunk_stages(2, 3, 4, 6, 9)

    def pool(self, maps: jax.Array, *, train: bool | None, rngs: nnx.Rngs | None) -> jax.Array:
        return self.classifier(global_average(maps), train=train, rngs=rngs, count=1)
