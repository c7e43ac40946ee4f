"""Which network of the registry a state dict belongs to, by its keys and shapes."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.models.convnet import ConvNet
from resnet_jax.models.network import PUBLISHED_WIDTH, Network
from resnet_jax.models.registry import REGISTRY, Architecture
from resnet_jax.weights.torchvision import is_head, torchvision_shapes

NOTHING = np.empty(0)
KNOWN = "`resnet-jax list` shows the known networks"


def identify(tensors: Mapping[str, Any]) -> Network:
    """Find the network that a state dict belongs to; without a classifier in it, the one with 1000 classes.

    Args:
        tensors: arrays by torchvision's keys.

    Raises:
        UserError: it belongs to none; the message names the nearest.
    """
    nearest = _nearest(tensors)
    if nearest is None:
        raise UserError(
            f"the {len(tensors)} tensors do not belong to a known network: expected those of a ResNet, conv1.weight, "
            f"layer1.0.conv1.weight, ..., fc.weight, or of another network with torchvision's keys, with a prefix or "
            f"without, got {', '.join(sorted(tensors)[:4])}; {KNOWN}"
        )
    network, faults = nearest
    if faults:
        raise UserError(
            f"the weights do not belong to a known network; the nearest is {network.arch}, from which {len(faults)} "
            f"tensors differ, such as {_described(faults[0], network, tensors)}; {KNOWN}"
        )
    return network


def fits(tensors: Mapping[str, Any]) -> bool:
    """Tell whether the tensors are those of a network of the registry, apart from a missing classifier."""
    nearest = _nearest(tensors)
    return nearest is not None and not nearest[1]


def has_head(tensors: Mapping[str, Any], arch: Architecture) -> bool:
    """Tell whether a state dict has the classifier of a network."""
    return any(is_head(key, REGISTRY[arch].head) for key in tensors)


def sized(arch: Architecture, tensors: Mapping[str, Any]) -> Network:
    """Return the network of this architecture with the width, stem and number of classes that the tensors show.

    Where the stems have kernels of the same shape, it is the published one.
    """
    entry = REGISTRY[arch]
    first, last = (np.shape(tensors.get(f"{path}.weight", NOTHING)) for path in (entry.first, entry.head))
    return Network(
        arch,
        num_classes=last[0] if len(last) in (2, 4) else 1000,
        stem="cifar" if entry.shows_stem and len(first) == 4 and first[2] == entry.sides[1] else "imagenet",
        width=first[0] if len(first) == 4 and Network(arch).has_widths else PUBLISHED_WIDTH,
    )


def advice(model: ConvNet, tensors: Mapping[str, Any]) -> str:
    """Return what to do about tensors that do not fit a model."""
    nearest = _nearest(tensors)
    if nearest is None:
        return "they do not belong to a known network with torchvision's keys; give the state dict of one"
    network, faults = nearest
    called = f"{network.arch} with num_classes={network.num_classes}, stem={network.stem!r}, width={network.width}"
    shapes = torchvision_shapes(model)
    differing = {key for key, shape in shapes.items() if shape != np.shape(tensors.get(key, NOTHING))}
    if differing and all(is_head(key, model.head) for key in differing):
        keep = 'give head="fresh" to keep the classifier of the model'
        classes = f"build the model with num_classes={network.num_classes}"
        return f"{classes}, or {keep}" if has_head(tensors, network.arch) else keep
    return f"the nearest architecture is {called}" + (f", except {len(faults)} tensors" if faults else ": build that")


def _described(key: str, network: Network, tensors: Mapping[str, Any]) -> str:
    """Return a key with its shape and the expected one, or with which of the two is missing."""
    expected, got = _shapes(network).get(key), np.shape(tensors[key]) if key in tensors else None
    if expected is None:
        return f"{key}, which is unexpected"
    return f"{key}: got {'nothing' if got is None else got}, expected {expected}"


def _nearest(tensors: Mapping[str, Any]) -> tuple[Network, list[str]] | None:
    """Return the network that differs in the fewest tensors, and their keys; a missing classifier is no difference."""
    shapes = {key: np.shape(value) for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
    found = {}
    for arch, entry in REGISTRY.items():
        if f"{entry.first}.weight" not in shapes:
            continue
        network, headless = sized(arch, tensors), not has_head(tensors, arch)
        try:
            expected = _shapes(network)
        except ValueError:  # the ResNeXts of this width have no whole groups
            continue
        keys = {key for key in expected.keys() | shapes.keys() if not (headless and is_head(key, entry.head))}
        found[network] = sorted(key for key in keys if expected.get(key) != shapes.get(key))
        if not found[network]:
            break
    return min(found.items(), key=lambda item: len(item[1])) if found else None


@cache
def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    return torchvision_shapes(network.abstract())
