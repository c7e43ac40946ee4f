"""Sets of networks by name. Importing them loads no JAX."""

from typing import Literal

from resnet_jax.models.registry import REGISTRY

SetName = Literal["family", "small", "classic", "all"]

SETS: dict[SetName, tuple[str, ...]] = {
    "family": tuple(name for name, entry in REGISTRY.items() if entry.family == "resnet"),
    "small": ("resnet18", "squeezenet1_1", "shufflenet_v2_x1_0", "mobilenet_v2", "mobilenet_v3_large", "mnasnet1_0"),
    "classic": (
        *("resnet18", "alexnet", "vgg11_bn", "vgg16_bn", "googlenet", "resnet34", "resnet50"),
        *("densenet121", "squeezenet1_1"),
    ),
    "all": tuple(REGISTRY),
}
"""torchvision's ResNets, networks for phones and other small devices, those of textbooks, and all."""
