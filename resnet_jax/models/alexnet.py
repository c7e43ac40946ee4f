"""AlexNet with torchvision's attribute names, NHWC.

Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks" (arXiv:1404.5997), section 2, is the
variant on one GPU that torchvision has; Krizhevsky, Sutskever and Hinton 2012 is the original.
"""

import jax
from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make, trunk_stages
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.initializers import pytorch_kernel, uniform
from resnet_jax.models.layers.pooling import MaxPool, adaptive_average, flatten
from resnet_jax.models.layers.sequential import Sequential

SIDE = 6  # pixels of the maps that the classifier takes


class AlexNet(ConvNet):
    """AlexNet: 61,100,840 parameters and 0.714 billion multiply-adds at 224x224. Arguments: see `ConvNet`.

    The stem "cifar" starts with a 3x3 convolution of stride 1 in place of the 11x11 one of stride 4, and a pooling of
    32x32 maps gives 3x3 ones in the end.
    """

    head = "classifier.6"

    def build(self, num_classes: int, make: Make) -> None:
        def conv(inputs: int, outputs: int, size: int, stride: int = 1, padding: int | None = None):
            bias_init = uniform((inputs * size**2) ** -0.5)
            options = {"kernel_init": pytorch_kernel, "bias": True, "bias_init": bias_init}
            return make.conv(inputs, outputs, size, stride=stride, padding=padding, **options)

        def linear(inputs: int, outputs: int):
            return make.linear(inputs, outputs, kernel_init=pytorch_kernel, bias_init=uniform(inputs**-0.5))

        first = conv(3, 64, 11, 4, 2) if self.stem == "imagenet" else conv(3, 64, 3)
        self.trunk = Sequential(
            *(first, nnx.relu, MaxPool(3, 2)),
            *(conv(64, 192, 5), nnx.relu, MaxPool(3, 2)),
            *(conv(192, 384, 3), nnx.relu, conv(384, 256, 3), nnx.relu, conv(256, 256, 3), nnx.relu, MaxPool(3, 2)),
        )
        self.classifier = Sequential(
            *(Dropout(0.5), linear(256 * SIDE**2, 4096), nnx.relu),
            *(Dropout(0.5), linear(4096, 4096), nnx.relu),
            linear(4096, num_classes),
        )

    def stages(self) -> tuple[tuple[str, ...], ...]:
        return trunk_stages(2, 5, 12, 13)

    def pool(self, maps: jax.Array, *, train: bool | None, rngs: nnx.Rngs | None) -> jax.Array:
        features = flatten(adaptive_average(maps.astype("float32"), SIDE))
        return self.classifier(features, train=train, rngs=rngs, count=6)
