"""ResNet-D (He et al. 2018, "Bag of Tricks for Image Classification", arXiv:1812.01187, section 4.2), NHWC.

The names of the weights are those of `resnet18d` in https://github.com/huggingface/pytorch-image-models.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make
from resnet_jax.models.layers.linear import make_classifier
from resnet_jax.models.layers.pooling import AveragePool, MaxPool
from resnet_jax.models.layers.residual import Norm, ResNetBlock
from resnet_jax.models.layers.sequential import Sequential


def make_average_projection(
    in_channels: int, out_channels: int, stride: int, conv: Callable, norm: Norm
) -> Sequential | None:
    """Make an average pooling that lowers the resolution, the 1x1 projection and its normalization.

    A 1x1 convolution of stride 2 would ignore three of four pixels. Return None where the shortcut is the identity.
    """
    if stride == 1 and in_channels == out_channels:
        return None
    return Sequential(AveragePool(stride, ceil=True), conv(in_channels, out_channels, 1), norm(out_channels))


class ResNetDBlock(ResNetBlock):
    """The block of ResNet-18 with an average pooling before the projection of the shortcut."""

    make_downsample: ClassVar[Callable] = staticmethod(make_average_projection)


class ResNet18D(ConvNet):
    """ResNet-18-D: 11,708,744 parameters and 2.054 billion multiply-adds at 224x224. Arguments: see `ConvNet`.

    It differs from ResNet-18 in the stem, three 3x3 convolutions in place of one of 7x7, and in the shortcuts.

    The stem "cifar" has the same three convolutions, with stride 1, and no max pooling.
    """

    head = "fc"

    def build(self, num_classes: int, make: Make) -> None:
        self.conv1 = Sequential(
            *(make.conv(3, 32, 3, stride=2 if self.stem == "imagenet" else 1), make.norm(32), nnx.relu),
            *(make.conv(32, 32, 3), make.norm(32), nnx.relu),
            make.conv(32, 64, 3),
        )
        self.bn1 = make.norm(64)
        self.relu = nnx.relu
        self.maxpool = MaxPool(3, 2, padding=1)
        block = partial(ResNetDBlock, dtype=make.dtype, norm=make.norm, rngs=make.rngs)
        self.layer1 = Sequential(block(64, 64), block(64, 64))
        self.layer2 = Sequential(block(64, 128, stride=2), block(128, 128))
        self.layer3 = Sequential(block(128, 256, stride=2), block(256, 256))
        self.layer4 = Sequential(block(256, 512, stride=2), block(512, 512))
        self.fc = make_classifier(512, num_classes, make.rngs)

    def stages(self) -> tuple[tuple[str, ...], ...]:
        stem, last = ("conv1", "bn1", "relu"), (("layer2",), ("layer3",), ("layer4",))
        return ((*stem, "layer1"), *last) if self.stem == "cifar" else (stem, ("maxpool", "layer1"), *last)
