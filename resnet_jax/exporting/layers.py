"""Differences to torchvision after each layer."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from resnet_jax.models.convnet import ConvNet, part
from resnet_jax.models.layers.sequential import apply
from resnet_jax.models.network import Network
from resnet_jax.models.registry import REGISTRY
from resnet_jax.models.resnet import STAGES, STEM_POOL, ResNet


def layer_outputs(model: ConvNet, images: Float[Array, "batch height width 3"]) -> Iterator[tuple[str, jax.Array]]:
    """Yield the outputs that torchvision's network has under the same names, layer by layer, in evaluation."""
    if isinstance(model, ResNet):
        yield from _of_resnet(model, images)
        return
    maps = images
    for path in chain(*model.stages()):
        maps = apply(part(model, path), maps, train=False, rngs=None)
        yield path.replace("trunk.", "features.", 1), maps
    yield model.head, model.classify(maps, train=False)


def _of_resnet(model: ResNet, images: Float[Array, "batch height width 3"]) -> Iterator[tuple[str, jax.Array]]:
    maps = model.conv1(images)
    yield "conv1", maps
    maps = model.bn1(maps, train=False)
    yield "bn1", maps
    maps = jax.nn.relu(maps)
    if model.stem == "imagenet":
        maps = STEM_POOL(maps)
        yield "maxpool", maps
    for stage in STAGES:
        for index, block in enumerate(getattr(model, stage)):
            maps = block(maps, train=False)
            yield f"{stage}.{index}", maps
    yield model.head, model.classify(maps, train=False)


def differences_to_torchvision(
    model: ConvNet, tensors: dict[str, np.ndarray], network: Network
) -> list[tuple[str, float, float]] | str:
    """Compare with torchvision's network, given the same weights and random images.

    Args:
        model: our network.
        tensors: its weights with torchvision's keys.
        network: which network it is.

    Returns:
        For each layer its name, the largest difference, and the largest value; or why there is no comparison.
    """
    try:
        import torch
        import torchvision
    except ImportError:
        return "torchvision is not installed (pip install torchvision)"
    entry = REGISTRY[network.arch]
    if entry.torchvision is None or (network.stem == "cifar" and entry.family != "resnet"):
        return "torchvision does not have this network"
    reference: Any = torchvision.models.get_model(entry.torchvision, num_classes=network.num_classes)
    if network.stem == "cifar":
        reference.conv1, reference.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity()
    try:
        state = {key: torch.tensor(tensor.astype(np.float32)) for key, tensor in tensors.items()}
        reference.eval().load_state_dict(state, strict=True)
    except RuntimeError:
        return "torchvision has no network of this width"
    outputs: dict[str, np.ndarray] = {}
    for name, module in reference.named_modules():  # copies: the ReLU that follows works in place
        module.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output.clone().numpy()}))
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    with torch.inference_mode():
        reference(torch.tensor(images.transpose(0, 3, 1, 2)))
    found = []
    for name, ours in layer_outputs(model, jax.numpy.asarray(images)):
        theirs = outputs[name] if outputs[name].ndim == 2 else outputs[name].transpose(0, 2, 3, 1)
        found.append((name, float(np.abs(np.asarray(ours, np.float32) - theirs).max()), float(np.abs(theirs).max())))
    return found
