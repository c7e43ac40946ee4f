"""torchvision's networks with the stems and widths of this package."""

from typing import Any

from flax import nnx

from resnet_jax.config import ModelConfig
from resnet_jax.errors import UserError
from resnet_jax.models.layers.convolution import Conv
from resnet_jax.models.network import Network
from resnet_jax.models.registry import REGISTRY
from resnet_jax.weights.torchvision import key_of

FIRST_POOLING = {"googlenet": "maxpool1", "densenet121": "features.pool0", "shufflenet_v2_x1_0": "maxpool"}
"""Poolings that the small stem lacks."""


def make_network(network: ModelConfig, num_classes: int) -> Any:
    """Make torchvision's network of the same name, with the stem and width of `network`.

    Raises:
        UserError: torchvision does not have it.
    """
    import torchvision

    entry = REGISTRY[network.arch]
    if entry.torchvision is None:
        raise UserError(f"--against torch: torchvision does not have {network.arch}: leave out --against")
    options = {"init_weights": True, "aux_logits": False} if network.arch == "googlenet" else {}
    model = torchvision.models.get_model(entry.torchvision, weights=None, num_classes=num_classes, **options)
    if entry.family == "resnet":
        _change_resnet(model, network, num_classes)
    elif network.stem == "cifar":
        _change_stem(model, network)
    return model


def _change_resnet(model: Any, network: ModelConfig, num_classes: int) -> None:
    from torch import nn

    block, width = type(model.layer1[0]), network.width
    kernel, stride = (7, 2) if network.stem == "imagenet" else (3, 1)
    model.conv1 = nn.Conv2d(3, width, kernel, stride, kernel // 2, bias=False)
    model.bn1 = nn.BatchNorm2d(width)
    if network.stem == "cifar":
        model.maxpool = nn.Identity()
    model.inplanes = width  # number of channels from which torchvision's own method continues
    for stage, name in enumerate(("layer1", "layer2", "layer3", "layer4")):
        blocks = len(getattr(model, name))
        layer = model._make_layer(block, width * 2**stage, blocks, stride=1 if stage == 0 else 2)
        setattr(model, name, layer)
    model.fc = nn.Linear(width * 8 * block.expansion, num_classes)


def _change_stem(model: Any, network: ModelConfig) -> None:
    """Give each convolution the kernel size, stride and padding that it has here, and leave out the first pooling."""
    from torch import nn

    for path, conv in nnx.iter_modules(Network(network.arch, stem=network.stem).abstract()):
        if isinstance(conv, Conv):
            key = key_of((*path, "kernel")).removesuffix(".weight")
            theirs, size = model.get_submodule(key), conv.kernel.shape[0]
            if theirs.kernel_size[0] != size:
                shape = theirs.in_channels, theirs.out_channels, size
                model.set_submodule(key, nn.Conv2d(*shape, bias=theirs.bias is not None))
            changed = model.get_submodule(key)
            changed.stride, changed.padding = (conv.stride,) * 2, (conv.padding,) * 2
    if network.arch in FIRST_POOLING:
        model.set_submodule(FIRST_POOLING[network.arch], nn.Identity())
