"""The one registry of networks: what each name builds. Importing it loads no JAX."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

Stem = Literal["imagenet", "cifar"]


@dataclass(frozen=True)
class Entry:
    """One network of the registry."""

    builder: str
    """Module and class below `resnet_jax.models`, "module:Class"."""
    family: str
    """Networks of one family share their keys, and differ in depth and width."""
    torchvision: str
    """Name in `torchvision.models`."""
    parameters: int
    """Number of weights with 1000 classes."""
    top1: dict[str, float]
    """Accuracy on ImageNet's validation images that torchvision publishes for each of its weights, percent."""
    head: str = "fc"
    """Attribute name of the classifier, and so the first part of its checkpoint keys."""


def _resnet(name: str, builder: str, parameters: int, *top1: float) -> tuple[str, Entry]:
    tags = ("IMAGENET1K_V1", "IMAGENET1K_V2")
    return name, Entry(f"resnet:{builder}", "resnet", name, parameters, dict(zip(tags, top1, strict=False)))


REGISTRY: dict[str, Entry] = dict(
    [
        _resnet("resnet18", "ResNet18", 11_689_512, 69.758),
        _resnet("resnet34", "ResNet34", 21_797_672, 73.314),
        _resnet("resnet50", "ResNet50", 25_557_032, 76.13, 80.858),
        _resnet("resnet101", "ResNet101", 44_549_160, 77.374, 81.886),
        _resnet("resnet152", "ResNet152", 60_192_808, 78.312, 82.284),
        _resnet("wide_resnet50_2", "WideResNet50_2", 68_883_240, 78.468, 81.602),
        _resnet("wide_resnet101_2", "WideResNet101_2", 126_886_696, 78.848, 82.51),
        _resnet("resnext50_32x4d", "ResNeXt50_32x4d", 25_028_904, 77.618, 81.198),
        _resnet("resnext101_32x8d", "ResNeXt101_32x8d", 88_791_336, 79.312, 82.834),
        _resnet("resnext101_64x4d", "ResNeXt101_64x4d", 83_455_272, 83.246),
    ]
)

if TYPE_CHECKING:
    Architecture = str
else:
    Architecture = Literal[tuple(REGISTRY)]
