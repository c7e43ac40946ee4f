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
    head: str = "fc"
    """Attribute name of the classifier, and so the first part of its checkpoint keys."""


def _resnet(name: str, builder: str) -> tuple[str, Entry]:
    return name, Entry(f"resnet:{builder}", "resnet", name)


REGISTRY: dict[str, Entry] = dict(
    [
        _resnet("resnet18", "ResNet18"),
        _resnet("resnet34", "ResNet34"),
        _resnet("resnet50", "ResNet50"),
        _resnet("resnet101", "ResNet101"),
        _resnet("resnet152", "ResNet152"),
        _resnet("wide_resnet50_2", "WideResNet50_2"),
        _resnet("wide_resnet101_2", "WideResNet101_2"),
        _resnet("resnext50_32x4d", "ResNeXt50_32x4d"),
        _resnet("resnext101_32x8d", "ResNeXt101_32x8d"),
        _resnet("resnext101_64x4d", "ResNeXt101_64x4d"),
    ]
)

if TYPE_CHECKING:
    Architecture = str
else:
    Architecture = Literal[tuple(REGISTRY)]
