"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545) with torchvision's attribute names, NHWC."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make, trunk_stages
from resnet_jax.models.layers.dropout import StochasticDepth
from resnet_jax.models.layers.initializers import truncated_normal
from resnet_jax.models.layers.layer_norm import LayerNorm
from resnet_jax.models.layers.pooling import adaptive_average, flatten
from resnet_jax.models.layers.sequential import Sequential

STAGES = ((96, 3), (192, 3), (384, 9), (768, 3))
"""Channels and number of blocks of each stage."""
DROP_RATE = 0.1  # of the residual of the last block; it grows linearly from 0 in the first
LAYER_SCALE = 1e-6


def gelu(maps: jax.Array) -> jax.Array:
    """Multiply by the normal distribution function, without an approximation."""
    return nnx.gelu(maps, approximate=False)


class Block(nnx.Module):
    """A depthwise 7x7 convolution, normalization, two linear layers on each pixel, and the identity as the shortcut.

    Attributes:
        layer_scale: `[1, 1, channels]`, factors of the residual, trained, start at 1e-6 (Touvron et al. 2021,
            arXiv:2103.17239).
    """

    def __init__(self, make: Make, channels: int, drop_rate: float):
        linear = partial(make.linear, kernel_init=truncated_normal(0.02), dtype=make.dtype)
        self.block = Sequential(
            make.conv(channels, channels, 7, groups=channels),
            nnx.identity,  # torchvision's permutation of the axes to NHWC, and the one back at the end
            LayerNorm(channels, dtype=make.dtype),
            linear(channels, 4 * channels),
            gelu,
            linear(4 * channels, channels),
            nnx.identity,
        )
        self.layer_scale = nnx.Param(jnp.full((1, 1, channels), LAYER_SCALE, jnp.float32))
        self.stochastic_depth = StochasticDepth(drop_rate)

    def __call__(self, maps: jax.Array, *, train: bool | None = None, rngs: nnx.Rngs | None = None) -> jax.Array:
        residual = self.block(maps)
        residual = self.layer_scale[...].astype(residual.dtype) * residual
        return maps + self.stochastic_depth(residual, train=train, rngs=rngs)


class ConvNeXtTiny(ConvNet):
    """ConvNeXt-T: 28,589,128 parameters and 4.456 billion multiply-adds at 224x224. Arguments: see `ConvNet`.

    The network has no batch normalization, so `norm` has no effect.

    The stem "cifar" starts with a 3x3 convolution of stride 1 in place of the 4x4 one of stride 4, so that 32x32 images
    end as 4x4 maps.
    """

    head = "classifier.2"

    def build(self, num_classes: int, make: Make) -> None:
        init = truncated_normal(0.02)
        make = make._replace(conv=partial(make.conv, bias=True, kernel_init=init))
        norm = partial(LayerNorm, dtype=make.dtype)
        stem = (4, 4, 0) if self.stem == "imagenet" else (3, 1, 1)
        rates = iter(np.linspace(0, DROP_RATE, sum(count for _, count in STAGES)).tolist())
        layers: list[nnx.Module] = []
        inputs = 3
        for channels, count in STAGES:
            size, stride, padding = (2, 2, 0) if layers else stem
            conv = make.conv(inputs, channels, size, stride=stride, padding=padding)
            layers.append(Sequential(norm(inputs), conv) if layers else Sequential(conv, norm(channels)))
            layers.append(Sequential(*(Block(make, channels, next(rates)) for _ in range(count))))
            inputs = channels
        self.trunk = Sequential(*layers)
        self.classifier = Sequential(LayerNorm(inputs), flatten, make.linear(inputs, num_classes, kernel_init=init))

    def stages(self) -> tuple[tuple[str, ...], ...]:
        return trunk_stages(2, 4, 6, 8)

    def pool(self, maps: jax.Array, *, train: bool | None, rngs: nnx.Rngs | None) -> jax.Array:
        return self.classifier(adaptive_average(maps.astype("float32"), 1), count=2)
