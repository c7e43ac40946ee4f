"""DenseNet-121 (Huang et al. 2016, arXiv:1608.06993) with torchvision's attribute names, NHWC."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make, joined
from resnet_jax.models.layers.initializers import kaiming_normal_fan_in, pytorch_kernel
from resnet_jax.models.layers.pooling import AveragePool, MaxPool
from resnet_jax.models.layers.sequential import Sequential

GROWTH = 32  # channels that each layer adds
SQUEEZED = 4 * GROWTH  # channels between the two convolutions of a layer
BLOCK_SIZES = (6, 12, 24, 16)  # layers in each block


class DenseNet121(ConvNet):
    """DenseNet-121: 7,978,856 parameters and 2.83 billion multiply-adds at 224x224. Arguments: see `ConvNet`.

    Huang et al. 2016, arXiv:1608.06993, DenseNet-BC with growth rate 32.

    The stem "cifar" is a 3x3 convolution of stride 1 without pooling, as the paper's for CIFAR (section 4.2); 32x32
    images then give 4x4 maps in the end, where the paper's smaller networks have three blocks and give 8x8.
    """

    head = "classifier"

    def build(self, num_classes: int, make: Make) -> None:
        make = make._replace(conv=partial(make.conv, kernel_init=kaiming_normal_fan_in))
        imagenet, channels = self.stem == "imagenet", 2 * GROWTH
        layers: dict[str, Callable] = {
            "conv0": make.conv(3, channels, 7, stride=2) if imagenet else make.conv(3, channels, 3),
            "norm0": make.norm(channels),
            "relu0": nnx.relu,
            "pool0": MaxPool(3, 2, padding=1) if imagenet else jax.nn.identity,
        }
        for number, size in enumerate(BLOCK_SIZES, 1):
            layers[f"denseblock{number}"] = DenseBlock(size, channels, make)
            channels += size * GROWTH
            if number < len(BLOCK_SIZES):
                layers[f"transition{number}"] = transition(channels, make)
                channels //= 2
        self.trunk = Sequential(**layers, norm5=make.norm(channels), relu5=nnx.relu)
        self.classifier = make.linear(channels, num_classes, kernel_init=pytorch_kernel)

    def stages(self) -> tuple[tuple[str, ...], ...]:
        stages = (
            ("trunk.conv0", "trunk.norm0", "trunk.relu0"),
            ("trunk.pool0", "trunk.denseblock1"),
            ("trunk.transition1", "trunk.denseblock2"),
            ("trunk.transition2", "trunk.denseblock3"),
            ("trunk.transition3", "trunk.denseblock4", "trunk.norm5", "trunk.relu5"),
        )
        return stages if self.stem == "imagenet" else joined(stages)


class DenseBlock(nnx.Module):
    """Layers `denselayer1`, ... that each take the maps and the outputs of all layers before, as channels."""

    def __init__(self, size: int, in_channels: int, make: Make):
        self.size = size
        for index in range(size):
            setattr(self, f"denselayer{index + 1}", dense_layer(in_channels + index * GROWTH, make))

    def __call__(self, maps: jax.Array, *, train: bool | None = None) -> jax.Array:
        for index in range(self.size):
            layer = getattr(self, f"denselayer{index + 1}")
            maps = jnp.concatenate((maps, layer(maps, train=train)), -1)
        return maps


def dense_layer(in_channels: int, make: Make) -> Sequential:
    """Make normalization, ReLU and a 1x1 convolution, then the same with a 3x3 one, to `GROWTH` channels."""
    return Sequential(
        norm1=make.norm(in_channels),
        relu1=nnx.relu,
        conv1=make.conv(in_channels, SQUEEZED, 1),
        norm2=make.norm(SQUEEZED),
        relu2=nnx.relu,
        conv2=make.conv(SQUEEZED, GROWTH, 3),
    )


def transition(channels: int, make: Make) -> Sequential:
    """Make what halves the channels and the resolution between two blocks."""
    conv = make.conv(channels, channels // 2, 1)
    return Sequential(norm=make.norm(channels), relu=nnx.relu, conv=conv, pool=AveragePool(2))
