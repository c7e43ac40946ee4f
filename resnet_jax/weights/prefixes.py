"""Find the networks beside the ResNets in a state dict: with torchvision's keys, below a prefix or without."""

import re
from collections.abc import Mapping

import numpy as np

from resnet_jax.models.registry import REGISTRY
from resnet_jax.weights.spellings import COUNTERS, Found

AUXILIARY = re.compile(r"aux[12]\.")  # GoogLeNet's classifiers for the training
OLD_NUMBER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")  # DenseNet's published keys: norm.1, not norm1
COMMON = {"conv1.weight"}
"""Key of the first convolution of ResNets and others, which many blocks have too."""
FIRST = {f"{entry.first}.weight" for entry in REGISTRY.values()} - COMMON
"""Keys of the first convolutions that show by their names that a network starts there."""


def find_others(tensors: Mapping[str, np.ndarray]) -> list[Found]:
    """Find every place in a state dict where the first convolution of such a network is.

    Args:
        tensors: arrays by key.
    """
    starts = _starts(tensors, FIRST)
    if not starts:
        places = _starts(tensors, COMMON)
        starts = {place for place in places if not any(place.startswith(other) for other in places - {place})}
    found = []
    for prefix in sorted(starts):
        inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        auxiliary = [key for key in inside if AUXILIARY.match(key)]
        mine = {
            OLD_NUMBER.sub(r"\1\2.", key): value
            for key, value in inside.items()
            if key.split(".")[-1] not in COUNTERS and key not in auxiliary
        }
        removed = (f'removed the prefix "{prefix}"',) if prefix else ()
        left = ("left out the auxiliary classifiers",) if auxiliary else ()
        found.append(Found(prefix, mine, removed + left))
    return found


def _starts(tensors: Mapping[str, np.ndarray], names: set[str]) -> set[str]:
    """Return the prefixes of the keys with one of the names."""
    return {key.removesuffix(name) for key in tensors for name in names if f".{key}".endswith(f".{name}")}
