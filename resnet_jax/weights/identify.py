"""Which network of the registry a state dict belongs to, by its keys and shapes."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.models.network import Network
from resnet_jax.models.registry import REGISTRY, Architecture
from resnet_jax.models.resnet import ResNet
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
            f"the {len(tensors)} tensors do not belong to a ResNet: expected conv1.weight, layer1.0.conv1.weight, ..., "
            f"fc.weight, with a prefix or without, got {', '.join(sorted(tensors)[:4])}; {KNOWN}"
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


def has_head(tensors: Mapping[str, Any]) -> bool:
    """Tell whether a state dict has the classifier of a network."""
    return any(is_head(key, entry.head) for key in tensors for entry in REGISTRY.values())


def sized(arch: Architecture, tensors: Mapping[str, Any]) -> Network:
    """Return the network of this architecture with the width, stem and number of classes that the tensors show."""
    head = REGISTRY[arch].head
    first, last = (np.shape(tensors.get(key, NOTHING)) for key in ("conv1.weight", f"{head}.weight"))
    return Network(
        arch,
        num_classes=last[0] if len(last) == 2 else 1000,
        stem="cifar" if len(first) == 4 and first[2] == 3 else "imagenet",
        width=first[0] if len(first) == 4 else 64,
    )


def advice(model: ResNet, tensors: Mapping[str, Any]) -> str:
    """Return what to do about tensors that do not fit a model."""
    nearest = _nearest(tensors)
    if nearest is None:
        return "they do not belong to a ResNet with torchvision's keys; give the state dict of one"
    network, faults = nearest
    called = f"{network.arch} with num_classes={network.num_classes}, stem={network.stem!r}, width={network.width}"
    shapes = torchvision_shapes(model)
    differing = {key for key, shape in shapes.items() if shape != np.shape(tensors.get(key, NOTHING))}
    if differing and all(is_head(key, model.head) for key in differing):
        keep = 'give head="fresh" to keep the classifier of the model'
        return f"build the model with num_classes={network.num_classes}, or {keep}" if has_head(tensors) else keep
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
    if "conv1.weight" not in shapes:
        return None
    found, headless = {}, not has_head(tensors)
    for arch, entry in REGISTRY.items():
        network = sized(arch, tensors)
        try:
            expected = _shapes(network)
        except ValueError:  # the ResNeXts of this width have no whole groups
            continue
        keys = {key for key in expected.keys() | shapes.keys() if not (headless and is_head(key, entry.head))}
        found[network] = sorted(key for key in keys if expected.get(key) != shapes.get(key))
        if not found[network]:
            break
    return min(found.items(), key=lambda item: len(item[1]))


@cache
def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    return torchvision_shapes(network.abstract())
