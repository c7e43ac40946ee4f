"""Read the pickles in files of `torch.save` without unpickling them.

Unpickling runs any code that a pickle names. This interpreter supports only the opcodes that containers, numbers and
tensors need, and looks up names in a table.
"""

import io
import math
import pickletools
import re
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

_OBJECTS = 500_000  # opcodes of a pickle, 100 bytes of memory each at most; ResNet-152's has 42,000
TOO_MUCH = "contains too much besides the tensors: expected a state dict; save only state_dict()"
_UNTYPED = "torch.UntypedStorage"
_STORAGES = {
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
STORAGE_NAMES = {dtype: name for name, dtype in _STORAGES.items()}
_DTYPES = {f"torch.{dtype.name}": dtype for dtype in (*STORAGE_NAMES, *map(np.dtype, ("uint16", "uint32", "uint64")))}
_VALUES = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Refused(Exception):
    """Content that is refused: what was found, what was expected and the remedy, without the path."""


class _Name(str):
    """The name of a global in the pickle, which is never imported."""


class Storages:
    """Memory of the tensors by key, in total at most the size of the file."""

    def __init__(self, room: int, byteorder: str, fill: Callable[[str, np.ndarray], object]):
        if byteorder not in ("little", "big"):
            raise ValueError(f"byte order {byteorder:.40}")
        self.room, self.byteorder, self.fill = room, byteorder, fill
        self.data: dict[str, np.ndarray] = {}

    def load(self, tag: Any, kind: Any, key: Any, _device: Any, count: Any, view: Any = None) -> np.ndarray:
        """Return the storage of a persistent id, or the part that `view` selects (in files from before PyTorch 1.0)."""
        if _typed(tag, str) != "storage":
            raise ValueError(f"a reference to a {tag:.40}")
        if _typed(kind, str) == _UNTYPED and self.byteorder != sys.byteorder:
            raise Refused(
                f"is untyped and {self.byteorder}-endian: expected typed storages; save it on another machine"
            )
        dtype = _STORAGES[kind]
        if _typed(key, str) not in self.data:
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


def _typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} instead of another type")
    return value


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError("a size or stride that is not a natural number")
    return value


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> np.ndarray:
    """Return a view of the storage; offset and strides count elements."""
    _typed(storage, np.ndarray)
    if len(_typed(shape, tuple | list)) > 64:
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
    return _tensor(storage.view(_DTYPES[_typed(dtype, str)]), offset, shape, strides)


def _parameter(tensor: Any, _grad: Any, _hooks: Any, _state: Any = None) -> np.ndarray:
    return _typed(tensor, np.ndarray)


def _device(kind: Any, *index: Any) -> str:
    return ":".join([kind, *map(str, map(_natural, index))])


def _bytes(text: Any = "", _encoding: Any = "latin1") -> bytes:
    return _typed(text, str).encode("latin1")  # protocol 2 has no bytes, only text of the same code points


def _dict(items: Any = ()) -> dict:
    pairs = items.items() if isinstance(items, dict) else _typed(items, list | tuple)
    return {_key(key): value for key, value in pairs}


def _set(items: Any) -> set:
    return set(map(_key, _typed(items, list)))  # the elements of an array would be larger than its bytes


def _key(value: Any) -> Any:
    """Return a key that is safe to hash: deep tuples overflow C's stack, and large integers can be made to collide."""
    if isinstance(value, int) and abs(value) >> 64:
        raise ValueError("a key of over 64 bits")
    return _typed(value, str | bytes | int | float | None)


_CALLS: dict[str, Callable] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": lambda sizes: tuple(map(_natural, sizes)),
    "torch.device": _device,
    "collections.OrderedDict": _dict,
    "collections.Counter": _dict,
    "builtins.set": _set,
    "builtins.complex": complex,
    "builtins.bytes": _bytes,
    "_codecs.encode": _bytes,
}
_NAMES = _STORAGES.keys() | _DTYPES.keys() | _CALLS.keys()


def _named(module: Any, name: Any) -> _Name:
    full = f"{_typed(module, str)}.{_typed(name, str)}".replace("__builtin__.", "builtins.")  # Python 2's
    known = re.sub(r"^torch\.(cuda|storage)\.", "torch.", full)
    if known not in _NAMES:
        raise Refused(
            f"holds {ascii(full[:80])[1:-1]}, which is code: expected only tensors, containers and numbers; "
            "save the network's state_dict() alone with torch.save and try again"
        )
    return _Name(known)


def interpret(stream: io.BytesIO, storages: Storages) -> Any:
    """Return the content of one pickle (protocol 2 to 5), and leave the stream after its end.

    Cycles are refused: a container can't grow once something has referred to it.

    Raises:
        Refused: the pickle names code, or contains too much.
        Exception: the pickle is damaged; the exception can be of any type.
    """
    stack: list[Any] = []
    marked: list[list[Any]] = []
    memo: dict[int, Any] = {}
    referred: set[int] = set()
    spent = 0

    def pop_to_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, marked.pop()
        return items

    def incomplete(kind: type) -> Any:
        if id(stack[-1]) in referred:
            raise ValueError("a container within itself")
        return _typed(stack[-1], kind)

    argument: Any
    for opcode, argument, _position in pickletools.genops(stream):
        spent += 1
        if spent > _OBJECTS:
            raise Refused(TOO_MUCH)
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marked.append(stack)
                stack = []
            case name if name in _VALUES:
                stack.append(argument)
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case name if name in _EMPTY:
                stack.append(_EMPTY[name]())
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
                referred.add(id(stack[-1]))
            case "TUPLE":
                items = pop_to_mark()
                stack.append(tuple(items))
            case name if name in _TUPLES:
                items = [stack.pop() for _ in range(_TUPLES[name])]
                stack.append(tuple(items[::-1]))
            case "APPEND":
                value = stack.pop()
                incomplete(list).append(value)
            case "APPENDS":
                items = pop_to_mark()
                incomplete(list).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                incomplete(dict)[_key(key)] = value
            case "SETITEMS":
                items = pop_to_mark()
                incomplete(dict).update(_dict(list(zip(items[::2], items[1::2], strict=True))))
            case "GLOBAL":
                stack.append(_named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_named(module, name))
            case "BINPERSID":
                stack.append(storages.load(*_typed(stack.pop(), tuple)))
            case "REDUCE":
                arguments, called = _typed(stack.pop(), tuple), _typed(stack.pop(), _Name)
                spent += sum(len(each) for each in arguments if isinstance(each, str | list | tuple | dict))
                stack.append(_CALLS[called](*arguments))
            case "BUILD":  # the attributes of an OrderedDict, which are ignored
                stack.pop()
                _typed(stack[-1], dict)
            case name:
                raise ValueError(f"the opcode {name}")
    raise EOFError("it ends within a pickle")
