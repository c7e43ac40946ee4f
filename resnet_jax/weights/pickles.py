"""Read the pickles in files of `torch.save` without unpickling them.

Unpickling runs any code that a pickle names. This interpreter supports only the opcodes that containers, numbers and
tensors need, and looks up names in a table.
"""

import io
import pickletools
import re
from typing import Any

from resnet_jax.weights.rebuild import (
    CALLS,
    DTYPES,
    STORAGES,
    Refused,
    Settings,
    Storages,
    checked_key,
    rebuild_dict,
    typed,
)

_OBJECTS = 500_000  # opcodes of a pickle, 100 bytes of memory each at most; ResNet-152's has 42,000
TOO_MUCH = "contains too much besides the tensors: expected a state dict; save only state_dict()"
_VALUES = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Name(str):
    """The name of a global in the pickle, which is never imported."""


_NAMES = STORAGES.keys() | DTYPES.keys() | CALLS.keys()
_QUANTIZED = re.compile(r"torch\.(_utils\._rebuild_qtensor|float8_\w+|Q\w+Storage)")


def _named(module: Any, name: Any) -> _Name:
    full = f"{typed(module, str)}.{typed(name, str)}".replace("__builtin__.", "builtins.")  # Python 2's
    known = re.sub(r"^torch\.(cuda|storage)\.", "torch.", full)
    if _QUANTIZED.fullmatch(known):
        raise Refused(
            f"has quantized tensors ({ascii(known[:80])[1:-1]}): expected floating point of 16 bits or more; save the "
            "state_dict() of the network before its quantization"
        )
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
        return typed(stack[-1], kind)

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
                incomplete(dict)[checked_key(key)] = value
            case "SETITEMS":
                items = pop_to_mark()
                incomplete(dict).update(rebuild_dict(list(zip(items[::2], items[1::2], strict=True))))
            case "GLOBAL":
                stack.append(_named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_named(module, name))
            case "BINPERSID":
                stack.append(storages.load(*typed(stack.pop(), tuple)))
            case "REDUCE":
                arguments, called = typed(stack.pop(), tuple), typed(stack.pop(), _Name)
                spent += sum(len(each) for each in arguments if isinstance(each, str | list | tuple | dict))
                stack.append(CALLS[called](*arguments))
            case "NEWOBJ":
                _arguments, kind = typed(stack.pop(), tuple), typed(stack.pop(), _Name)
                if CALLS[kind] is not Settings:
                    raise ValueError(f"an object of {kind}")
                stack.append(Settings())
            case "BUILD":  # the attributes of an OrderedDict or of settings, which are ignored
                stack.pop()
                typed(stack[-1], dict)
            case name:
                raise ValueError(f"the opcode {name}")
    raise EOFError("it ends within a pickle")
