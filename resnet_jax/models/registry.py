"""The one registry of networks: what each name builds. Importing it loads no JAX."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from resnet_jax.models.published import published_figures

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
    head: str = "fc"
    """Path of the classifier's last layer, and so the start of its checkpoint keys."""
    first: str = "conv1"
    """Path of the first convolution in checkpoint keys; where the network has widths, its channels are the width."""
    sides: tuple[int, int] = (7, 3)
    """Kernel size of the first convolution with the stem "imagenet" and with "cifar"; equal if only strides differ."""

    @property
    def shows_stem(self) -> bool:
        """Whether the shapes of the weights differ between the stems."""
        return self.sides[0] != self.sides[1]


def _resnet(name: str, builder: str) -> tuple[str, Entry]:
    return _other(name, f"resnet:{builder}")


def _other(name: str, builder: str, parameters: int | None = None, **keys: Any) -> tuple[str, Entry]:
    """Return an entry; `published.csv` has the number of parameters of torchvision's networks."""
    family, torchvision = builder.split(":")[0], name if parameters is None else None
    return name, Entry(builder, family, torchvision, parameters or published_figures()[name][0].parameters, **keys)


def _keys(head: str, first: str, side: int) -> dict[str, Any]:
    return {"head": head, "first": first, "sides": (side, 3)}


MOBILE = "features.0.0"
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
        _other("alexnet", "alexnet:AlexNet", **_keys("classifier.6", "features.0", 11)),
        _other("vgg11_bn", "vgg:VGG11BN", **_keys("classifier.6", "features.0", 3)),
        _other("vgg16_bn", "vgg:VGG16BN", **_keys("classifier.6", "features.0", 3)),
        _other("googlenet", "googlenet:GoogLeNet", **_keys("fc", "conv1.conv", 7)),
        _other("squeezenet1_1", "squeezenet:SqueezeNet", **_keys("classifier.1", "features.0", 3)),
        _other("densenet121", "densenet:DenseNet121", **_keys("classifier", "features.conv0", 7)),
        _other("mobilenet_v2", "mobilenet_v2:MobileNetV2", **_keys("classifier.1", MOBILE, 3)),
        _other("mobilenet_v3_large", "mobilenet_v3:MobileNetV3Large", **_keys("classifier.3", MOBILE, 3)),
        _other("efficientnet_b0", "efficientnet:EfficientNetB0", **_keys("classifier.1", MOBILE, 3)),
        _other("mnasnet1_0", "mnasnet:MNASNet", **_keys("classifier.1", "layers.0", 3)),
        _other("shufflenet_v2_x1_0", "shufflenet:ShuffleNetV2", **_keys("fc", "conv1.0", 3)),
        _other("regnet_y_400mf", "regnet:RegNetY400MF", **_keys("fc", "stem.0", 3)),
        _other("convnext_tiny", "convnext:ConvNeXtTiny", **_keys("classifier.2", MOBILE, 4)),
        _other("resnet18d", "resnet_d:ResNet18D", 11_708_744, **_keys("fc", "conv1.0", 3)),
        _other("preact_resnet18", "preact_resnet:PreActResNet18", 11_687_720, **_keys("fc", "conv1", 7)),
        _other("blurpool_resnet18", "blurpool_resnet:BlurPoolResNet18", 11_689_512),
        _other("plain18", "plain:PlainNet18", 11_515_688),
        _other("plain34", "plain:PlainNet34", 21_623_848),
    ]
)

if TYPE_CHECKING:
    Architecture = str
else:
    Architecture = Literal[tuple(REGISTRY)]
