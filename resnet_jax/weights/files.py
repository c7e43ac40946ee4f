"""Read and write weights files (.pth, .safetensors), also where a trainer has wrapped the state dict."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.errors import UsageError, UserError
from resnet_jax.weights.pth import read_pth, write_pth

ENTRIES = ("state_dict", "model", "model_state_dict", "net", "network", "weights")  # where trainers put the weights
PREFIXES = ("module", "backbone", "_orig_mod", "model")  # DataParallel, detectors, torch.compile, Lightning


class Weights(NamedTuple):
    """Content of a weights file."""

    tensors: dict[str, np.ndarray]
    """Arrays by key, as stored: torchvision's layouts and types."""
    notes: tuple[str, ...]
    """What was removed around the tensors, one phrase each."""


def read_weights(path: Path) -> Weights:
    """Read the tensors of a state dict, without torch and without executing anything in the file.

    A state dict inside `{"state_dict": ...}` or a similar entry is found, and prefixes such as `module.` are removed;
    `notes` says so.

    Raises:
        UserError: the file does not exist, is damaged, contains code, or has no state dict.
    """
    if not path.is_file():
        raise UserError(f"there is no weights file {path}: expected a .pth or .safetensors file; correct the path")
    content = _read_safetensors(path) if _is_safetensors(path) else read_pth(path)
    notes: list[str] = []
    return Weights(_without_prefixes(_state_dict(content, path, notes), path, notes), tuple(notes))


def write_weights(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a state dict in the format of the path's suffix, `.safetensors`, `.pth` or `.pt`.

    Raises:
        UsageError: the path has another suffix.
        OSError: the file can't be written; no partial file remains.
    """
    if path.suffix in (".pth", ".pt"):
        write_pth(path, tensors)
    elif path.suffix == ".safetensors":
        from safetensors.numpy import save

        new = path.with_name(path.name + ".new")
        try:
            new.write_bytes(save(dict(tensors), metadata={"format": "pt"}))
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    else:
        raise UsageError(f"can't write weights to {path}: expected a name that ends in .safetensors, .pth or .pt")


def _is_safetensors(path: Path) -> bool:
    """Detect the format by the content: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it has no __iter__
    except (SafetensorError, OSError, ValueError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not an intact safetensors file ({error}): download or write it again") from error


def _state_dict(content: Any, path: Path, notes: list[str]) -> dict[str, np.ndarray]:
    while isinstance(content, Mapping):
        tensors = {key: value for key, value in content.items() if isinstance(value, np.ndarray)}
        if any(isinstance(key, str) and key.endswith("weight") for key in tensors):
            if len(tensors) < len(content):
                notes.append(f"omitted {_listed(content.keys() - tensors.keys())}, which are not tensors")
            return {str(key): value for key, value in tensors.items()}
        inner = next((entry for entry in ENTRIES if isinstance(content.get(entry), Mapping)), None)
        if inner is None:
            break
        notes.append(f'used the entry "{inner}" of {_listed(content.keys())}')
        content = content[inner]
    found = _listed(content.keys()) if isinstance(content, Mapping) else type(content).__name__
    raise UserError(
        f"{path} does not contain a state dict, but {found or 'nothing'}: expected tensors by key, at the top or under "
        f"{', '.join(ENTRIES[:3])}; save `model.state_dict()`"
    )


def _without_prefixes(tensors: dict[str, np.ndarray], path: Path, notes: list[str]) -> dict[str, np.ndarray]:
    renamed: dict[str, np.ndarray] = {}
    removed: dict[str, None] = {}
    for key, value in tensors.items():
        parts = key.split(".")
        count = next((index for index, part in enumerate(parts) if part not in PREFIXES), 0)
        bare = ".".join(parts[count:])
        if bare in renamed:
            raise UserError(f"{path} has {bare} twice, with and without the prefix of {key}: save only one of them")
        renamed[bare] = value
        if count:
            removed[".".join(parts[:count]) + "."] = None
    notes.extend(f'removed the prefix "{prefix}"' for prefix in removed)
    return renamed


def _listed(keys: Any) -> str:
    names = sorted(map(str, keys))
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
