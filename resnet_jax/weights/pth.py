"""Read and write files of `torch.save` (a pickle and the bytes of the tensors) without torch."""

import io
import math
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.weights.pickles import TOO_MUCH, interpret
from resnet_jax.weights.rebuild import STORAGE_NAMES, Refused, Storages

_LIMIT = 1 << 22  # bytes of a pickle, of a zip's directory, and read at once; ResNet-152's pickle has 110 kB
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_pth(path: Path) -> Any:
    """Return what `torch.save` wrote, in the zip format (since PyTorch 1.6) or the legacy format.

    Returns:
        Nested dictionaries, lists, tuples, sets and scalars; tensors, parameters and storages as arrays, which share
        memory where they did in torch; dtypes and devices as strings, such as "torch.float32"; an empty dictionary for
        each object with the settings of a training, such as argparse's.

    Raises:
        UserError: the file can't be read, is damaged, or contains anything else, which is not executed. Reading takes
            at most the size of the file plus 100 MB of memory.
    """
    try:
        with _Bounded(io.FileIO(path)) as file:
            start = file.read(262)
            file.seek(0)
            if start.startswith(b"PK"):
                return _read_zip(file)
            if start.endswith(b"ustar"):
                raise Refused("is in PyTorch's tar format of 2016: expected a later one; load and save it with PyTorch")
            return _read_legacy(file)
    except Refused as error:
        raise UserError(f"{path} {error}") from error
    except OSError as error:
        raise UserError(f"can't read {path} ({error}): correct the path or the file's permissions") from error
    except MemoryError as error:
        raise UserError(f"{path} needs more memory than is available: free some, or download the file again") from error
    except Exception as error:  # the errors of pickletools, zipfile and NumPy on damaged files have no common class
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{path} is not an intact file of torch.save ({detail}): download or save it again") from error


def write_pth(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a state dict that `torch.load` reads, also with `weights_only=True` and `mmap=True`.

    Raises:
        UserError: torch does not have the data type.
        OSError: the file can't be written; no partial file remains.
    """
    for key, array in tensors.items():
        if array.dtype not in STORAGE_NAMES:
            known = ", ".join(sorted(dtype.name for dtype in STORAGE_NAMES))
            raise UserError(f"can't write {key} to {path}: got {array.dtype}, expected one of {known}; convert it")
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
            _append(archive, file, "data.pkl", _pickled(tensors))
            _append(archive, file, "byteorder", sys.byteorder.encode())
            for index, array in enumerate(tensors.values()):
                _append(archive, file, f"data/{index}", array.tobytes())
            _append(archive, file, "version", b"3\n")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _append(archive: zipfile.ZipFile, file: BinaryIO, name: str, data: bytes) -> None:
    """Add an entry whose data begin at a multiple of 64 bytes, by a padding field in its 30-byte header."""
    info = zipfile.ZipInfo(f"archive/{name}")
    padding = -(file.tell() + 30 + len(info.filename) + 4) % 64
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(info, data)


def _pickled(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Return the pickle of an OrderedDict of tensors, with the opcodes that name torch's functions written by hand."""

    def plain(value: object) -> bytes:
        return pickle.dumps(value, protocol=2)[2:-1]  # without PROTO and STOP

    def name(dotted: str) -> bytes:
        return "c{}\n{}\n".format(*dotted.rsplit(".", 1)).encode()

    empty = name("collections.OrderedDict") + b")R"
    rebuild = name("torch._utils._rebuild_tensor_v2")
    items = []
    for index, (key, array) in enumerate(tensors.items()):
        strides = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim))
        storage = b"(" + plain("storage") + name(STORAGE_NAMES[array.dtype])
        storage += plain(str(index)) + plain("cpu") + plain(array.size) + b"tQ"
        layout = plain(0) + plain(array.shape) + plain(strides)
        items += [plain(key), rebuild, b"(", storage, layout, plain(False), empty, b"tR"]
    return b"\x80\x02" + empty + b"(" + b"".join(items) + b"u."


class _Bounded(io.BufferedReader):
    """Reads at most `_LIMIT` bytes at once, so that a length in the file can't claim memory."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(_LIMIT if size is None or size < 0 else min(size, _LIMIT))


def _read_zip(file: _Bounded) -> Any:
    with zipfile.ZipFile(file) as archive:
        roots = [name for name in archive.namelist() if name.partition("/")[2] == "data.pkl"]
        if len(roots) != 1:
            raise Refused("is a zip file without a data.pkl: expected a file of torch.save; correct the path")
        root = roots[0].removesuffix("data.pkl")

        def fill(name: str, data: np.ndarray, byteorder: str = sys.byteorder) -> np.ndarray:
            info = archive.getinfo(root + name)
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != data.nbytes:
                raise Refused(f"has {name!r:.40} compressed or of a wrong size: download or save it again")
            with archive.open(info) as stream:
                return _fill(stream, data, byteorder)

        def text(name: str) -> bytes:
            size = archive.getinfo(root + name).file_size
            if size > _LIMIT:
                raise Refused(TOO_MUCH)
            return fill(name, np.empty(size, np.uint8)).tobytes()

        byteorder = text("byteorder").decode() if f"{root}byteorder" in archive.namelist() else "little"
        storages = Storages(_size(file), byteorder, lambda key, data: fill(f"data/{key}", data, byteorder))
        return interpret(io.BytesIO(text("data.pkl")), storages)


def _read_legacy(file: _Bounded) -> Any:
    storages = Storages(_size(file), "little", lambda key, data: data)  # their bytes follow the pickles

    def unpickle() -> Any:
        start, stream = file.tell(), io.BytesIO(file.read(_LIMIT))
        content = interpret(stream, storages)
        file.seek(start + stream.tell())
        return content

    if unpickle() != _MAGIC or unpickle() != _PROTOCOL:
        raise Refused("is a pickle, but not one of torch.save: expected a state dict; save it with torch.save")
    unpickle()  # the sizes of C's types where it was written
    content, keys = unpickle(), unpickle()
    if not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages.data):
        raise ValueError("its list of storages does not match its tensors")
    for key in keys:
        data = storages.data[key]
        if int.from_bytes(file.read(8), "little") != data.size:
            raise ValueError(f"storage {key!r:.40} has a different length than its tensors")
        _fill(file, data, "little")
    return content


def _size(file: _Bounded) -> int:
    return os.fstat(file.fileno()).st_size


def _fill(stream: Any, data: np.ndarray, byteorder: str) -> np.ndarray:
    rest = data.view(np.uint8).data
    while len(rest):
        count = stream.readinto(rest[:_LIMIT])
        if not count:
            raise EOFError("it ends within a tensor")
        rest = rest[count:]
    return data if byteorder == sys.byteorder else data.byteswap(inplace=True)
