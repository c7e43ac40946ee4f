"""Read the weights of a network from a file in which a training has wrapped, renamed or averaged them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.weights.files import read_content
from resnet_jax.weights.identify import fits
from resnet_jax.weights.prefixes import find_others
from resnet_jax.weights.spellings import find_resnets

AVERAGES = {"ema", "swa", "average", "averaged", "avg", "averaging"}  # words in the names of averaged weights
TOP = "."  # name of a network whose keys have no prefix, in no entry
DEPTH = 6  # of entries within entries; VISSL has five


class Weights(NamedTuple):
    """Content of a weights file."""

    tensors: dict[str, np.ndarray]
    """Arrays by torchvision's keys, in torchvision's layouts and in the types that are stored."""
    notes: tuple[str, ...]
    """What was chosen, renamed and left out, one phrase each."""


def split_choice(source: Path | str) -> tuple[Path | str, str | None]:
    """Split "FILE#NAME" into the file and the name of the network in it that is meant; the name may be missing."""
    text, mark, choice = str(source).rpartition("#")
    return (text, choice) if mark and choice and not Path(source).exists() else (source, None)


def read_weights(source: Path | str) -> Weights:
    """Read the tensors of a network from a file, without torch and without executing anything in the file.

    The state dict may be inside `{"state_dict": ...}` or other entries, its keys may have any prefix such as `module.`
    or `encoder_q.`, may be those of `nn.Sequential`, of transformers or of networks for CIFAR-10 with `shortcut` and
    `linear`, and the classifier may be missing; networks beside the ResNets have torchvision's keys. Of a network and
    its average, the average is read.

    Args:
        source: a .pth or .safetensors file; "FILE#NAME" chooses one of several networks in it, by an entry or a prefix.

    Raises:
        UserError: the file does not exist, is damaged, contains code, has no state dict, or has several networks and
            none is chosen.
    """
    file, choice = split_choice(source)
    return unwrap(read_content(Path(file)), file, choice)


def unwrap(content: Any, origin: Path | str, choice: str | None = None) -> Weights:
    """Return the tensors of a network in what a training has saved; see `read_weights`.

    Args:
        content: nested dictionaries, with arrays as tensors.
        origin: where it comes from, for messages.
        choice: name of the network that is meant.

    Raises:
        UserError: there is no state dict in it, or there are several networks and none is chosen.
    """
    states = list(_state_dicts(content, ()))
    if not states:
        found = _listed(content.keys()) if isinstance(content, Mapping) else type(content).__name__
        raise UserError(
            f"{origin} does not contain a state dict, but {found or 'nothing'}: expected tensors by key, at the top or "
            "in an entry such as state_dict or model; save `model.state_dict()`"
        )
    networks = {}
    for entries, tensors in states:
        for network in find_resnets(tensors) or find_others(tensors):
            name = ".".join([*entries, *network.prefix.split(".")[:-1]]) or TOP
            inside = (f'used the entry "{".".join(entries)}"',) if entries else ()
            networks[name] = Weights(network.tensors, inside + network.notes)
    if not networks:
        return Weights(max((tensors for _, tensors in states), key=len), ())
    return _choose(origin, networks, choice)


def _state_dicts(content: Any, entries: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, np.ndarray]]]:
    """Yield each dictionary with tensors in nested dictionaries, after the names of the entries that lead to it."""
    if not isinstance(content, Mapping) or len(entries) > DEPTH:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, np.ndarray)}
    if any(key.endswith("weight") for key in tensors):
        yield entries, tensors
    for key, value in content.items():
        if isinstance(key, str):
            yield from _state_dicts(value, (*entries, key))


def _choose(origin: Path | str, networks: dict[str, Weights], choice: str | None) -> Weights:
    """Return the one network that fits the registry, or the chosen one.

    Raises:
        UserError: several networks fit, or none has the name.
    """
    if choice is not None:
        named = [name for name in networks if name == choice] or [
            name for name in networks if f".{choice}." in f".{name}."
        ]
        if len(named) != 1:
            raise UserError(
                f'{origin} has {len(named)} networks called "{choice}": expected one of {_listed(networks)} after the #'
            )
        return networks[named[0]]
    fitting = {name: weights for name, weights in networks.items() if fits(weights.tensors)}
    names = _distinct(fitting)
    if not names:
        return max(networks.values(), key=lambda weights: len(weights.tensors))
    averages = [name for name in names if AVERAGES & set(re.split(r"[._]", name.lower()))]
    if len(names) == 2 and len(averages) == 1:
        [average], [plain] = averages, [name for name in names if name not in averages]
        weights = fitting[average]
        if _shapes(weights) == _shapes(fitting[plain]):
            note = f'took "{average}", the averaged weights; for the others, give {origin}#{plain}'
            return Weights(weights.tensors, (note, *weights.notes))
    if len(names) > 1:
        raise UserError(
            f"{origin} has {len(names)} networks, {_listed(names)}: choose one by its name after a #, as in "
            f"{origin}#{names[0]}"
        )
    return fitting[names[0]]


def _distinct(networks: Mapping[str, Weights]) -> list[str]:
    """Return the names without those whose tensors another network has, bit for bit."""
    names: list[str] = []
    for name, weights in networks.items():
        if not any(_same(weights.tensors, networks[other].tensors) for other in names):
            names.append(name)
    return names


def _same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(a[key].tobytes() == b[key].tobytes() for key in a)


def _shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    return {key: value.shape for key, value in weights.tensors.items() if key.split(".")[-1] != "num_batches_tracked"}


def _listed(keys: Any) -> str:
    names = sorted(map(str, keys))
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
