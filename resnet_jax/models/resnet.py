"""The ResNet family (He et al. 2015, arXiv:1512.03385) with torchvision's attribute names, NHWC."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from resnet_jax.models.layers.convolution import Conv
from resnet_jax.models.layers.norm import BatchNorm

Norm = Callable[[int], BatchNorm]
Stem = Literal["imagenet", "cifar"]


class Features(NamedTuple):
    """What the network computes before its classifier."""

    pooled: Float[Array, "batch features"]
    stages: tuple[Float[Array, "batch height width channels"], ...]


def _recomputable(method: Callable) -> Callable:
    """Has a block that is to `recompute` keep no more of a method than convolutions and statistics."""
    kept = jax.checkpoint_policies.save_only_these_names("convolution", "statistics")
    again = nnx.remat(method, policy=kept, static_argnums=2)

    def either(self: "ResNetBlock | BottleneckBlock", images: jax.Array, train: bool) -> jax.Array:
        return (again if self.recompute else method)(self, images, train)

    return either


class ResNetBlock(nnx.Module):
    """Two 3x3 convolutions beside a shortcut: `relu(shortcut + residual)`, the block of ResNet-18 and -34.

    The shortcut is the identity, or a 1x1 projection where the block changes the number of channels or the resolution.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        stride: 2 halves the resolution, in the first convolution.
        dtype: of the computation; parameters stay float32.
        norm: makes a normalisation layer from a number of channels.
        zero_init: start the last norm's scale at 0, so that the block starts as the identity (Goyal et al. 2017, 5.1).
        recompute: compute the maps between the convolutions, but no convolution, again for the backward pass (Chen et
            al. 2016, arXiv:1604.06174, section 3). That saves a GPU's memory, not a TPU's.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        dtype: DTypeLike = jnp.float32,
        norm: Norm | None = None,
        zero_init: bool = False,
        recompute: bool = False,
        rngs: nnx.Rngs,
    ):
        conv = partial(Conv, dtype=dtype, rngs=rngs)
        norm = norm or partial(BatchNorm, dtype=dtype)
        self.conv1 = conv(in_channels, channels, 3, stride=stride)
        self.bn1 = norm(channels)
        self.conv2 = conv(channels, channels, 3)
        self.bn2 = norm(channels)
        self.downsample = _projection(in_channels, channels, stride, conv, norm)
        self.recompute = recompute
        if zero_init:
            self.bn2.scale[...] = jnp.zeros(channels)

    def __call__(
        self, images: Float[Array, "batch height width in_channels"], *, train: bool = False
    ) -> Float[Array, "batch out_height out_width out_channels"]:
        residual = self.bn2(self._convolved(images, train), train=train)
        return nnx.relu(_shortcut(self.downsample, images, train) + residual)

    @_recomputable
    def _convolved(self, images: jax.Array, train: bool) -> jax.Array:
        return self.conv2(nnx.relu(self.bn1(self.conv1(images), train=train)))


class BottleneckBlock(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut: the block of ResNet-50 and deeper.

    The stride is in the 3x3 convolution ("v1.5"), as in torchvision; the paper has it in the first 1x1.

    Args:
        in_channels: channels of the input.
        channels: the stage's width; the output has 4 times as many.
        stride: 2 halves the resolution, in the 3x3 convolution.
        groups: groups of the 3x3 convolution (ResNeXt, Xie et al. 2016).
        inner_factor: channels of the 3x3 convolution, as a multiple of `channels` (wide ResNets and ResNeXt).
        dtype, norm, zero_init, recompute: as in `ResNetBlock`.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        groups: int = 1,
        inner_factor: int = 1,
        dtype: DTypeLike = jnp.float32,
        norm: Norm | None = None,
        zero_init: bool = False,
        recompute: bool = False,
        rngs: nnx.Rngs,
    ):
        conv = partial(Conv, dtype=dtype, rngs=rngs)
        norm = norm or partial(BatchNorm, dtype=dtype)
        inner, outer = channels * inner_factor, channels * self.expansion
        self.conv1 = conv(in_channels, inner, 1)
        self.bn1 = norm(inner)
        self.conv2 = conv(inner, inner, 3, stride=stride, groups=groups)
        self.bn2 = norm(inner)
        self.conv3 = conv(inner, outer, 1)
        self.bn3 = norm(outer)
        self.downsample = _projection(in_channels, outer, stride, conv, norm)
        self.recompute = recompute
        if zero_init:
            self.bn3.scale[...] = jnp.zeros(outer)

    def __call__(
        self, images: Float[Array, "batch height width in_channels"], *, train: bool = False
    ) -> Float[Array, "batch out_height out_width out_channels"]:
        residual = self.bn3(self._convolved(images, train), train=train)
        return nnx.relu(_shortcut(self.downsample, images, train) + residual)

    @_recomputable
    def _convolved(self, images: jax.Array, train: bool) -> jax.Array:
        inner = nnx.relu(self.bn1(self.conv1(images), train=train))
        return self.conv3(nnx.relu(self.bn2(self.conv2(inner), train=train)))


def _projection(in_channels: int, out_channels: int, stride: int, conv: Callable, norm: Norm) -> nnx.List | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nnx.List([conv(in_channels, out_channels, 1, stride=stride), norm(out_channels)])


def _shortcut(downsample: nnx.List | None, images: jax.Array, train: bool) -> jax.Array:
    if downsample is None:
        return images
    conv, bn = downsample
    return bn(conv(images), train=train)


