"""SqueezeNet (Iandola et al. 2016, arXiv:1602.07360) with torchvision's attribute names, NHWC."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from resnet_jax.models.convnet import ConvNet, Make, trunk_stages
from resnet_jax.models.layers.convolution import Conv
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.models.layers.initializers import kaiming_uniform, normal
from resnet_jax.models.layers.pooling import MaxPool, global_average
from resnet_jax.models.layers.sequential import Sequential


class SqueezeNet(ConvNet):
    """SqueezeNet 1.1: 1,235,496 parameters and 0.349 billion multiply-adds at 224x224. Arguments: see `ConvNet`.

    Iandola et al. 2016, arXiv:1602.07360; version 1.1 is the authors' later one, with a smaller first convolution and
    earlier poolings. The classifier is a 1x1 convolution before the average, so its logits are not negative, and they
    are not a linear function of `pooled`, the average of the last maps.

    The stem "cifar" starts with a padded convolution of stride 1; 32x32 images then give 4x4 maps in the end.
    """

    head = "classifier.1"

    def build(self, num_classes: int, make: Make) -> None:
        def conv(*sizes: int, **options) -> Conv:
            return make.conv(*sizes, **{"bias": True, "kernel_init": kaiming_uniform} | options)

        def fire(inputs: int, squeezed: int, expanded: int) -> Fire:
            return Fire(inputs, squeezed, expanded, conv=conv)

        def pool() -> MaxPool:
            return MaxPool(3, 2, ceil=True)

        first = conv(3, 64, 3, stride=2, padding=0) if self.stem == "imagenet" else conv(3, 64, 3)
        self.trunk = Sequential(
            *(first, nnx.relu),
            *(pool(), fire(64, 16, 64), fire(128, 16, 64)),
            *(pool(), fire(128, 32, 128), fire(256, 32, 128)),
            *(pool(), fire(256, 48, 192), fire(384, 48, 192), fire(384, 64, 256), fire(512, 64, 256)),
        )
        last = conv(512, num_classes, 1, kernel_init=normal(0.01), dtype=jnp.float32)
        self.classifier = Sequential(Dropout(0.5), last, nnx.relu, global_average)

    def stages(self) -> tuple[tuple[str, ...], ...]:
        return trunk_stages(2, 5, 8, 13)

    def classify(
        self, maps: jax.Array, *, train: bool | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        return self.classifier(maps, train=train, rngs=rngs)


class Fire(nnx.Module):
    """A 1x1 convolution to `squeezed` channels, then a 1x1 and a 3x3 one side by side, each to `expanded` channels."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int, *, conv: Callable[..., Conv]):
        self.squeeze = conv(in_channels, squeezed, 1)
        self.expand1x1 = conv(squeezed, expanded, 1)
        self.expand3x3 = conv(squeezed, expanded, 3)

    def __call__(self, maps: jax.Array) -> jax.Array:
        squeezed = nnx.relu(self.squeeze(maps))
        return nnx.relu(jnp.concatenate((self.expand1x1(squeezed), self.expand3x3(squeezed)), -1))
