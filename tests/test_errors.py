"""Mistakes people make: each ends in one message with the remedy, and in the right exit code."""

import runpy
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from resnet_jax.data.memory import load
from resnet_jax.data.source import open_tfds

REPO = Path(__file__).parent.parent
TRAIN = str(REPO / "train.py")


@pytest.fixture
def complaint(monkeypatch, capsys, tmp_path):
    """Return a function that runs train.py with wrong options and returns its exit code and its message."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    assert jax.device_count() == 8  # starts JAX; after that, train.py does not change the number of devices

    def run(*options: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["train.py", "--workdir", str(tmp_path / "run"), *map(str, options)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(TRAIN, run_name="__main__")
        assert isinstance(end.value.code, int)
        out, message = capsys.readouterr()
        assert out == ""
        boxes, lines = message.count("For full helptext"), message.count("error: ")
        assert boxes + lines == 1 and (boxes or message.count("\n") == 1), message
        return end.value.code, message

    return run


def write_images(folder: Path, *classes: str, count: int = 5) -> None:
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / name / f"{number}.png")


def test_an_unknown_option_is_answered_with_the_nearest(complaint):
    code, message = complaint("--train.epoch", 3)
    assert code == 2 and "Unrecognized options: --train.epoch" in message and "--train.epochs INT" in message


def test_a_value_of_the_wrong_type_names_its_option(complaint):
    code, message = complaint("--train.epochs", "three")
    assert code == 2 and "--train.epochs" in message and "'three'" in message


def test_an_unknown_choice_lists_the_known_ones(complaint):
    code, message = complaint("--model.arch", "resnet19")
    assert code == 2 and "'resnet18', 'resnet34'" in message


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--train.epochs", "0", "1 or more"),
        ("--train.batch-size", "1", "2 or more, for BatchNorm"),
        ("--optimizer.momentum", "1", "a share in [0, 1)"),
        ("--data.val-fraction", "1.5", "in (0, 1)"),
    ],
)
def test_a_value_out_of_range_says_what_is_expected(complaint, option, value, expected):
    code, message = complaint(option, value)
    assert code == 2 and f"{option}: got {value}" in message and expected in message


def test_a_missing_recipe_lists_the_existing_ones(complaint):
    code, message = complaint("--config", "configs/nothing.py")
    assert code == 2 and "configs/nothing.py" in message
    assert all(f"configs/{path.name}" in message for path in (REPO / "configs").glob("*.py"))


@pytest.mark.parametrize("text", ["x = 1\n", "def get_config():\n    return {}\n"])
def test_a_recipe_must_return_a_configuration(complaint, tmp_path, text):
    path = tmp_path / "recipe.py"
    path.write_text(text)
    code, message = complaint("--config", path)
    assert code == 2 and f"{path} has no function get_config() that returns a" in message


@pytest.mark.parametrize(
    ("text", "line", "kind"),
    [
        ("def get_config(:\n", 1, "SyntaxError"),
        ("import nosuchmodule\n", 1, "ModuleNotFoundError"),
        ("def get_config():\n    return 1 / 0\n", 2, "ZeroDivisionError"),
        (
            "from resnet_jax.config import TrainConfig\n\n\ndef get_config():\n    return TrainConfig(epoch=3)\n",
            5,
            "TypeError",
        ),
    ],
)
def test_a_recipe_that_fails_is_named_with_the_line(complaint, tmp_path, text, line, kind):
    path = tmp_path / "recipe.py"
    path.write_text(text)
    code, message = complaint("--config", path)
    assert code == 2 and f"{path}, line {line}: {kind}: " in message


def test_a_value_out_of_range_in_a_recipe_names_its_option(complaint, tmp_path):
    path = tmp_path / "recipe.py"
    path.write_text(
        "from resnet_jax.config import TrainConfig\n\ndef get_config():\n    return TrainConfig(epochs=0)\n"
    )
    code, message = complaint("--config", path)
    assert code == 2 and "--train.epochs: got 0" in message


def test_a_batch_must_divide_among_the_devices(complaint):
    code, message = complaint("--train.batch-size", 12)
    assert code == 2 and "got 12 for 8 devices" in message and "for example --train.batch-size 8" in message


def test_a_batch_larger_than_the_training_set_says_how_large_that_is(complaint, tmp_path, capsys):
    load(open_tfds("digits", tmp_path / "data"), None)
    capsys.readouterr()
    code, message = complaint("--data.dir", tmp_path / "data", "--train.batch-size", 1440)
    assert code == 2 and "got 1440" in message and "1437 training images" in message


def test_a_folder_source_needs_a_folder(complaint):
    code, message = complaint("--data.source", "folder")
    assert code == 2 and "--data.dir" in message


def test_an_empty_image_folder_shows_the_expected_layout(complaint, tmp_path):
    (tmp_path / "images").mkdir()
    code, message = complaint("--data.source", "folder", "--data.dir", tmp_path / "images")
    assert code == 1 and "FOLDER/CLASS/IMAGE" in message


def test_an_unreadable_image_is_named(complaint, tmp_path):
    write_images(tmp_path / "images", "cats", "dogs")
    (tmp_path / "images" / "dogs" / "3.png").write_bytes(b"no image")
    code, message = complaint("--data.source", "folder", "--data.dir", tmp_path / "images")
    assert code == 1 and str(tmp_path / "images" / "dogs" / "3.png") in message


def test_an_unknown_data_set_lists_the_known_ones(complaint, tmp_path):
    code, message = complaint("--data.name", "numerals", "--data.dir", tmp_path)
    assert code == 1 and "'numerals'" in message and "cifar10, cifar100, digits" in message


def test_a_download_without_a_network_says_where_to_put_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    command = [sys.executable, TRAIN, "--config", REPO / "configs/cifar10.py", "--data.dir", tmp_path]
    result = subprocess.run([*command, "--workdir", tmp_path / "run"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "error: " in result.stderr and "cifar-10-binary.tar.gz" in result.stderr


def test_a_run_folder_that_cannot_be_made_is_named(complaint, tmp_path):
    (tmp_path / "file").write_text("")
    code, message = complaint("--workdir", tmp_path / "file" / "run")
    assert code == 1 and f"can't write to the run folder {tmp_path}/file/run" in message


def test_a_disk_without_free_space_ends_in_one_message(tmp_path):
    command = [sys.executable, TRAIN, "--workdir", str(tmp_path / "run")]
    result = subprocess.run(["bash", "-c", 'ulimit -f 0; exec "$@"', "-", *command], capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert f"can't write to {tmp_path}/run: " in result.stderr
