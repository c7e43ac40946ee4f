"""ResNet with the activations before the convolutions (He et al. 2016, arXiv:1603.05027), NHWC."""

import jax
from flax import nnx

from resnet_jax.models.convnet import ConvNet, Make
from resnet_jax.models.layers.linear import make_classifier
from resnet_jax.models.layers.pooling import MaxPool
from resnet_jax.models.layers.sequential import Sequential


class PreActBlock(nnx.Module):
    """Two 3x3 convolutions, each after a normalization and ReLU, and a shortcut without an activation after the sum.

    The shortcut is the identity of the input, or a 1x1 projection of the activated input, without normalization, if the
    block changes the number of channels or the resolution (as in https://github.com/KaimingHe/resnet-1k-layers).

    Args:
        make: makes the layers.
        inputs, width: channels of the input and of the output.
        stride: of the first convolution.
        activated: whether the input is activated already, as in the first block.
    """

    def __init__(self, make: Make, inputs: int, width: int, *, stride: int = 1, activated: bool = False):
        self.bn1 = None if activated else make.norm(inputs)
        self.conv1 = make.conv(inputs, width, 3, stride=stride)
        self.bn2 = make.norm(width)
        self.conv2 = make.conv(width, width, 3)
        changes = stride != 1 or inputs != width
        self.downsample = Sequential(make.conv(inputs, width, 1, stride=stride)) if changes else None

    def __call__(self, maps: jax.Array, *, train: bool | None = None) -> jax.Array:
        active = maps if self.bn1 is None else nnx.relu(self.bn1(maps, train=train))
        shortcut = maps if self.downsample is None else self.downsample(active)
        return shortcut + self.conv2(nnx.relu(self.bn2(self.conv1(active), train=train)))


class PreActResNet18(ConvNet):
    """PreAct-ResNet-18: 11,687,720 parameters and 1.814 billion multiply-adds at 224x224. Arguments: see `ConvNet`.

    Of the stages, the last is activated, and the others are the sums that the next block normalizes.

    The stem "cifar" is that of `ResNet18`: a 3x3 convolution of stride 1, and no max pooling.
    """

    head = "fc"

    def build(self, num_classes: int, make: Make) -> None:
        self.conv1 = make.conv(3, 64, 7, stride=2) if self.stem == "imagenet" else make.conv(3, 64, 3)
        self.bn1 = make.norm(64)
        self.relu = nnx.relu
        self.maxpool = MaxPool(3, 2, padding=1)
        self.layer1 = Sequential(PreActBlock(make, 64, 64, activated=True), PreActBlock(make, 64, 64))
        self.layer2 = Sequential(PreActBlock(make, 64, 128, stride=2), PreActBlock(make, 128, 128))
        self.layer3 = Sequential(PreActBlock(make, 128, 256, stride=2), PreActBlock(make, 256, 256))
        self.layer4 = Sequential(PreActBlock(make, 256, 512, stride=2), PreActBlock(make, 512, 512))
        self.bn2 = make.norm(512)
        self.fc = make_classifier(512, num_classes, make.rngs)

    def stages(self) -> tuple[tuple[str, ...], ...]:
        stem, last = ("conv1", "bn1", "relu"), (("layer2",), ("layer3",), ("layer4", "bn2", "relu"))
        return ((*stem, "layer1"), *last) if self.stem == "cifar" else (stem, ("maxpool", "layer1"), *last)
