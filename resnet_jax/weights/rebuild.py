"""What the pickles of `torch.save` call, without torch: storages, tensors and containers rebuilt as arrays."""

import math
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

_UNTYPED = "torch.UntypedStorage"
STORAGES = {
    _UNTYPED: np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.ComplexFloatStorage": np.dtype(np.complex64),
    "torch.ComplexDoubleStorage": np.dtype(np.complex128),
}
STORAGE_NAMES = {dtype: name for name, dtype in STORAGES.items()}
DTYPES = {f"torch.{dtype.name}": dtype for dtype in (*STORAGE_NAMES, *map(np.dtype, ("uint16", "uint32", "uint64")))}


class Refused(Exception):
    """Content that is refused: what was found, what was expected and the remedy, without the path."""


class Settings(dict):
    """Stands for an object with the settings of a training; only the items of a dictionary are kept."""

    def __init__(self, *_arguments: Any):
        super().__init__()


class Storages:
    """Memory of the tensors by key, in total at most the size of the file."""

    def __init__(self, room: int, byteorder: str, fill: Callable[[str, np.ndarray], object]):
        if byteorder not in ("little", "big"):
            raise ValueError(f"byte order {byteorder:.40}")
        self.room, self.byteorder, self.fill = room, byteorder, fill
        self.data: dict[str, np.ndarray] = {}

    def load(self, tag: Any, kind: Any, key: Any, _device: Any, count: Any, view: Any = None) -> np.ndarray:
        """Return the storage of a persistent id, or the part that `view` selects (in files from before PyTorch 1.0)."""
        if typed(tag, str) != "storage":
            raise ValueError(f"a reference to a {tag:.40}")
        if typed(kind, str) == _UNTYPED and self.byteorder != sys.byteorder:
            raise Refused(
                f"is untyped and {self.byteorder}-endian: expected typed storages; save it on another machine"
            )
        dtype = STORAGES[kind]
        if typed(key, str) not in self.data:
            size = _natural(count) * dtype.itemsize
            if size > self.room:
                raise ValueError(f"it claims a tensor of {size:.3g} bytes, more than the rest of the file")
            self.room -= size
            self.data[key] = np.empty(count, dtype)
            self.fill(key, self.data[key])
        data = self.data[key].view(np.uint8)[: _natural(count) * dtype.itemsize].view(dtype)
        if len(data) != count:
            raise ValueError(f"storage {key!r:.40} is said to have two lengths")
        if view is None:
            return data
        _key, start, length = view
        return data[_natural(start) : start + _natural(length)]


def typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} instead of another type")
    return value


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError("a size or stride that is not a natural number")
    return value


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> np.ndarray:
    """Return a view of the storage; offset and strides count elements."""
    typed(storage, np.ndarray)
    if len(typed(shape, tuple | list)) > 64:
        raise ValueError("a tensor of over 64 dimensions")
    count = math.prod(map(_natural, shape))
    last = _natural(offset) + sum((n - 1) * _natural(step) for n, step in zip(shape, strides, strict=True))
    if count and (last >= storage.size or count > storage.size):
        raise Refused("has a tensor that is expanded, or outside of its storage: save its `clone()`, or fetch it again")
    if not count:
        return np.empty(shape, storage.dtype)
    size = storage.dtype.itemsize
    return np.ndarray(shape, storage.dtype, storage.view(np.uint8), offset * size, [step * size for step in strides])


def _tensor_v2(storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, bits: Any = None) -> Any:
    if bits:
        raise Refused("has a lazily conjugated or negated tensor: save its `resolve_conj().resolve_neg()`")
    return _tensor(storage, offset, shape, strides)


def _tensor_v3(storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any) -> Any:
    return _tensor(storage.view(DTYPES[typed(dtype, str)]), offset, shape, strides)


def _parameter(tensor: Any, _grad: Any, _hooks: Any, _state: Any = None) -> np.ndarray:
    return typed(tensor, np.ndarray)


def _device(kind: Any, *index: Any) -> str:
    return ":".join([kind, *map(str, map(_natural, index))])


def _bytes(text: Any = "", _encoding: Any = "latin1") -> bytes:
    return typed(text, str).encode("latin1")  # protocol 2 has no bytes, only text of the same code points


def rebuild_dict(items: Any = ()) -> dict:
    pairs = items.items() if isinstance(items, dict) else typed(items, list | tuple)
    return {checked_key(key): value for key, value in pairs}


def _set(items: Any) -> set:
    return set(map(checked_key, typed(items, list)))  # the elements of an array would be larger than its bytes


def checked_key(value: Any) -> Any:
    """Return a key that is safe to hash: deep tuples overflow C's stack, and large integers can be made to collide."""
    if isinstance(value, int) and abs(value) >> 64:
        raise ValueError("a key of over 64 bits")
    return typed(value, str | bytes | int | float | None)


_SETTINGS = (
    *("argparse.Namespace", "collections.defaultdict", "builtins.dict", "builtins.list", "builtins.int"),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype"),
    *("pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath"),
    *("lightning_fabric.utilities.data.AttributeDict", "lightning.fabric.utilities.data.AttributeDict"),
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
CALLS: dict[str, Callable] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": lambda sizes: tuple(map(_natural, sizes)),
    "torch.device": _device,
    "collections.OrderedDict": rebuild_dict,
    "collections.Counter": rebuild_dict,
    "builtins.set": _set,
    "builtins.complex": complex,
    "builtins.bytes": _bytes,
    "_codecs.encode": _bytes,
    **dict.fromkeys(_SETTINGS, Settings),
}
