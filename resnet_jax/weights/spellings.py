"""Find ResNets in a state dict: below a prefix, in the spellings of other programs, with classifiers of other names."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

BODY = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
HEADS = ("fc", "classifier", "linear", "head", "last_linear", "logits")
AFTER = re.compile(  # what only the training needs: losses, and the projections of self-supervised methods
    r"(criterion|\w*loss\w*|\w*metrics?|\w*acc|proj\w*|predictor|prediction_head|prototypes|queue\w*)(\.|$)"
)
COUNTERS = ("total_ops", "total_params")  # floating point, of the package thop, in each module

Sorted = tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], list[str], list[str]]
Rename = Callable[[str], str]
"""From a key without its prefix to torchvision's key."""


class Found(NamedTuple):
    """A ResNet in a state dict."""

    prefix: str
    """The start of its keys: "", or words that end in a dot."""
    tensors: dict[str, np.ndarray]
    """Its tensors by torchvision's keys; without `fc` if it has no linear classifier."""
    notes: tuple[str, ...]
    """What was renamed and what was left out, one phrase each."""


def find_resnets(tensors: Mapping[str, np.ndarray]) -> list[Found]:
    """Find every ResNet in a state dict.

    Args:
        tensors: arrays by key.
    """
    places = {
        prefix: (name, rename) for name, find in SPELLINGS.items() for prefix, rename in find(tensors.keys()).items()
    }
    owners = {
        key: max((prefix for prefix in places if key.startswith(prefix)), key=len, default=None) for key in tensors
    }
    found = []
    for prefix, (spelling, rename) in places.items():
        mine = {key: value for key, value in tensors.items() if owners[key] in (prefix, None)}
        others = [other for other in places if other != prefix]
        levels = [level for level in _levels(prefix) if not any(other.startswith(level) for other in others)]
        found.append(_extract(mine, prefix, spelling, rename, [prefix, *levels]))
    return found


def _levels(prefix: str) -> list[str]:
    """Return the prefixes of the modules around a network, the innermost first."""
    parts = prefix.split(".")[:-1]
    return ["".join(f"{part}." for part in parts[:count]) for count in range(len(parts) - 1, -1, -1)]


def _extract(tensors: Mapping[str, np.ndarray], prefix: str, spelling: str, rename: Rename, levels: list[str]) -> Found:
    """Return the network at `prefix`, with the one linear classifier at one of the `levels`, if it can be trusted.

    An unknown tensor around the network may stand between its features and the classifier, and where there is MoCo's
    queue, `fc` is a projection: the classifier is left out then.
    """
    body, heads, after, unknown = _sort(tensors, prefix, rename, levels)
    linear = [(name, fc) for name, group in heads.items() if (fc := _linear(group, _features(body)))]
    left = [*after, *unknown]
    notes = [f'removed the prefix "{prefix}"'] if prefix else []
    notes += [f"renamed the keys of {spelling}"] if spelling else []
    if len(heads) == len(linear) == 1 and not unknown and not any(key.endswith("queue") for key in after):
        [(name, fc)] = linear
        body |= fc
        notes += [f'took "{name}" as the classifier'] if name != f"{prefix}fc" else []
        notes += ["the classifier has no bias: set to 0"] if len(heads[name]) == 1 else []
    else:
        left += [f"{name}.*" for name in heads]
    if left:
        notes.append(f"left out {', '.join(left[:4])}{', ...' if len(left) > 4 else ''}")
    return Found(prefix, body, tuple(notes))


def _sort(tensors: Mapping[str, np.ndarray], prefix: str, rename: Rename, levels: list[str]) -> Sorted:
    """Sort tensors into the network's own, classifiers by name, those that only a training needs, and unknown ones.

    A tensor beside the stem that no ResNet has counts as the network's own, so that it is refused.
    """
    body: dict[str, np.ndarray] = {}
    heads: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    after, unknown = [], []
    for key, value in tensors.items():
        level = next((level for level in levels if key.startswith(level)), None)
        name = key[len(level or "") :]
        name = rename(name) if level == prefix else name
        first, last = name.split(".")[0], name.split(".")[-1]
        if level == prefix and first in BODY and last not in COUNTERS:
            body[name] = value
        elif (
            last in COUNTERS or value.dtype.kind in "iub"
        ):  # integers count, such as SWA's n_averaged and hits of a metric
            continue
        elif level is not None and first in HEADS:
            heads[level + first][name] = value
        elif AFTER.match(name):
            after.append(key)
        elif level == prefix:
            body[name] = value
        else:
            unknown.append(key)
    return body, heads, after, unknown


