"""ResNets without shortcuts: the plain networks of He et al. 2015, arXiv:1512.03385, section 3.3, NHWC.

They show what shortcuts are for: "plain34" is hard to train where "resnet34" is not, with the same convolutions.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
from flax import nnx

from resnet_jax.models.layers.residual import ResNetBlock
from resnet_jax.models.resnet import ResNet


class PlainBlock(ResNetBlock):
    """The block of ResNet-18 without its shortcut, `relu(residual)`. Arguments: see `ResNetBlock`.

    Raises:
        ValueError: `zero_init` or `drop_rate` is set; without a shortcut, the block's output would be 0.
    """

    make_downsample: ClassVar[Callable] = staticmethod(lambda *_: None)

    def __init__(
        self, in_channels: int, channels: int, *, zero_init: bool = False, drop_rate: float = 0.0, **options: Any
    ):
        if zero_init or drop_rate:
            got = "zero_init=True; expected False" if zero_init else "stochastic depth; expected a rate of 0"
            raise ValueError(f"PlainBlock got {got}, since it has no shortcut")
        super().__init__(in_channels, channels, **options)

    def __call__(self, images: jax.Array, *, train: bool | None = None, rngs: nnx.Rngs | None = None) -> jax.Array:
        return nnx.relu(self.residual(images, train=train))


class PlainNet18(ResNet):
    """ResNet-18 without shortcuts: 11,515,688 parameters. Arguments: see `ResNet`."""

    block, stage_sizes = PlainBlock, (2, 2, 2, 2)


class PlainNet34(ResNet):
    """ResNet-34 without shortcuts: 21,623,848 parameters. Arguments: see `ResNet`."""

    block, stage_sizes = PlainBlock, (3, 4, 6, 3)