class ResNet(nnx.Module):
    """A residual network: stem, four stages of blocks, global average, linear classifier.

    Args:
        block: `ResNetBlock` or `BottleneckBlock`, or a partial of one.
        stage_sizes: blocks in each of the four stages.
        num_classes: size of the logits.
        stem: "imagenet", a 7x7 convolution of stride 2 and a 3x3 max pooling of stride 2; or "cifar", a 3x3 convolution
            of stride 1, for images of about 32x32 pixels.
        width: channels of the first stage; each later stage has twice the one before. 64 in the paper.
        dtype: of the computation, jnp.bfloat16 on TPU and GPU. Parameters, statistics and logits are always float32.
        norm: "sync", statistics over the global batch; "ghost", over groups of `ghost_size` images.
        ghost_size: images in a group of "ghost" normalisation.
        zero_init: start the last scale of each block at 0.
        recompute: keep less for the backward pass; see `ResNetBlock`.
        rngs: draws the weights, from its `params` stream.
    """

    def __init__(
        self,
        block: Callable[..., ResNetBlock | BottleneckBlock],
        stage_sizes: Sequence[int],
        *,
        num_classes: int = 1000,
        stem: Stem = "imagenet",
        width: int = 64,
        dtype: DTypeLike = jnp.float32,
        norm: Literal["sync", "ghost"] = "sync",
        ghost_size: int = 128,
        zero_init: bool = False,
        recompute: bool = False,
        rngs: nnx.Rngs | None = None,
    ):
        rngs = rngs or nnx.Rngs(0)
        make_norm = partial(BatchNorm, dtype=dtype, group_size=ghost_size if norm == "ghost" else None)
        conv = partial(Conv, dtype=dtype, rngs=rngs)
        self.stem = stem
        self.conv1 = conv(3, width, 7, stride=2) if stem == "imagenet" else conv(3, width, 3)
        self.bn1 = make_norm(width)
        make_block = partial(block, dtype=dtype, norm=make_norm, zero_init=zero_init, recompute=recompute, rngs=rngs)
        stages, channels = [], width
        for stage, size in enumerate(stage_sizes):
            blocks = []
            for index in range(size):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(make_block(channels, width * 2**stage, stride=stride))
                channels = width * 2**stage * blocks[-1].expansion
            stages.append(nnx.List(blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = _classifier(channels, num_classes, rngs)

    def features(self, images: Float[Array, "batch height width 3"], *, train: bool = False) -> Features:
        """Computes the pooled features and the output of each stage, for use as a backbone.

        Args:
            images: normalised images.
            train: normalise by the batch's statistics and update the running ones.

        Returns:
            `pooled`, float32; `stages`, four maps in `dtype`: at 1/4, 1/8, 1/16 and 1/32 of the resolution with the
            "imagenet" stem, at 1/1 to 1/8 with "cifar".
        """
        maps = nnx.relu(self.bn1(self.conv1(images), train=train))
        if self.stem == "imagenet":
            maps = pool(maps)
        stages = []
        for blocks in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in blocks:
                maps = block(maps, train=train)
            stages.append(maps)
        return Features(maps.astype(jnp.float32).mean((1, 2)), tuple(stages))

    def __call__(
        self, images: Float[Array, "batch height width 3"], *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Computes the logits, float32, of normalised `images`; `train` as in `features`."""
        return self.fc(self.features(images, train=train).pooled)


def pool(maps: Float[Array, "batch height width channels"]) -> Float[Array, "batch out_height out_width channels"]:
    """The 3x3 max pooling of stride 2 that ends ImageNet's stem, padded by a pixel on every side."""
    return nnx.max_pool(maps, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


def _classifier(in_features: int, num_classes: int, rngs: nnx.Rngs) -> nnx.Linear:
    """PyTorch's linear layer: weights and bias uniform in +-1/sqrt(in_features)."""
    bound = in_features**-0.5

    def uniform(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound).reshape(shape)

    return nnx.Linear(in_features, num_classes, kernel_init=uniform, bias_init=uniform, rngs=rngs)


def _bottleneck(groups: int = 1, inner_factor: int = 1) -> Callable[..., BottleneckBlock]:
    return partial(BottleneckBlock, groups=groups, inner_factor=inner_factor)


ResNet18 = partial(ResNet, ResNetBlock, (2, 2, 2, 2))
ResNet34 = partial(ResNet, ResNetBlock, (3, 4, 6, 3))
ResNet50 = partial(ResNet, BottleneckBlock, (3, 4, 6, 3))
ResNet101 = partial(ResNet, BottleneckBlock, (3, 4, 23, 3))
ResNet152 = partial(ResNet, BottleneckBlock, (3, 8, 36, 3))
WideResNet50_2 = partial(ResNet, _bottleneck(inner_factor=2), (3, 4, 6, 3))
WideResNet101_2 = partial(ResNet, _bottleneck(inner_factor=2), (3, 4, 23, 3))
ResNeXt50_32x4d = partial(ResNet, _bottleneck(groups=32, inner_factor=2), (3, 4, 6, 3))
ResNeXt101_32x8d = partial(ResNet, _bottleneck(groups=32, inner_factor=4), (3, 4, 23, 3))
ResNeXt101_64x4d = partial(ResNet, _bottleneck(groups=64, inner_factor=4), (3, 4, 23, 3))
