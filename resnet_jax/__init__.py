"""ResNet-18 on JAX and Flax NNX: importable modules, a trainer, and weights that match torchvision's."""

from resnet_jax.classifier.pretrained import (
    Classifier,
    Preprocessing,
    from_pretrained,
    load_classifier,
    load_torchvision,
    save_pretrained,
)
from resnet_jax.models.layers.convolution import Conv
from resnet_jax.models.layers.norm import BatchNorm
from resnet_jax.models.resnet import (
    BottleneckBlock,
    Features,
    ResNet,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    ResNetBlock,
    ResNeXt50_32x4d,
    ResNeXt101_32x8d,
    ResNeXt101_64x4d,
    WideResNet50_2,
    WideResNet101_2,
)
from resnet_jax.weights.torchvision import to_torchvision

__all__ = [
    "BatchNorm",
    "BottleneckBlock",
    "Classifier",
    "Conv",
    "Features",
    "Preprocessing",
    "ResNeXt50_32x4d",
    "ResNeXt101_32x8d",
    "ResNeXt101_64x4d",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "ResNetBlock",
    "WideResNet50_2",
    "WideResNet101_2",
    "from_pretrained",
    "load_classifier",
    "load_torchvision",
    "save_pretrained",
    "to_torchvision",
]
