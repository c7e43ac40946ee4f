"""Read and write weights files (.pth, .safetensors)."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
import numpy as np

from resnet_jax.errors import UsageError, UserError
from resnet_jax.json_files import read_json
from resnet_jax.weights.pth import read_pth, write_pth

METADATA = "resnet_jax"
"""Key of the metadata of a .safetensors file under which the description of its network is, as JSON."""
NO_METADATA: Mapping[str, str] = MappingProxyType({})
FileName = Annotated[str, msgspec.Meta(pattern=r"^[\w.-]+$")]


class Shards(msgspec.Struct):
    """Index of a state dict in several files, as transformers and huggingface_hub write it."""

    weight_map: dict[str, FileName]


def read_content(path: Path) -> Any:
    """Read a .pth or .safetensors file, without torch and without executing anything in it.

    Returns:
        What was saved: tensors as arrays by key, or nested dictionaries with such.

    Raises:
        UserError: the file does not exist, is damaged, or contains code or quantized tensors.
    """
    if not path.is_file():
        raise UserError(f"there is no weights file {path}: expected a .pth or .safetensors file; correct the path")
    if path.name.endswith(".index.json"):
        index: Shards = read_json(path, Shards, "download the folder again")
        shards = [read_content(path.parent / name) for name in sorted(set(index.weight_map.values()))]
        return {key: value for shard in shards for key, value in shard.items()}
    return _read_safetensors(path) if _is_safetensors(path) else read_pth(path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a .safetensors file; of another file, nothing."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def write_weights(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] = NO_METADATA) -> None:
    """Write a state dict in the format of the path's suffix, `.safetensors`, `.pth` or `.pt`.

    Args:
        path: of the file.
        tensors: arrays by torchvision's keys.
        metadata: what a .safetensors file stores beside them; the other formats can't.

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
            new.write_bytes(save(dict(tensors), metadata={"format": "pt", **metadata}))
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
            kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118, it has no __iter__
            if quantized := sorted(kind for kind in kinds if re.match(r"F[468]", kind) and kind != "F64"):
                raise UserError(
                    f"{path} has quantized tensors ({', '.join(quantized)}): expected floating point of 16 bits or "
                    "more; save the network's weights before their quantization"
                )
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it has no __iter__
    except (SafetensorError, OSError, ValueError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not an intact safetensors file ({error}): download or write it again") from error
