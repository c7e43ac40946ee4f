"""The VGG networks with batch normalization and torchvision's attribute names, NHWC.

Simonyan and Zisserman 2014 (arXiv:1409.1556), table 1; the normalization came later (Ioffe and Szegedy 2015,
arXiv:1502.03167).
"""

from collections.abc import Callable
from itertools import accumulate
from typing import ClassVar

import jax
from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make, conv_norm, trunk_stages
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.initializers import normal
from resnet_jax.models.layers.pooling import MaxPool, adaptive_average, flatten
from resnet_jax.models.layers.sequential import Sequential

SIDE = 7  # pixels of the maps that the classifier takes
WIDTHS = (64, 128, 256, 512, 512)  # channels of each block


class VGG(ConvNet):
    """Five blocks of 3x3 convolutions, a max pooling after each, and three linear layers.

    A subclass chooses the number of convolutions.
    """

    block_sizes: ClassVar[tuple[int, int, int, int, int]]
    """Convolutions in each block."""
    head = "classifier.6"

    def build(self, num_classes: int, make: Make) -> None:
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return make.linear(inputs, outputs, kernel_init=normal(0.01))

        layers: list[Callable] = []
        channels = 3
        for size, width in zip(self.block_sizes, WIDTHS, strict=True):
            for _ in range(size):
                layers += conv_norm(make, channels, width, 3, bias=True)
                channels = width
            layers.append(MaxPool(2, 2))
        self.trunk = Sequential(*layers)
        self.classifier = Sequential(
            *(linear(channels * SIDE**2, 4096), nnx.relu, Dropout(0.5)),
            *(linear(4096, 4096), nnx.relu, Dropout(0.5)),
            linear(4096, num_classes),
        )

    def stages(self) -> tuple[tuple[str, ...], ...]:
        first, *others = (3 * size for size in self.block_sizes)  # layers: convolution, normalization, ReLU
        return trunk_stages(*accumulate((first, *(1 + layers for layers in others), 1)))

    def pool(self, maps: jax.Array, *, train: bool | None, rngs: nnx.Rngs | None) -> jax.Array:
        features = flatten(adaptive_average(maps.astype("float32"), SIDE))
        return self.classifier(features, train=train, rngs=rngs, count=6)


class VGG11BN(VGG):
    """VGG-11 with batch normalization: 132,868,840 parameters and 7.61 billion multiply-adds at 224x224.

    Arguments: see `ConvNet`. Simonyan and Zisserman 2014 (arXiv:1409.1556), configuration A.

    The stem "cifar" is the same: convolutions of stride 1 and every pooling, down to one pixel, are usual for images of
    32x32 (Liu and Deng 2015, doi:10.1109/ACPR.2015.7486599). The classifier takes the pixel 49 times.
    """

    block_sizes = (1, 1, 2, 2, 2)


class VGG16BN(VGG):
    """VGG-16 with batch normalization: 138,365,992 parameters and 15.5 billion multiply-adds at 224x224.

    Arguments: see `ConvNet`. Simonyan and Zisserman 2014 (arXiv:1409.1556), configuration D.

    The stem "cifar" is the same, as in `VGG11BN`.
    """

    block_sizes = (2, 2, 3, 3, 3)
