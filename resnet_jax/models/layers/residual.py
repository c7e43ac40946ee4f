"""The residual blocks of ResNet (He et al. 2015, arXiv:1512.03385), with torchvision's attribute names."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from resnet_jax.models.layers.convolution import Conv
from resnet_jax.models.layers.dropout import StochasticDepth
from resnet_jax.models.layers.norm import BatchNorm
from resnet_jax.models.layers.sequential import apply

Norm = Callable[[int], BatchNorm]


def make_projection(in_channels: int, out_channels: int, stride: int, conv: Callable, norm: Norm) -> nnx.List | None:
    """Make the 1x1 projection of a shortcut and its normalization; return None where the shortcut is the identity."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nnx.List([conv(in_channels, out_channels, 1, stride=stride), norm(out_channels)])


def _shortcut(downsample: Iterable | None, images: jax.Array, train: bool | None) -> jax.Array:
    for layer in downsample or ():
        images = apply(layer, images, train=train, rngs=None)
    return images


def _recomputable(method: Callable) -> Callable:
    """Make a method of a block keep only convolutions and statistics for the backward pass, if the block recomputes."""
    kept = jax.checkpoint_policies.save_only_these_names("convolution", "statistics")
    again = nnx.remat(method, policy=kept, static_argnums=2)

    def either(self: "ResNetBlock | BottleneckBlock", images: jax.Array, train: bool | None) -> jax.Array:
        return (again if self.recompute else method)(self, images, train)

    return either


class ResNetBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut, `relu(shortcut + residual)`: the block of ResNet-18 and ResNet-34.

    The shortcut is the identity, or a 1x1 projection if the block changes the number of channels or the resolution.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        stride: stride of the first convolution; 2 halves the resolution.
        dtype: type of the computation; parameters stay float32.
        norm: function from a number of channels to a normalization layer; `BatchNorm` by default.
        zero_init: start the last norm's scale at 0, so that the block starts as the identity (Goyal et al. 2017, 5.1).
        recompute: in the backward pass, compute everything but the convolutions and statistics again (Chen et al. 2016,
            arXiv:1604.06174, section 3). This saves memory on a GPU, but not on a TPU.
        drop_rate: probability with which the residual of an image is left out in training; see `StochasticDepth`.
        rngs: draws the weights, from its `params` stream.
    """

    expansion = 1
    make_downsample: ClassVar[Callable] = staticmethod(make_projection)
    """Function that makes the layers of the shortcut."""

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
        drop_rate: float = 0.0,
        rngs: nnx.Rngs,
    ):
        conv = partial(Conv, dtype=dtype, rngs=rngs)
        norm = norm or partial(BatchNorm, dtype=dtype)
        self.conv1: Callable[[jax.Array], jax.Array] = conv(in_channels, channels, 3, stride=stride)
        self.bn1 = norm(channels)
        self.conv2 = conv(channels, channels, 3)
        self.bn2 = norm(channels)
        self.downsample = self.make_downsample(in_channels, channels, stride, conv, norm)
        self.recompute = recompute
        self.stochastic_depth = StochasticDepth(drop_rate)
        if zero_init:
            self.bn2.scale[...] = jnp.zeros_like(self.bn2.scale[...])

    def __call__(
        self,
        images: Float[Array, "batch height width in_channels"],
        *,
        train: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch out_height out_width out_channels"]:
        """Compute `relu(shortcut + residual)`; `train` and `rngs` as in `ConvNet.features`."""
        residual = self.stochastic_depth(self.residual(images, train=train), train=train, rngs=rngs)
        return nnx.relu(_shortcut(self.downsample, images, train) + residual)

    def residual(self, images: jax.Array, *, train: bool | None = None) -> jax.Array:
        """Compute what the block adds to its shortcut."""
        return self.bn2(self._convolved(images, train), train=train)

    @_recomputable
    def _convolved(self, images: jax.Array, train: bool | None) -> jax.Array:
        return self.conv2(nnx.relu(self.bn1(self.conv1(images), train=train)))


class BottleneckBlock(nnx.Module):
    """Convolutions of 1x1, 3x3 and 1x1 and a shortcut: the block of ResNet-50 and deeper networks.

    The stride is in the 3x3 convolution ("v1.5"), as in torchvision; in the paper it is in the first 1x1.

    Args:
        in_channels: channels of the input.
        channels: width of the stage; the output has 4 times as many channels.
        stride: stride of the 3x3 convolution; 2 halves the resolution.
        groups: groups of the 3x3 convolution (ResNeXt, Xie et al. 2016, arXiv:1611.05431).
        inner_factor: channels of the 3x3 convolution, as a multiple of `channels` (wide ResNets and ResNeXt).
        dtype, norm, zero_init, recompute, drop_rate, rngs: as in `ResNetBlock`.
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
        drop_rate: float = 0.0,
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
        self.downsample = make_projection(in_channels, outer, stride, conv, norm)
        self.recompute = recompute
        self.stochastic_depth = StochasticDepth(drop_rate)
        if zero_init:
            self.bn3.scale[...] = jnp.zeros_like(self.bn3.scale[...])

    def __call__(
        self,
        images: Float[Array, "batch height width in_channels"],
        *,
        train: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "batch out_height out_width out_channels"]:
        """Compute `relu(shortcut + residual)`; `train` and `rngs` as in `ConvNet.features`."""
        residual = self.bn3(self._convolved(images, train), train=train)
        residual = self.stochastic_depth(residual, train=train, rngs=rngs)
        return nnx.relu(_shortcut(self.downsample, images, train) + residual)

    @_recomputable
    def _convolved(self, images: jax.Array, train: bool | None) -> jax.Array:
        inner = nnx.relu(self.bn1(self.conv1(images), train=train))
        return self.conv3(nnx.relu(self.bn2(self.conv2(inner), train=train)))
