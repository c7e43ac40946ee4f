"""Encoded examples by index, in this process and in one that has not loaded JAX."""

import pickle
import subprocess
import sys

import pytest
from PIL import Image

from resnet_jax.data.reading.images import Examples
from resnet_jax.data.source import open_folder, open_tfds
from resnet_jax.errors import UserError


@pytest.fixture(params=["prepared", "folder"])
def examples(request, tmp_path) -> Examples:
    if request.param == "prepared":
        return open_tfds("digits", tmp_path).train
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.new("L", (4, 4), number).save(tmp_path / name / f"{number}.png")
    return open_folder(tmp_path).train


def test_an_example_by_index_is_that_of_the_iteration(examples):
    assert [examples[index] for index in range(5)] == [example for example, _ in zip(examples, range(5), strict=False)]


def test_many_examples_of_a_shard_are_read_together_and_few_are_not(tmp_path):
    examples = open_tfds("digits", tmp_path).train
    indices = [1436, 5, 0, 700, 701, 3, 2, 1]
    together = examples.together(indices)
    assert together == {index: examples[index] for index in indices} and list(together) == indices
    assert examples.together(indices[:2]) == {}


def test_a_spawned_process_reads_examples_without_loading_jax(examples, tmp_path):
    (tmp_path / "examples").write_bytes(pickle.dumps(examples))
    code = (
        "import pickle, sys; examples = pickle.load(open(sys.argv[1], 'rb')); pickle.dump(examples[3], "
        "sys.stdout.buffer); import resnet_jax.data.reading.crop; sys.exit('jax' in sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", code, str(tmp_path / "examples")], capture_output=True)
    assert child.returncode == 0, child.stderr.decode()
    assert pickle.loads(child.stdout) == examples[3]


def test_a_truncated_shard_is_an_error_that_names_image_and_folder(tmp_path):
    source = open_tfds("digits", tmp_path)
    for path in source.files:
        if "train" in path.name and "array_record" in path.name:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=f"train image 7 of {tmp_path}"):
        open_tfds("digits", tmp_path).train[7]
    assert open_tfds("digits", tmp_path).train.together(range(1437)) == {}  # one by one, the others can be read
