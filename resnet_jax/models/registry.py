"""The one registry of networks: what each name builds. Importing it loads no JAX."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

Stem = Literal["imagenet", "cifar"]


@dataclass(frozen=True)
class Entry:
    """One network of the registry."""

    builder: str
    """Module and class below `resnet_jax.models`, "module:Class"."""
    family: str
    """Networks of one family share their keys, and differ in depth and width."""
    torchvision: str | None
    """Name in `torchvision.models`; None if it is not there."""
    parameters: int
    """Number of weights with 1000 classes."""
    top1: dict[str, float]
    """Accuracy on ImageNet's validation images that torchvision publishes for each of its weights, percent."""
    head: str = "fc"
    """Path of the classifier's last layer, and so the start of its checkpoint keys."""
    first: str = "conv1"
    """Path of the first convolution in checkpoint keys."""
    sides: tuple[int, int] = (7, 3)
    """Kernel size of the first convolution with the stem "imagenet" and with "cifar"; equal if only strides differ."""

    @property
    def shows_stem(self) -> bool:
        """Whether the shapes of the weights differ between the stems."""
        return self.sides[0] != self.sides[1]


def _resnet(name: str, builder: str, parameters: int, *top1: float) -> tuple[str, Entry]:
    return _other(name, f"resnet:{builder}", parameters, *top1)


def _other(name: str, builder: str, parameters: int, *top1: float, **keys: Any) -> tuple[str, Entry]:
    family, torchvision = builder.split(":")[0], name if top1 else None
    published = dict(zip(("IMAGENET1K_V1", "IMAGENET1K_V2"), top1, strict=False))
    return name, Entry(builder, family, torchvision, parameters, published, **keys)


def _keys(head: str, first: str, side: int) -> dict[str, Any]:
    return {"head": head, "first": first, "sides": (side, 3)}


MOBILE = "features.0.0"
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
        _other("alexnet", "alexnet:AlexNet", 61_100_840, 56.522, **_keys("classifier.6", "features.0", 11)),
        _other("vgg11_bn", "vgg:VGG11BN", 132_868_840, 70.37, **_keys("classifier.6", "features.0", 3)),
        _other("vgg16_bn", "vgg:VGG16BN", 138_365_992, 73.36, **_keys("classifier.6", "features.0", 3)),
        _other("googlenet", "googlenet:GoogLeNet", 6_624_904, 69.778, **_keys("fc", "conv1.conv", 7)),
        _other("squeezenet1_1", "squeezenet:SqueezeNet", 1_235_496, 58.178, **_keys("classifier.1", "features.0", 3)),
        _other("densenet121", "densenet:DenseNet121", 7_978_856, 74.434, **_keys("classifier", "features.conv0", 7)),
        _other(
            "mobilenet_v2", "mobilenet_v2:MobileNetV2", 3_504_872, 71.878, 72.154, **_keys("classifier.1", MOBILE, 3)
        ),
        _other(
            *("mobilenet_v3_large", "mobilenet_v3:MobileNetV3Large", 5_483_032, 74.042, 75.274),
            **_keys("classifier.3", MOBILE, 3),
        ),
        _other("efficientnet_b0", "efficientnet:EfficientNetB0", 5_288_548, 77.692, **_keys("classifier.1", MOBILE, 3)),
        _other("mnasnet1_0", "mnasnet:MNASNet", 4_383_312, 73.456, **_keys("classifier.1", "layers.0", 3)),
        _other("shufflenet_v2_x1_0", "shufflenet:ShuffleNetV2", 2_278_604, 69.362, **_keys("fc", "conv1.0", 3)),
        _other("regnet_y_400mf", "regnet:RegNetY400MF", 4_344_144, 74.046, 75.804, **_keys("fc", "stem.0", 3)),
        _other("convnext_tiny", "convnext:ConvNeXtTiny", 28_589_128, 82.52, **_keys("classifier.2", MOBILE, 4)),
        _other("resnet18d", "resnet_d:ResNet18D", 11_708_744, **_keys("fc", "conv1.0", 3)),
        _other("preact_resnet18", "preact_resnet:PreActResNet18", 11_687_720, **_keys("fc", "conv1", 7)),
    ]
)

if TYPE_CHECKING:
    Architecture = str
else:
    Architecture = Literal[tuple(REGISTRY)]
