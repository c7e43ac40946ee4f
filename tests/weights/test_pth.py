"""Files of torch.save are read and written without torch, and hostile ones are refused."""

import io
import itertools
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from resnet_jax.errors import UserError
from resnet_jax.weights.pth import read_pth, write_pth

GOLDEN = Path(__file__).parents[1] / "golden" / "pth"
FLOATS = np.arange(4, dtype=np.float32)
DTYPES = (
    *("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64", "complex128"),
    ml_dtypes.bfloat16,
)


def plain(value: object) -> bytes:
    """Return the opcodes that push a value."""
    return pickle.dumps(value, protocol=2)[2:-1]


def named(name: str) -> bytes:
    return "c{}\n{}\n".format(*name.rsplit(".", 1)).encode()


def call(name: str, *arguments: bytes) -> bytes:
    return named(name) + b"(" + b"".join(arguments) + b"tR"


def storage(count: object = 4, key: object = "0", kind: str = "torch.FloatStorage", *more: object) -> bytes:
    return b"(" + plain("storage") + named(kind) + b"".join(map(plain, (key, "cpu", count, *more))) + b"tQ"


def tensor(offset: object = 0, shape: object = (4,), strides: object = (1,), source: bytes | None = None) -> bytes:
    arguments = [storage() if source is None else source, *map(plain, (offset, shape, strides, False))]
    return call("torch._utils._rebuild_tensor_v2", *arguments, call("collections.OrderedDict"))


def zipped(body: bytes, *, root: str = "archive", kind: int = zipfile.ZIP_STORED, byteorder: str = "little") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr(f"{root}/data.pkl", b"\x80\x02" + body + b".")
        archive.writestr(f"{root}/byteorder", byteorder)
        archive.writestr(f"{root}/data/0", FLOATS.astype("<f4" if byteorder == "little" else ">f4").tobytes())
    return file.getvalue()


def legacy(body: bytes, keys: object = None, count: int = 4) -> bytes:
    keys = (["0"] if b"Storage\n" in body else []) if keys is None else list(keys)
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [b"\x80\x02" + body + b".", pickle.dumps(keys, 2), struct.pack("<q", count), FLOATS.tobytes()]
    return b"".join(parts)


FORMATS: dict[str, Callable[[bytes], bytes]] = {"zip": zipped, "legacy": legacy}


@pytest.fixture(params=FORMATS)
def read(request, tmp_path):
    """Return a function that reads opcodes within a file of either format."""

    def within(body: bytes) -> object:
        path = tmp_path / "file.pth"
        path.write_bytes(FORMATS[request.param](body))
        return read_pth(path)

    return within


@pytest.fixture
def read_bytes(tmp_path):
    def within(data: bytes) -> object:
        path = tmp_path / "file.pth"
        path.write_bytes(data)
        return read_pth(path)

    return within


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (3,), (2, 3, 4)])
def test_written_tensors_are_read_bit_for_bit(dtype, shape, tmp_path):
    array = np.random.default_rng(0).integers(0, 2, (*shape, 16), np.uint8).view(np.uint8)
    array = np.resize(array, int(np.prod(shape)) * np.dtype(dtype).itemsize).view(dtype).reshape(shape)
    write_pth(tmp_path / "file.pth", {"a.weight": array, "b": array})
    got = read_pth(tmp_path / "file.pth")
    assert list(got) == ["a.weight", "b"]
    for value in got.values():
        assert (value.dtype, value.shape, value.tobytes()) == (array.dtype, shape, array.tobytes())


def test_arrays_of_another_memory_order_are_written_in_c_order(tmp_path):
    array = np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1)[::-1]
    write_pth(tmp_path / "file.pth", {"a": array})
    assert np.array_equal(read_pth(tmp_path / "file.pth")["a"], array)


