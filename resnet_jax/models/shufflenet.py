"""ShuffleNetV2 x1.0 (Ma et al. 2018, arXiv:1807.11164) with torchvision's attribute names, NHWC."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make, conv_norm
from resnet_jax.models.layers.initializers import pytorch_kernel, uniform
from resnet_jax.models.layers.pooling import MaxPool
from resnet_jax.models.layers.sequential import Sequential

STAGES = {"stage2": (4, 116), "stage3": (8, 232), "stage4": (4, 464)}  # blocks and channels


class ShuffleNetV2(ConvNet):
    """ShuffleNetV2 x1.0: 2,278,604 parameters and 0.145 billion multiply-adds at 224x224. Arguments: see `ConvNet`.

    Ma et al. 2018, arXiv:1807.11164, table 5.

    The stem "cifar" is a 3x3 convolution of stride 1 without pooling; 32x32 images then give 4x4 maps in the end. With
    either stem, the first stage ends before `stage2`.
    """

    head = "fc"

    def build(self, num_classes: int, make: Make) -> None:
        make = make._replace(conv=partial(make.conv, kernel_init=pytorch_kernel))
        channels, imagenet = 24, self.stem == "imagenet"
        self.conv1 = conv_norm(make, 3, channels, 3, stride=2 if imagenet else 1)
        self.maxpool = MaxPool(3, 2, padding=1) if imagenet else jax.nn.identity
        for name, (size, width) in STAGES.items():
            blocks = [ShuffleBlock(channels, width, stride=2, make=make)]
            blocks += [ShuffleBlock(width, width, stride=1, make=make) for _ in range(size - 1)]
            setattr(self, name, Sequential(*blocks))
            channels = width
        self.conv5 = conv_norm(make, channels, 1024, 1)
        self.fc = make.linear(1024, num_classes, kernel_init=pytorch_kernel, bias_init=uniform(1024**-0.5))

    def stages(self) -> tuple[tuple[str, ...], ...]:
        return ("conv1", "maxpool"), ("stage2",), ("stage3",), ("stage4", "conv5")


class ShuffleBlock(nnx.Module):
    """Two branches of half the channels, which are then interleaved.

    At stride 1 the first branch passes the first half of the channels, and the second one takes the others; at stride 2
    both take all channels.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, make: Make):
        half = out_channels // 2
        inner = half if stride == 1 else in_channels
        self.branch1 = Sequential()
        if stride > 1:
            depthwise = conv_norm(make, inner, inner, 3, stride=stride, groups=inner, activation=None)
            self.branch1 = Sequential(*depthwise, *conv_norm(make, inner, half, 1))
        self.branch2 = Sequential(
            *conv_norm(make, inner, half, 1),
            *conv_norm(make, half, half, 3, stride=stride, groups=half, activation=None),
            *conv_norm(make, half, half, 1),
        )
        self.stride = stride

    def __call__(self, maps: jax.Array, *, train: bool | None = None) -> jax.Array:
        first, second = jnp.split(maps, 2, -1) if self.stride == 1 else (maps, maps)
        branches = self.branch1(first, train=train), self.branch2(second, train=train)
        mixed = jnp.stack(branches, -1)
        return mixed.reshape(*mixed.shape[:-2], -1)