def _linear(head: Mapping[str, np.ndarray], features: int) -> dict[str, np.ndarray] | None:
    """Return the tensors of a classifier that is one linear layer, under torchvision's keys."""
    weights = [name for name, value in head.items() if name.endswith("weight") and value.ndim == 2]
    if len(weights) != 1 or head[weights[0]].shape[1] != features:
        return None
    weight, bias = head[weights[0]], head.get(f"{weights[0].removesuffix('weight')}bias")
    if len(head) != 1 + (bias is not None):
        return None
    return {"fc.weight": weight, "fc.bias": np.zeros(len(weight), weight.dtype) if bias is None else bias}


def _features(body: Mapping[str, np.ndarray]) -> int:
    """Return the number of pooled features."""
    last = next((body[key] for key in ("layer4.0.bn3.weight", "layer4.0.bn2.weight") if key in body), np.empty(0))
    return last.size


def _torchvision(keys: Iterable[str]) -> dict[str, Rename]:
    def rename(key: str) -> str:
        return re.sub(r"^(layer\d\.\d+\.)shortcut\.", r"\1downsample.", key)  # of many programs for CIFAR-10

    found: dict[str, Rename] = {}
    for key in keys:
        start = key.removesuffix("layer1.0.conv1.weight")
        if start != key and start[-1:] in ("", ".") and f"{start}conv1.weight" in keys:
            found[start] = rename
    return found


def _sequential(keys: Iterable[str]) -> dict[str, Rename]:
    """Find `nn.Sequential(*resnet.children())`, cut anywhere behind the stages, as fastai and many encoders have it."""
    stages: dict[str, set[int]] = defaultdict(set)
    children: dict[str, set[int]] = defaultdict(set)
    for key in keys:
        if match := re.fullmatch(r"((?:.*\.)?)(\d+)\.0\.conv1\.weight", key):
            stages[match[1]].add(int(match[2]))
    for key in keys:
        for prefix in stages:
            if key.startswith(prefix) and (number := key[len(prefix) :].split(".")[0]).isdecimal():
                children[prefix].add(int(number))
    found = {}
    for prefix, numbers in stages.items():
        ordered = sorted(children[prefix])
        if len(numbers) == 4 and ordered[2:6] == sorted(numbers):
            found[prefix] = _by_number(dict(zip(map(str, ordered), (*BODY, "fc"), strict=False)))
    return found


def _by_number(names: Mapping[str, str]) -> Rename:
    def rename(key: str) -> str:
        number, _, rest = key.partition(".")
        return f"{names.get(number, number)}.{rest}"

    return rename


def _transformers(keys: Iterable[str]) -> dict[str, Rename]:
    """Find the ResNet of Hugging Face's transformers."""
    parts = {"convolution": "conv", "normalization": "bn"}

    def rename(key: str) -> str:
        if match := re.fullmatch(r"embedder\.embedder\.(convolution|normalization)\.(\w+)", key):
            return f"{parts[match[1]]}1.{match[2]}"
        layer = r"encoder\.stages\.(\d)\.layers\.(\d+)\."
        if match := re.fullmatch(layer + r"layer\.(\d)\.(convolution|normalization)\.(\w+)", key):
            return f"layer{int(match[1]) + 1}.{match[2]}.{parts[match[4]]}{int(match[3]) + 1}.{match[5]}"
        if match := re.fullmatch(layer + r"shortcut\.(convolution|normalization)\.(\w+)", key):
            return f"layer{int(match[1]) + 1}.{match[2]}.downsample.{int(match[3] == 'normalization')}.{match[4]}"
        return key

    anchor = "embedder.embedder.convolution.weight"
    return {key.removesuffix(anchor): rename for key in keys if key.endswith(anchor)}


SPELLINGS: dict[str, Callable[[Iterable[str]], dict[str, Rename]]] = {
    "": _torchvision,
    "nn.Sequential": _sequential,
    "transformers": _transformers,
}
"""How programs name the tensors of a ResNet: from keys to the prefixes of networks, each with its renaming."""
