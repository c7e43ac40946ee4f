"""Weights files are written and read bit for bit, whatever their names."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from resnet_jax.errors import UsageError, UserError
from resnet_jax.weights.files import read_content, read_metadata, write_weights
from resnet_jax.weights.pth import write_pth

TENSORS = {"conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "fc.bias": np.zeros(3, np.float32)}


def same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return got.keys() == expected.keys() and all(
        got[key].dtype == tensor.dtype and got[key].tobytes() == tensor.tobytes() for key, tensor in expected.items()
    )


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_written_weights_are_read_back_bit_for_bit(tmp_path, suffix):
    tensors = TENSORS | {
        "half.weight": np.ones(2, np.float16),
        "bn1.num_batches_tracked": np.array(7, np.int64),
        "brain.weight": np.array([1, np.nan], ml_dtypes.bfloat16),
        "double.weight": np.array([[1e-300]]),
    }
    write_weights(tmp_path / f"w{suffix}", tensors)
    assert same(read_content(tmp_path / f"w{suffix}"), tensors)
    assert [path.name for path in tmp_path.iterdir()] == [f"w{suffix}"]


def test_the_format_is_detected_by_the_content_not_the_name(tmp_path):
    write_pth(tmp_path / "renamed.safetensors", TENSORS)
    save_file(TENSORS, tmp_path / "renamed.pth")
    assert same(read_content(tmp_path / "renamed.safetensors"), TENSORS)
    assert same(read_content(tmp_path / "renamed.pth"), TENSORS)


def test_a_missing_file_is_one_message(tmp_path):
    with pytest.raises(UserError, match=r"there is no weights file .*none.pth"):
        read_content(tmp_path / "none.pth")


@pytest.mark.parametrize("length", [9, 60, 150])
def test_a_truncated_safetensors_file_is_one_message(tmp_path, length):
    save_file(TENSORS, tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content[:length])
    with pytest.raises(UserError, match="not an intact safetensors file"):
        read_content(tmp_path / "w.safetensors")


def test_an_unknown_suffix_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match=r"expected a name that ends in \.safetensors, \.pth or \.pt"):
        write_weights(tmp_path / "w.onnx", TENSORS)
    assert list(tmp_path.iterdir()) == []


def test_a_safetensors_file_has_metadata(tmp_path):
    write_weights(tmp_path / "w.safetensors", TENSORS, {"resnet_jax": "{}"})
    assert read_metadata(tmp_path / "w.safetensors") == {"format": "pt", "resnet_jax": "{}"}
    write_weights(tmp_path / "w.pth", TENSORS)
    assert read_metadata(tmp_path / "w.pth") == {}
