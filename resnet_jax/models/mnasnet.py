"""MNASNet 1.0 (Tan et al. 2018, arXiv:1807.11626) with torchvision's attribute names, NHWC."""

from functools import partial

import jax
from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make, conv_norm, joined, trunk_stages
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.initializers import uniform
from resnet_jax.models.layers.pooling import global_average
from resnet_jax.models.layers.sequential import Sequential

MOMENTUM = 0.9997  # 1 - PyTorch's: after 10,000 steps, 5% of the initial values are left


class MNASNet(ConvNet):
    """MNASNet 1.0: 4,383,312 parameters and 0.314 billion multiply-adds at 224x224. Arguments: see `ConvNet`.

    Tan et al. 2018, arXiv:1807.11626, figure 7, without squeeze and excitation (MnasNet-B1).

    The stem "cifar" has stride 1 in the first convolution and in the first stack of blocks; 32x32 images then give 4x4
    maps in the end. The running statistics have momentum 0.9997, as torchvision's: they are of use only after some ten
    thousand steps.
    """

    head = "classifier.1"

    def build(self, num_classes: int, make: Make) -> None:
        make = make._replace(norm=partial(make.norm, momentum=MOMENTUM))
        stride = 2 if self.stem == "imagenet" else 1
        self.layers = Sequential(
            *conv_norm(make, 3, 32, 3, stride=stride),
            *conv_norm(make, 32, 32, 3, groups=32),
            *conv_norm(make, 32, 16, 1, activation=None),
            stack(3, 16, 24, 3, stride=stride, expansion=3, make=make),
            stack(3, 24, 40, 5, stride=2, expansion=3, make=make),
            stack(3, 40, 80, 5, stride=2, expansion=6, make=make),
            stack(2, 80, 96, 3, stride=1, expansion=6, make=make),
            stack(4, 96, 192, 5, stride=2, expansion=6, make=make),
            stack(1, 192, 320, 3, stride=1, expansion=6, make=make),
            *conv_norm(make, 320, 1280, 1),
        )
        bound = (3 / num_classes) ** 0.5  # variance 1 / number of outputs
        self.classifier = Sequential(Dropout(0.2), make.linear(1280, num_classes, kernel_init=uniform(bound)))

    def stages(self) -> tuple[tuple[str, ...], ...]:
        stages = trunk_stages(8, 9, 10, 12, 17, trunk="layers")
        return stages if self.stem == "imagenet" else joined(stages)

    def pool(self, maps: jax.Array, *, train: bool | None, rngs: nnx.Rngs | None) -> jax.Array:
        return self.classifier(global_average(maps), train=train, rngs=rngs, count=1)


class InvertedResidual(nnx.Module):
    """A 1x1 convolution to more channels, a depthwise one, a 1x1 to fewer, and a shortcut where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, size: int, *, stride: int, expansion: int, make: Make):
        channels = in_channels * expansion
        self.layers = Sequential(
            *conv_norm(make, in_channels, channels, 1),
            *conv_norm(make, channels, channels, size, stride=stride, groups=channels),
            *conv_norm(make, channels, out_channels, 1, activation=None),
        )
        self.shortcut = stride == 1 and in_channels == out_channels

    def __call__(self, maps: jax.Array, *, train: bool | None = None) -> jax.Array:
        residual = self.layers(maps, train=train)
        return maps + residual if self.shortcut else residual


def stack(count: int, in_channels: int, out_channels: int, size: int, *, stride: int, expansion: int, make: Make):
    """Make `count` blocks, of which the first one changes the channels and has the stride."""
    block = partial(InvertedResidual, expansion=expansion, make=make)
    first = block(in_channels, out_channels, size, stride=stride)
    return Sequential(first, *(block(out_channels, out_channels, size, stride=1) for _ in range(count - 1)))
