"""The ResNet family (He et al. 2015, arXiv:1512.03385) with torchvision's attribute names, NHWC."""

from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from resnet_jax.models.convnet import ConvNet, check_arguments
from resnet_jax.models.interface import Images
from resnet_jax.models.layers.convolution import Conv
from resnet_jax.models.layers.linear import make_classifier
from resnet_jax.models.layers.norm import BatchNorm
from resnet_jax.models.layers.pooling import MaxPool
from resnet_jax.models.layers.residual import BottleneckBlock, ResNetBlock
from resnet_jax.models.registry import Stem

STAGES = ("layer1", "layer2", "layer3", "layer4")


class ResNet(ConvNet):
    """A residual network: stem, four stages of blocks, global average, linear classifier.

    A subclass chooses the blocks by the class attributes below; `ResNet18` and the other published networks are such
    subclasses. To define another one::

        class ResNet10(ResNet):
            stage_sizes = (1, 1, 1, 1)

    Args:
        num_classes: number of logits.
        stem: "imagenet", a 7x7 convolution of stride 2 and a 3x3 max pooling of stride 2; or "cifar", a 3x3 convolution
            of stride 1, for images of about 32x32 pixels.
        width: channels of the first stage, 64 in the paper; each later stage has twice the channels of the one before.
        dtype: type of the computation, `jnp.bfloat16` on TPU and GPU. Parameters, statistics and logits are float32.
        norm: "sync", statistics over the global batch; "ghost", over groups of `ghost_size` images.
        ghost_size: images in a group of "ghost" normalization.
        zero_init: start the last scale of each block at 0, so that the block starts as the identity.
        recompute: keep less for the backward pass; see `ResNetBlock`.
        drop_path: probability of stochastic depth in the last block; it rises linearly from 0 in the first one.
        rngs: draws the weights, from its `params` stream; `nnx.Rngs(0)` by default.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.
    """

    block: ClassVar[type[ResNetBlock] | type[BottleneckBlock]] = ResNetBlock
    """Class of the blocks."""
    stage_sizes: ClassVar[tuple[int, int, int, int]] = (2, 2, 2, 2)
    """Blocks in each stage."""
    block_options: ClassVar[dict[str, int]] = {}
    """Further arguments of the blocks."""
    head: ClassVar[str] = "fc"
    """Attribute name of the classifier."""

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        stem: Stem = "imagenet",
        width: int = 64,
        dtype: DTypeLike = jnp.float32,
        norm: Literal["sync", "ghost"] = "sync",
        ghost_size: int = 128,
        zero_init: bool = False,
        recompute: bool = False,
        drop_path: float = 0.0,
        rngs: nnx.Rngs | None = None,
    ):
        rngs = nnx.Rngs(0) if rngs is None else rngs
        counts = {"num_classes": num_classes, "width": width, "ghost_size": ghost_size}
        check_arguments(self, stem=stem, norm=norm, rngs=rngs, **counts)
        if not 0 <= drop_path < 1:
            raise ValueError(f"{type(self).__name__} got drop_path={drop_path}; expected a probability in [0, 1)")
        make_norm = partial(BatchNorm, dtype=dtype, group_size=ghost_size if norm == "ghost" else None)
        conv = partial(Conv, dtype=dtype, rngs=rngs)
        options: dict[str, Any] = {"dtype": dtype, "norm": make_norm, "zero_init": zero_init, "recompute": recompute}
        block: Any = partial(self.block, **self.block_options | options, rngs=rngs)
        self.stem = stem
        self.conv1 = conv(3, width, 7, stride=2) if stem == "imagenet" else conv(3, width, 3)
        self.bn1 = make_norm(width)
        rates = iter(np.linspace(0, drop_path, sum(self.stage_sizes)).tolist())
        channels = width
        for number, (name, size) in enumerate(zip(STAGES, self.stage_sizes, strict=True)):
            blocks = []
            for index in range(size):
                stride = 2 if number > 0 and index == 0 else 1
                blocks.append(block(channels, width * 2**number, stride=stride, drop_rate=next(rates)))
                channels = width * 2**number * self.block.expansion
            setattr(self, name, nnx.List(blocks))
        self.fc = make_classifier(channels, num_classes, rngs)

    def stages(self) -> tuple[tuple[str, ...], ...]:
        return ("conv1", "bn1"), *((name,) for name in STAGES)

    def maps(self, images: Images, *, train: bool | None, rngs: nnx.Rngs | None) -> tuple[jax.Array, ...]:
        """Compute the output of the four stages, at 1/4 to 1/32 of the resolution, or at 1/1 to 1/8 with "cifar"."""
        maps = nnx.relu(self.bn1(self.conv1(images), train=train))
        if self.stem == "imagenet":
            maps = STEM_POOL(maps)
        found = []
        for name in STAGES:
            for block in getattr(self, name):
                maps = block(maps, train=train, rngs=rngs)
            found.append(maps)
        return tuple(found)


STEM_POOL = MaxPool(3, 2, 1)
"""The pooling that ends ImageNet's stem."""


class ResNet18(ResNet):
    """ResNet-18: 11,689,512 parameters and 1.814 billion multiply-adds at 224x224. Arguments: see `ResNet`."""

    stage_sizes = (2, 2, 2, 2)


class ResNet34(ResNet):
    """ResNet-34: 21,797,672 parameters and 3.664 billion multiply-adds at 224x224. Arguments: see `ResNet`."""

    stage_sizes = (3, 4, 6, 3)


class ResNet50(ResNet):
    """ResNet-50: 25,557,032 parameters and 4.089 billion multiply-adds at 224x224. Arguments: see `ResNet`."""

    block, stage_sizes = BottleneckBlock, (3, 4, 6, 3)


class ResNet101(ResNet):
    """ResNet-101: 44,549,160 parameters. Arguments: see `ResNet`."""

    block, stage_sizes = BottleneckBlock, (3, 4, 23, 3)


class ResNet152(ResNet):
    """ResNet-152: 60,192,808 parameters. Arguments: see `ResNet`."""

    block, stage_sizes = BottleneckBlock, (3, 8, 36, 3)


class WideResNet50_2(ResNet50):
    """ResNet-50 with twice the channels inside the blocks (Zagoruyko and Komodakis 2016, arXiv:1605.07146)."""

    block_options: ClassVar = {"inner_factor": 2}


class WideResNet101_2(ResNet101):
    """ResNet-101 with twice the channels inside the blocks (Zagoruyko and Komodakis 2016, arXiv:1605.07146)."""

    block_options: ClassVar = {"inner_factor": 2}


class ResNeXt50_32x4d(ResNet50):
    """ResNet-50 with 32 groups of 4 channels in the first stage's blocks (Xie et al. 2016, arXiv:1611.05431)."""

    block_options: ClassVar = {"groups": 32, "inner_factor": 2}


class ResNeXt101_32x8d(ResNet101):
    """ResNet-101 with 32 groups of 8 channels in the first stage's blocks (Xie et al. 2016, arXiv:1611.05431)."""

    block_options: ClassVar = {"groups": 32, "inner_factor": 4}


class ResNeXt101_64x4d(ResNet101):
    """ResNet-101 with 64 groups of 4 channels in the first stage's blocks (Xie et al. 2016, arXiv:1611.05431)."""

    block_options: ClassVar = {"groups": 64, "inner_factor": 4}