def test_the_tensors_in_a_written_file_begin_at_multiples_of_64_bytes(tmp_path):
    write_pth(tmp_path / "file.pth", {f"{index}": FLOATS[:index] for index in range(5)})
    data = (tmp_path / "file.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "file.pth") as archive:
        for info in archive.infolist():
            name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
            assert (info.header_offset + 30 + name + extra) % 64 == 0


def test_a_data_type_unknown_to_torch_is_not_written(tmp_path):
    with pytest.raises(UserError, match="got >f4, expected one of"):
        write_pth(tmp_path / "file.pth", {"a": FLOATS.astype(">f4")})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    (tmp_path / "file.pth").mkdir()
    with pytest.raises(IsADirectoryError):
        write_pth(tmp_path / "file.pth", {"a": FLOATS})
    assert list(tmp_path.rglob("*")) == [tmp_path / "file.pth"]


@pytest.mark.parametrize("name", FORMATS)
def test_torchs_own_file_is_read(name):
    got = read_pth(GOLDEN / f"{name}.pth")
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        "weight": np.ones(2, np.float32),
        "bias": np.zeros(2, np.float32),
        "running_mean": np.zeros(2, np.float32),
        "running_var": np.ones(2, np.float32),
        "num_batches_tracked": np.array(0),
        "transposed.weight": base.T,
        "sliced.weight": base[1:, ::2],
        "bfloat16": np.array([1.5, -2.0, 3.0e38], ml_dtypes.bfloat16),
        "empty": np.empty((0, 3), np.float32),
        "parameter": np.ones(2, np.float32),
        "uint16": np.array([65535], np.uint16),
    }
    state_dict, stored = got.pop("state_dict"), got.pop("storage")
    assert list(state_dict) == list(expected)
    for key, value in expected.items():
        assert state_dict[key].dtype == value.dtype
        assert np.array_equal(state_dict[key], value)
    assert np.array_equal(stored, base.ravel())
    values = {"shape": (1, 2), "dtype": "torch.float32", "device": "cuda:0", "set": {1, 2}}
    assert got == {"epoch": 3, "best": 0.5, "name": "résumé", **values}


@pytest.mark.parametrize("name", FORMATS)
def test_a_shared_storage_is_read_once(name):
    got = read_pth(GOLDEN / f"{name}.pth")
    assert np.shares_memory(got["state_dict"]["transposed.weight"], got["storage"])


def test_a_big_endian_file_is_read(read_bytes):
    assert np.array_equal(read_bytes(zipped(tensor(), byteorder="big")), FLOATS)


def test_an_untyped_storage_of_the_other_byte_order_is_refused(read_bytes):
    with pytest.raises(UserError, match="untyped and big-endian"):
        read_bytes(zipped(storage(16, kind="torch.storage.UntypedStorage"), byteorder="big"))


def test_a_view_of_a_storage_in_an_old_file_is_read(read_bytes):
    source = storage(4, "0", "torch.FloatStorage", ("1", 1, 2))
    assert np.array_equal(read_bytes(legacy(tensor(0, (2,), source=source))), FLOATS[1:3])


def test_the_pickles_of_later_protocols_are_read(read_bytes):
    value = {"a": [1, 2.5, None, True, b"bytes", 1 << 40, "ü"], "b": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))}
    for protocol in (2, 3, 4, 5):
        start = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
        assert read_bytes(start + pickle.dumps(value, protocol) + pickle.dumps([], 2)) == value


# Hostile files

CODE = ("os.system", "posix.system", "builtins.eval", "builtins.exec", "subprocess.Popen", "runpy._run_code")


@pytest.mark.parametrize("name", [*CODE, "__builtin__.eval"])
def test_code_is_refused_by_name_and_not_executed(name, read, tmp_path):
    payload = f"open({str(tmp_path / 'executed')!r}, 'w')" if "ev" in name or "exec" in name else "touch executed"
    with pytest.raises(UserError) as refusal:
        read(call(name, plain(payload)))
    assert f"holds {name.replace('__builtin__', 'builtins')}, which is code" in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file.pth"]


HARMLESS_LOOKING = (
    *("builtins.getattr", "builtins.__import__", "collections.OrderedDict.fromkeys", "operator.attrgetter"),
    *("numpy._core.multiarray._reconstruct", "numpy.load", "pathlib.Path.unlink", "lightning.Trainer"),
    *("torch._utils._rebuild_device_tensor_from_numpy", "torch._utils._rebuild_sparse_tensor", "torch.load"),
    *("torch.storage._load_from_bytes", "torch.jit._script", "torch.nn.modules.linear.Linear"),
)


@pytest.mark.parametrize("name", HARMLESS_LOOKING)
def test_anything_but_tensors_and_containers_is_refused_by_name(name, read):
    with pytest.raises(UserError, match=f"holds {name}, which is code: expected .*; save the network's state_dict"):
        read(named(name))


