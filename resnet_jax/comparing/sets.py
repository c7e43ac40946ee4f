"""Sets of networks to compare."""

from resnet_jax.models.registry import REGISTRY

SETS = {
    "small": ("resnet18", "squeezenet1_1", "shufflenet_v2_x1_0", "mobilenet_v2", "mobilenet_v3_large", "mnasnet1_0"),
    "classic": (
        *("resnet18", "alexnet", "vgg11_bn", "vgg16_bn", "googlenet", "resnet34", "resnet50"),
        *("densenet121", "squeezenet1_1"),
    ),
    "all": tuple(REGISTRY),
}
"""Networks by the name of the set: those for phones and other small devices, those of textbooks, and all."""
