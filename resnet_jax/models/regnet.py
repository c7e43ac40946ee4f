"""RegNet (Radosavovic et al. 2020, arXiv:2003.13678) with torchvision's attribute names, NHWC."""

from collections.abc import Callable

import jax
from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make, conv_norm
from resnet_jax.models.layers.convolution import Conv
from resnet_jax.models.layers.initializers import normal, uniform
from resnet_jax.models.layers.squeeze_excitation import SqueezeExcitation

STEM_WIDTH = 32
GROUP_WIDTH = 8  # channels of a group
STAGES = ((48, 1), (104, 3), (208, 6), (440, 6))
"""Channels and number of blocks of each stage, by equations 2 to 4 of the paper for w0=48, wa=27.89, wm=2.09."""


class Residual(nnx.Module):
    """Convolutions of 1x1, 3x3 in groups and 1x1, with squeeze and excitation before the last.

    It squeezes to a quarter of the channels of the block's input.
    """

    def __init__(self, make: Make, inputs: int, width: int, stride: int):
        self.a = conv_norm(make, inputs, width, 1)
        self.b = conv_norm(make, width, width, 3, stride=stride, groups=width // GROUP_WIDTH)
        self.se = SqueezeExcitation(width, round(inputs / 4), conv=_gate_conv(make))
        self.c = conv_norm(make, width, width, 1, activation=None)

    def __call__(self, maps: jax.Array, *, train: bool | None = None) -> jax.Array:
        inner = self.b(self.a(maps, train=train), train=train)
        return self.c(self.se(inner), train=train)


class Block(nnx.Module):
    """A residual and a shortcut, `relu(shortcut + residual)`.

    The shortcut is the identity, or a 1x1 projection if the block changes the number of channels or the resolution.
    """

    def __init__(self, make: Make, inputs: int, width: int, stride: int):
        changes = stride != 1 or inputs != width
        self.proj = conv_norm(make, inputs, width, 1, activation=None, stride=stride) if changes else None
        self.f = Residual(make, inputs, width, stride)

    def __call__(self, maps: jax.Array, *, train: bool | None = None) -> jax.Array:
        shortcut = maps if self.proj is None else self.proj(maps, train=train)
        return nnx.relu(shortcut + self.f(maps, train=train))


def _gate_conv(make: Make) -> Callable[..., Conv]:
    """Return a function that makes a 1x1 convolution whose bias starts as PyTorch's does by itself."""
    return lambda inputs, *sizes, **options: make.conv(inputs, *sizes, bias_init=uniform(inputs**-0.5), **options)


class RegNetY400MF(ConvNet):
    """RegNetY-400MF: 4,344,144 parameters and 0.402 billion multiply-adds at 224x224. Arguments: see `ConvNet`.

    The stem "cifar" has stride 1 in the first convolution and in the first stage, so that 32x32 images end as 4x4 maps.
    """

    head = "fc"

    def build(self, num_classes: int, make: Make) -> None:
        small = self.stem == "cifar"
        self.entry = conv_norm(make, 3, STEM_WIDTH, 3, stride=1 if small else 2)  # "stem" in torchvision
        self.trunk_output: nnx.Dict = nnx.Dict()
        inputs = STEM_WIDTH
        for number, (width, count) in enumerate(STAGES, 1):
            blocks = {}
            for index in range(count):
                stride = 1 if index > 0 or (small and number == 1) else 2
                blocks[f"block{number}-{index}"] = Block(make, inputs, width, stride)
                inputs = width
            self.trunk_output[f"block{number}"] = nnx.Dict(blocks)
        self.fc = make.linear(inputs, num_classes, kernel_init=normal(0.01))

    def stages(self) -> tuple[tuple[str, ...], ...]:
        blocks = [
            tuple(f"trunk_output.block{number}.block{number}-{index}" for index in range(count))
            for number, (_, count) in enumerate(STAGES, 1)
        ]
        return (("entry", *blocks[0]), *blocks[1:]) if self.stem == "cifar" else (("entry",), *blocks)
