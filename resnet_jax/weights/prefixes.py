"""Find the networks beside the ResNets in a state dict: with torchvision's keys, below a prefix or without."""

import re
from collections.abc import Mapping

import numpy as np

from resnet_jax.models.registry import REGISTRY
from resnet_jax.weights.spellings import COUNTERS, Found

AUXILIARY = re.compile(r"aux[12]\.")  # GoogLeNet's classifiers for the training
OLD_NUMBER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")  # DenseNet's published keys: norm.1, not norm1
FIRST = {f"{entry.first}.weight" for entry in REGISTRY.values() if entry.first != "conv1"}
"""Keys of the first convolutions; networks that begin like ResNets are found as such."""


def find_others(tensors: Mapping[str, np.ndarray]) -> list[Found]:
    """Find every place in a state dict where the first convolution of such a network is.

    Args:
        tensors: arrays by key.
    """
    starts = {key.removesuffix(first) for key in tensors for first in FIRST if f".{key}".endswith(f".{first}")}
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
