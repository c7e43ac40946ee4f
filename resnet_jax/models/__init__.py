"""The networks, by the names that configurations and commands use."""

from resnet_jax.models import resnet

ARCHITECTURES = {
    "resnet18": resnet.ResNet18,
    "resnet34": resnet.ResNet34,
    "resnet50": resnet.ResNet50,
    "resnet101": resnet.ResNet101,
    "resnet152": resnet.ResNet152,
    "wide_resnet50_2": resnet.WideResNet50_2,
    "wide_resnet101_2": resnet.WideResNet101_2,
    "resnext50_32x4d": resnet.ResNeXt50_32x4d,
    "resnext101_32x8d": resnet.ResNeXt101_32x8d,
    "resnext101_64x4d": resnet.ResNeXt101_64x4d,
}
