"""ResNet-18 that blurs its maps before it lowers their resolution (Zhang 2019, arXiv:1904.11486), NHWC.

A stride of 2 alone leaves out what changes from one pixel to the next, so that the features depend on where exactly an
object lies. Layers and keys of the weights are those of FFCV's ImageNet recipe, `BlurPoolConv2d` in
https://github.com/libffcv/ffcv-imagenet: the stem stays as it is, and the filter has no weights.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from resnet_jax.models.layers.pooling import blur
from resnet_jax.models.layers.residual import ResNetBlock
from resnet_jax.models.resnet import ResNet


class BlurredConv(nnx.Module):
    """A convolution of blurred maps."""

    def __init__(self, conv: Callable[[jax.Array], jax.Array]):
        self.conv = conv

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.conv(blur(images))


class BlurPoolBlock(ResNetBlock):
    """The block of ResNet-18 with `BlurredConv` in place of convolutions of stride 2. Arguments: see `ResNetBlock`."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, **options: Any):
        super().__init__(in_channels, channels, stride=stride, **options)
        if self.downsample is not None and stride > 1:
            self.conv1, self.downsample[0] = BlurredConv(self.conv1), BlurredConv(self.downsample[0])


class BlurPoolResNet18(ResNet):
    """ResNet-18 with blurred maps before each stride of its blocks: 11,689,512 parameters. Arguments: see `ResNet`."""

    block, stage_sizes = BlurPoolBlock, (2, 2, 2, 2)