def test_the_settings_of_a_training_are_passed_over(read):
    body = b"}(" + plain("a.weight") + tensor() + plain("args")
    body += named("argparse.Namespace") + b")\x81}" + plain("lr") + plain(0.1) + b"sb"
    body += plain("best") + call("numpy.core.multiarray.scalar", call("numpy.dtype", plain("f8")), plain("x")) + b"u"
    content = read(body)
    assert np.array_equal(content["a.weight"], FLOATS) and (content["args"], content["best"]) == ({}, {})


@pytest.mark.parametrize("name", ["torch._utils._rebuild_qtensor", "torch.QInt8Storage", "torch.float8_e4m3fn"])
def test_quantized_tensors_are_refused_by_name(name, read):
    with pytest.raises(UserError, match=f"quantized tensors .{name}"):
        read(named(name))


def test_a_dotted_name_of_protocol_4_does_not_reach_an_attribute(read):
    with pytest.raises(UserError, match=r"holds collections.OrderedDict.fromkeys, which is code"):
        read(plain("collections") + plain("OrderedDict.fromkeys") + b"\x93")


def test_a_name_sends_no_control_characters_to_the_terminal(read):
    with pytest.raises(UserError) as refusal:
        read(plain("os\n\x1b[2J") + plain("x" * 1_000_000) + b"\x93")
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 400


def hostile() -> dict[str, bytes]:
    """Return invalid or forbidden opcodes, by description."""
    v2, ordered = "torch._utils._rebuild_tensor_v2", call("collections.OrderedDict")
    deep = b")" + b"\x85" * 200_000
    memoized = plain(1) + b"q\x00"
    return {
        "nothing": b"",
        "too few arguments": call(v2, storage()),
        "too many arguments": call(v2, storage(), *[plain(0)] * 9),
        "no storage": call(v2, *map(plain, ("0", 0, (4,), (1,), False)), ordered),
        "a list for a storage": call(v2, *map(plain, ([1, 2, 3, 4], 0, (4,), (1,), False)), ordered),
        "text for an offset": tensor("0"),
        "True for an offset": tensor(True),
        "a negative offset": tensor(-1, (2,)),
        "an offset outside": tensor(1),
        "an offset beyond 64 bits": tensor(1 << 100),
        "text for a shape": tensor(0, "4"),
        "floats in a shape": tensor(0, (4.0,)),
        "a shape outside": tensor(0, (5,)),
        "a giant shape": tensor(0, (1 << 62,)),
        "a shape whose product overflows": tensor(0, (1 << 32, 1 << 32), (0, 0)),
        "a giant empty shape": tensor(0, (0, 1 << 62, 1 << 62), (1, 1, 1)),
        "a negative shape": tensor(0, (-4,)),
        "a stride outside": tensor(0, (2,), (4,)),
        "a giant stride": tensor(0, (2,), ((1 << 62) + 1,)),
        "a negative stride": tensor(3, (4,), (-1,)),
        "an expanded tensor": tensor(0, (5,), (0,)),
        "more strides than sizes": tensor(0, (4,), (1, 1)),
        "too many dimensions": tensor(0, (1,) * 65, (1,) * 65),
        "a shape of many large factors": plain(1 << 2000)
        + b"q\x00("
        + b"h\x00" * 100_000
        + b"tq\x01"
        + call("torch._utils._rebuild_tensor", storage(), plain(0), b"h\x01h\x01"),
        "a terabyte": tensor(source=storage(1 << 38)),
        "a negative storage": tensor(source=storage(-4)),
        "a storage of text": tensor(source=storage("4")),
        "a storage that is not there": tensor(source=storage(4, "1")),
        "a storage outside the folder": tensor(source=storage(4, "../../data.pkl")),
        "a storage named by a list": tensor(source=storage(4, ["0"])),
        "a storage named by a deep tuple": b"("
        + plain("storage")
        + named("torch.FloatStorage")
        + deep
        + plain("cpu")
        + plain(4)
        + b"tQ",
        "a storage of a deep type": b"(" + plain("storage") + deep + plain("0") + plain("cpu") + plain(4) + b"tQ",
        "a storage of no type": tensor(source=storage(kind="torch.float32")),
        "a storage of two lengths": storage(4) + storage(5) + b"\x86",
        "a lazily conjugated tensor": call(
            v2, storage(), *map(plain, (0, (4,), (1,), False)), ordered, plain({"conj": True})
        ),
        "a module": b"("
        + plain("module")
        + named("torch.FloatStorage")
        + b"".join(map(plain, ("0", "cpu", 4)))
        + b"tQ",
        "a persistent id of text": plain("storage") + b"Q",
        "a giant memo index": memoized + b"j\xff\xff\xff\x7f",
        "an empty stack": b"R",
        "no mark": b"t",
        "a call of text": plain("os.system") + plain(("true",)) + b"R",
        "a call of a data type": call("torch.float32"),
        "a call with a list": named("collections.OrderedDict") + plain([]) + b"R",
        "bytes by number": call("builtins.bytes", plain(1 << 40)),
        "an extension": b"\x82\x01",
        "an instance": b"(ios\nsystem\n",
        "an object of a class": b"(" + named("collections.OrderedDict") + b"o",
        "NEWOBJ": named("collections.OrderedDict") + b")\x81",
        "a state of a list": plain([]) + plain({"append": 1}) + b"b",
        "an attribute of text": plain("x") + plain({"__class__": 1}) + b"b",
        "an odd number of items": b"}(" + plain(1) + b"u",
        "items of a tuple": b")" + plain(1) + b"a",
        "an unhashable key": b"}]" + plain(1) + b"s",
        "a deep key": b"}" + deep + plain(1) + b"s",
        "a deep element of a set": call("builtins.set", b"]" + deep + b"a"),
        "a key of many bits": b"}" + plain(1 << 70) + plain(1) + b"s",
        "a dictionary within itself": b"}q\x00" + plain(1) + b"h\x00s",
        "a list within itself": b"]q\x00h\x00a",
        "a list within itself by a parameter": b"(]\x89Ntq\x09"
        + named("torch._utils._rebuild_parameter")
        + b"h\x09Rh\x09a",
        "a device of a list": call("torch.device", plain([1])),
        "a number without end": b"\x8a\xff" + b"\x01" * 10,
        "text without end": b"X\xff\xff\xff\x7f" + b"a" * 10,
        "text of 8 exabytes": b"\x8d" + b"\xff" * 8 + b"a",
        "a name without end": b"cos" + b"a" * 100_000,
    }


