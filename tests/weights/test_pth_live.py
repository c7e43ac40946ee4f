"""Files of an installed torch are read, and ours are read by it, bit for bit: `pytest -m parity`."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from resnet_jax.errors import UserError
from resnet_jax.weights.pth import read_pth, write_pth

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch")

INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
WITH_STORAGES = ("bool", *INTEGERS, "float16", "bfloat16", "float32", "float64", "complex64", "complex128")
DTYPES = (*WITH_STORAGES, "uint16", "uint32", "uint64")
LAYOUTS = {
    "whole": lambda base: base,
    "scalar": lambda base: base[0, 0],
    "a part": lambda base: base[1:, 2:],
    "transposed": lambda base: base.T,
    "every other": lambda base: base[::2, 1::2],
    "empty": lambda base: base[:0],
    "channels last": lambda base: base.reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "a parameter": lambda base: torch.nn.Parameter(base, requires_grad=False),
}


def drawn(dtype: str) -> "torch.Tensor":
    """Return a 4 x 6 tensor of arbitrary bits; booleans are 0 or 1."""
    kind = getattr(torch, dtype)
    data = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 256, 24 * kind.itemsize, np.uint8)
    return torch.from_numpy(data).view(kind).reshape(4, 6)


def bits(value: "torch.Tensor | np.ndarray") -> tuple:
    """Return the data type, the shape and the bytes of the elements in order."""
    if isinstance(value, torch.Tensor):
        data = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        return str(value.dtype).removeprefix("torch."), tuple(value.shape), data.tobytes()
    return value.dtype.name, value.shape, value.tobytes()


@pytest.fixture(params=["zip", "legacy"])
def saved(request, tmp_path):
    """Return a function that saves with torch, in either format, and reads without it."""

    def through(value: object) -> object:
        torch.save(value, tmp_path / "file.pth", _use_new_zipfile_serialization=request.param == "zip")
        return read_pth(tmp_path / "file.pth")

    return through


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_torchs_tensors_are_read_bit_for_bit(dtype, layout, saved):
    tensor = LAYOUTS[layout](drawn(dtype))
    assert bits(saved({"a": tensor})["a"]) == bits(tensor)


def test_tensors_of_one_storage_share_memory(saved):
    base = drawn("float32")
    whole, part = saved([base, base[1:]])
    assert np.shares_memory(whole, part)


def test_a_checkpoint_with_its_optimizer_is_read(saved):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    got = saved({**checkpoint, "epoch": 3})
    assert {key: bits(value) for key, value in got["model"].items()} == {
        key: bits(value) for key, value in model.state_dict().items()
    }
    assert got["scheduler"]["milestones"] == {3: 1, 5: 1}
    assert got["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]


def test_values_are_read_as_they_are(saved):
    value = {"a": [1, -(1 << 40), 2.5, None, True, "ü", b"bytes", b"", 1j, (), (1,), {1, 2}], 3: {"b": float("inf")}}
    assert saved(value) == value


def test_torchs_dtypes_devices_and_sizes_become_plain_values(saved):
    value = {"dtype": torch.bfloat16, "device": torch.device("cuda:1"), "shape": torch.Size([2, 3])}
    assert saved(value) == {"dtype": "torch.bfloat16", "device": "cuda:1", "shape": (2, 3)}


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_storages_are_arrays(saved):
    base = drawn("int32")
    typed, untyped = saved([base.storage(), drawn("uint8").untyped_storage()])
    assert bits(typed) == bits(base.reshape(-1))
    assert bits(untyped) == bits(drawn("uint8").reshape(-1))


def test_a_lazily_conjugated_tensor_is_refused(saved):
    with pytest.raises(UserError, match="resolve_conj"):
        saved(drawn("complex64").conj())


def test_an_expanded_tensor_is_refused(saved):
    with pytest.raises(UserError, match=r"save its `clone\(\)`"):
        saved(torch.ones(1).expand(5))


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_whole_module_is_refused_by_name(saved):
    with pytest.raises(UserError, match=r"holds torch.nn.modules.linear.Linear, which is code: .* state_dict"):
        saved(torch.nn.Linear(2, 3))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_torchscript_file_is_refused(tmp_path):
    path = tmp_path / "file.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), path)
    with pytest.raises(UserError, match="which is code"):
        read_pth(path)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("dtype", WITH_STORAGES)
def test_ours_are_read_by_torch_bit_for_bit(dtype, mmap, tmp_path):
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    base = drawn(dtype).reshape(-1).view(torch.uint8).numpy().view(kind).reshape(4, 6)
    ours = {"layer1.0.weight": base, "transposed": base.T, "scalar": np.array(base[0, 0]), "empty": base[:0]}
    write_pth(tmp_path / "file.pth", ours)
    got = torch.load(tmp_path / "file.pth", weights_only=True, mmap=mmap)
    assert type(got).__name__ == "OrderedDict" and list(got) == list(ours)
    for key, tensor in got.items():
        assert bits(tensor) == bits(ours[key]), key


def test_our_state_dict_loads_strictly(tmp_path):
    model = torch.nn.BatchNorm2d(3)
    write_pth(tmp_path / "file.pth", {key: value.numpy() for key, value in model.state_dict().items()})
    model.load_state_dict(torch.load(tmp_path / "file.pth", weights_only=True), strict=True)
    assert model.num_batches_tracked.dtype == torch.int64 and model.num_batches_tracked.shape == ()


def test_the_mapped_tensors_of_ours_are_aligned(tmp_path: Path):
    write_pth(tmp_path / "file.pth", {f"{index}": np.ones(index + 1, np.float64) for index in range(5)})
    got = torch.load(tmp_path / "file.pth", weights_only=True, mmap=True)
    assert all(tensor.data_ptr() % 64 == 0 for tensor in got.values())
