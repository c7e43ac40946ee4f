"""GoogLeNet with batch normalization and torchvision's attribute names, NHWC.

Szegedy et al. 2014 (arXiv:1409.4842), table 1; the normalization came later (Ioffe and Szegedy 2015, arXiv:1502.03167).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make, joined
from resnet_jax.models.interface import Images
from resnet_jax.models.layers.convolution import check_images
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.initializers import normal, uniform
from resnet_jax.models.layers.pooling import MaxPool, global_average
from resnet_jax.models.layers.sequential import Sequential

MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet's colors
STD = np.array([0.229, 0.224, 0.225], np.float32)


class GoogLeNet(ConvNet):
    """GoogLeNet without auxiliary classifiers: 6,624,904 parameters and 1.50 billion multiply-adds at 224x224.

    Arguments: see `ConvNet`. Szegedy et al. 2014, arXiv:1409.4842.

    Like torchvision's with its published weights (`transform_input=True`), it takes images normalized by ImageNet's
    mean and deviation, and first changes them to a mean and deviation of 0.5, which these weights were trained with.
    To load weights of this network, make torchvision's with `transform_input=True, aux_logits=False`.

    The stem "cifar" starts with a 3x3 convolution of stride 1 and has no first pooling; 32x32 images then give 4x4 maps
    in the end.
    """

    head = "fc"

    def build(self, num_classes: int, make: Make) -> None:
        def unit(*sizes: int, **options: int) -> Sequential:
            conv = make.conv(*sizes, kernel_init=normal(0.01), **options)
            return Sequential(conv=conv, bn=make.norm(sizes[1], epsilon=1e-3), relu=nnx.relu)

        imagenet = self.stem == "imagenet"
        self.recentre = recentre
        self.conv1 = unit(3, 64, 7, stride=2) if imagenet else unit(3, 64, 3)
        self.maxpool1 = MaxPool(3, 2, ceil=True) if imagenet else jax.nn.identity
        self.conv2 = unit(64, 64, 1)
        self.conv3 = unit(64, 192, 3)
        self.maxpool2 = self.maxpool3 = MaxPool(3, 2, ceil=True)
        self.inception3a = Inception(192, 64, (96, 128), (16, 32), 32, unit=unit)
        self.inception3b = Inception(256, 128, (128, 192), (32, 96), 64, unit=unit)
        self.inception4a = Inception(480, 192, (96, 208), (16, 48), 64, unit=unit)
        self.inception4b = Inception(512, 160, (112, 224), (24, 64), 64, unit=unit)
        self.inception4c = Inception(512, 128, (128, 256), (24, 64), 64, unit=unit)
        self.inception4d = Inception(512, 112, (144, 288), (32, 64), 64, unit=unit)
        self.inception4e = Inception(528, 256, (160, 320), (32, 128), 128, unit=unit)
        self.maxpool4 = MaxPool(2, 2, ceil=True)
        self.inception5a = Inception(832, 256, (160, 320), (32, 128), 128, unit=unit)
        self.inception5b = Inception(832, 384, (192, 384), (48, 128), 128, unit=unit)
        self.dropout = Dropout(0.2)
        self.fc = make.linear(1024, num_classes, kernel_init=normal(0.01), bias_init=uniform(1024**-0.5))

    def stages(self) -> tuple[tuple[str, ...], ...]:
        stages = (
            ("recentre", "conv1"),
            ("maxpool1", "conv2", "conv3"),
            ("maxpool2", "inception3a", "inception3b"),
            ("maxpool3", "inception4a", "inception4b", "inception4c", "inception4d", "inception4e"),
            ("maxpool4", "inception5a", "inception5b"),
        )
        return stages if self.stem == "imagenet" else joined(stages)

    def pool(self, maps: jax.Array, *, train: bool | None, rngs: nnx.Rngs | None) -> jax.Array:
        return self.dropout(global_average(maps), train=train, rngs=rngs)


class Inception(nnx.Module):
    """Four branches side by side: 1x1, two of 1x1 and then 3x3, and a max pooling with 1x1.

    The third branch has 5x5 in the paper, and 3x3 in torchvision and its weights.

    Args:
        in_channels: of the maps.
        first: channels of the first branch.
        second, third: channels of both convolutions of the second and third branch.
        pooled: channels of the fourth branch.
        unit: makes a convolution with normalization and ReLU.
    """

    def __init__(
        self,
        in_channels: int,
        first: int,
        second: tuple[int, int],
        third: tuple[int, int],
        pooled: int,
        *,
        unit: Callable[..., Sequential],
    ):
        self.branch1 = unit(in_channels, first, 1)
        self.branch2 = Sequential(unit(in_channels, second[0], 1), unit(*second, 3))
        self.branch3 = Sequential(unit(in_channels, third[0], 1), unit(*third, 3))
        self.branch4 = Sequential(MaxPool(3, 1, padding=1), unit(in_channels, pooled, 1))

    def __call__(self, maps: jax.Array, *, train: bool | None = None) -> jax.Array:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return jnp.concatenate([branch(maps, train=train) for branch in branches], -1)


def recentre(images: Images) -> jax.Array:
    """Change images normalized by ImageNet's mean and deviation into ones normalized by 0.5 and 0.5."""
    check_images(images, 3)
    return jnp.asarray(images) * (STD / 0.5) + (MEAN - 0.5) / 0.5