@pytest.mark.parametrize("what", [what for what in hostile() if what != "a giant memo index"])
def test_a_hostile_pickle_ends_in_one_message(what, read):
    with pytest.raises(UserError, match=r"file\.pth .*(fetch|save|correct)"):
        read(hostile()[what])


def test_a_giant_memo_index_takes_no_memory(read):
    with pytest.raises(UserError):
        read(hostile()["a giant memo index"])
    assert peak(lambda: read(plain(1) + b"r\xff\xff\xff\x7f")) < 10e6


def test_deep_nesting_is_read_without_recursion(read):
    value, depth = read(b"]" * 20_000 + b"a" * 19_999), 1
    while value:
        value, depth = value[0], depth + 1
    assert depth == 20_000


def test_attributes_are_ignored(read):
    ordered = call("collections.OrderedDict")
    assert type(read(ordered + plain({"keys": 1, "_metadata": {}}) + b"b")) is dict


def test_names_that_leave_the_folder_are_not_used_as_paths(read_bytes, tmp_path):
    before = sorted(tmp_path.parent.rglob("*"))
    assert np.array_equal(read_bytes(zipped(tensor(), root="..")), FLOATS)
    assert sorted(tmp_path.parent.rglob("*")) == sorted([*before, tmp_path / "file.pth"])


def test_a_zip_bomb_is_refused(read_bytes):
    with pytest.raises(UserError, match="compressed"):
        read_bytes(zipped(plain("a" * 3_000_000), kind=zipfile.ZIP_DEFLATED))


def test_any_other_zip_file_is_refused(read_bytes):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", "")
    with pytest.raises(UserError, match=r"without a data\.pkl"):
        read_bytes(file.getvalue())


def nested_entries(count: int) -> tuple[bytes, list[zipfile.ZipInfo]]:
    """Return nested zip entries with correct lengths and checksums, together larger than the file."""
    block, infos = bytes(10_000), []
    for key in range(count):
        info = zipfile.ZipInfo(f"archive/data/{key}")
        info.CRC, info.file_size, info.compress_size = zlib.crc32(block), len(block), len(block)
        block, end = info.FileHeader() + block, len(block)
        info.header_offset = end
        infos.append(info)
    for info in infos:
        info.header_offset = len(block) - info.header_offset - len(info.FileHeader())
    return block, infos


@pytest.mark.parametrize("count", [1, 3])
def test_nested_entries_are_read_up_to_the_size_of_the_file(count, read_bytes):
    block, infos = nested_entries(count)
    tensors = [storage(info.file_size, str(key), "torch.ByteStorage") for key, info in enumerate(infos)]
    file = io.BytesIO(block)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02(" + b"".join(tensors) + b"t.")
        archive.filelist += infos
    if count == 1:
        assert len(read_bytes(file.getvalue())[0]) == 10_000
    else:
        with pytest.raises(UserError, match="more than the rest of the file"):
            read_bytes(file.getvalue())


def test_the_tar_format_is_refused_by_name(read_bytes):
    with pytest.raises(UserError, match="tar format"):
        read_bytes(b"storages".ljust(257, b"\0") + b"ustar".ljust(1000, b"\0"))


@pytest.mark.parametrize("data", [b"", b"text\n", b"\x80\x02}.", b"PK", bytes(1000), pickle.dumps({"a": 1})])
def test_a_file_of_another_kind_is_refused(data, read_bytes):
    with pytest.raises(UserError, match=r"expected|download or save"):
        read_bytes(data)


@pytest.mark.parametrize(
    "keys, count", [((), 4), (("0", "0"), 4), (("1",), 4), ((["0"],), 4), (("0",), 5), (("0",), -1)]
)
def test_a_legacy_file_must_hold_the_storages_of_its_tensors(keys, count, read_bytes):
    with pytest.raises(UserError, match="download or save"):
        read_bytes(legacy(tensor(), keys, count))


@pytest.mark.parametrize("make", ["missing", "folder"])
def test_a_path_that_cannot_be_opened_is_a_user_error(make, tmp_path):
    if make == "folder":
        (tmp_path / "file.pth").mkdir()
    with pytest.raises(UserError, match="can't read"):
        read_pth(tmp_path / "file.pth")


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_short_is_refused_wherever_it_ends(name, read_bytes, tmp_path):
    if name == "zip":
        write_pth(tmp_path / "whole.pth", {f"{key}": np.arange(1000.0) for key in range(12)})
        data = (tmp_path / "whole.pth").read_bytes()
    else:
        stored = np.arange(12_000.0).tobytes()
        data = legacy(tensor(shape=(12_000,), source=storage(12_000, kind="torch.DoubleStorage")), count=12_000)
        data = data[: -FLOATS.nbytes] + stored
    for end in range(0, len(data), 1000):
        with pytest.raises(UserError):
            read_bytes(data[:end])


@pytest.mark.parametrize("step", [10, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FORMATS)
def test_torchs_file_cut_short_is_refused(name, step, read_bytes):
    data = (GOLDEN / f"{name}.pth").read_bytes()
    for end in range(0, len(data), step):
        with pytest.raises(UserError):
            read_bytes(data[:end])


# Memory

EXTRA = 100e6  # bytes beside the file


def peak(work: Callable[[], object]) -> float:
    """Return the peak memory of Python and NumPy during the work, in bytes."""
    tracemalloc.start()
    try:
        work()
    except UserError:
        pass
    finally:
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return held


def many_entries() -> bytes:
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", *[0] * 4, *[0] * 4, 0, 0, 0, 1, *[0] * 4, 0, 0) + b"a"
    count = 60_000
    return b"PK" + entry * count + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, 2, 0)


GREEDY: dict[str, Callable[[], bytes]] = {
    "many lists": lambda: legacy(b"]" * 3_000_000),
    "many remembered dictionaries": lambda: legacy(b"}\x94" * 1_000_000),
    "many dictionaries of an item": lambda: legacy(b"}NNs" * 500_000),
    "many sets": lambda: legacy(
        named("builtins.set") + b"q\x00](" + plain(1) + b"e\x85q\x01" + b"h\x00h\x01R" * 500_000
    ),
    "many views of a tensor": lambda: legacy(
        named("torch._utils._rebuild_tensor")
        + b"q\x08("
        + storage()
        + b"".join(map(plain, (0, (4,), (1,))))
        + b"tq\x09"
        + b"h\x08h\x09R" * 500_000
    ),
    "a set made again and again": lambda: legacy(
        plain(list(range(10_000))) + b"\x85q\x01" + named("builtins.set") + b"q\x00" + b"h\x00h\x01R" * 10_000
    ),
    "text encoded again and again": lambda: legacy(
        plain("a" * 1_000_000)
        + plain("latin1")
        + b"\x86q\x01"
        + named("_codecs.encode")
        + b"q\x00"
        + b"h\x00h\x01R" * 9999
    ),
    "text of four bytes a character": lambda: legacy(plain("a" * 3_900_000 + "\U0001f600")),
    "a line without end": lambda: legacy(b"c" + b"a" * 50_000_000),
    "text longer than the file": lambda: legacy(b"X\xff\xff\xff\xff" + b"a" * 50_000_000),
    "many numbers": lambda: zipped(b"G\0\0\0\0\0\0\0\0" * 400_000),
    "many entries": many_entries,
    "a terabyte": lambda: zipped(tensor(source=storage(1 << 38))),
}


LONG = (  # because of the run-time type checks
    *("many sets", "many dictionaries of an item", "many views of a tensor", "a set made again and again"),
    *("many lists", "many entries", "many remembered dictionaries"),
)


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[pytest.mark.slow] if what in LONG else []) for what in GREEDY]
)
def test_a_greedy_file_takes_little_memory(what, read_bytes):
    data = GREEDY[what]()
    assert peak(lambda: read_bytes(data)) < 2 * len(data) + EXTRA


def test_a_whole_file_takes_its_size_in_memory(tmp_path):
    write_pth(tmp_path / "file.pth", {f"{key}": np.zeros(1_000_000, np.float32) for key in range(8)})
    assert peak(lambda: read_pth(tmp_path / "file.pth")) < 32e6 + 12e6


def test_lack_of_memory_ends_in_one_message(tmp_path):
    count = 1 << 27  # of 4 bytes each; the file is sparse
    with (tmp_path / "file.pth").open("wb") as file:
        start = legacy(tensor(shape=(count,), source=storage(count)), count=count)[: -FLOATS.nbytes]
        file.write(start)
        file.truncate(len(start) + 4 * count)
    code = f"""
import resource
from pathlib import Path
from resnet_jax.errors import UserError
from resnet_jax.weights.pth import read_pth
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, -1))
try:
    read_pth(Path({str(tmp_path / "file.pth")!r}))
except UserError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs more memory than" in result.stdout


# Mutations


def mutants(seed: int):
    """Yield damaged files of both formats forever; some zip files have correct checksums."""
    rng = random.Random(seed)
    whole = [(GOLDEN / f"{name}.pth").read_bytes() for name in FORMATS]
    body = b"}(" + b"".join(plain(key) + tensor(shape=(2, 2), strides=(2, 1)) for key in "abc") + b"u"
    whole += [zipped(body), legacy(body)]
    with zipfile.ZipFile(GOLDEN / "zip.pth") as archive:
        pickled = archive.read("zip/data.pkl")
    while True:
        if rng.random() < 0.3:
            yield rezipped(mutated(pickled, pickled, rng))
        else:
            yield mutated(rng.choice(whole), rng.choice(whole), rng)


def rezipped(pickled: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(GOLDEN / "zip.pth") as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled if name == "zip/data.pkl" else old.read(name))
    return file.getvalue()


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at, length = rng.randrange(len(out) + 1), rng.choice((1, 2, 4, 8, 30))
        start = rng.randrange(len(other))
        match rng.choice(("byte", "block", "insertion", "deletion", "splice", "special")):
            case "byte":
                out[at : at + 1] = rng.randbytes(1)
            case "block":
                out[at : at + length] = rng.randbytes(length)
            case "insertion":
                out[at:at] = rng.randbytes(length)
            case "deletion":
                del out[at : at + length]
            case "splice":
                out[at : at + rng.choice((0, length))] = other[start : start + 4 * length]
            case "special":
                out[at : at + length] = rng.choice((b"\0", b"\x7f", b"\xff")) * length
    return bytes(out)


def outcomes(count: int, seed: int, path: Path) -> dict[str, int]:
    counts = {"read": 0, "refused": 0}
    for data in itertools.islice(mutants(seed), count):
        path.write_bytes(data)
        try:
            read_pth(path)
            counts["read"] += 1
        except UserError as error:
            assert str(path) in str(error) and len(str(error)) < 600
            counts["refused"] += 1
    return counts


def test_300_damaged_files_are_read_or_refused(tmp_path):
    assert sum(outcomes(300, 0, tmp_path / "file.pth").values()) == 300


@pytest.mark.slow
def test_4_000_damaged_files_are_read_or_refused(tmp_path):
    counts = outcomes(4_000, 1, tmp_path / "file.pth")
    print(counts)
    assert sum(counts.values()) == 4_000
