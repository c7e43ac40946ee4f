"""Opening a run folder: its lock and its configuration."""

import json

import pytest

from resnet_jax.config import Config, TrainConfig
from resnet_jax.errors import UsageError, UserError
from resnet_jax.runs.folder import open_workdir, read_metrics, read_summary


def test_a_folder_without_a_run_has_no_metrics_and_no_summary(tmp_path):
    assert read_metrics(tmp_path) == [] and read_summary(tmp_path) is None


def test_a_run_folder_is_locked_while_it_is_open(tmp_path):
    with (
        open_workdir(tmp_path, Config()),
        pytest.raises(UserError, match="another process is training in"),
        open_workdir(tmp_path, Config()),
    ):
        pytest.fail("the folder was opened twice")
    with open_workdir(tmp_path, Config()):
        pass


def test_a_run_with_another_configuration_is_refused_with_what_differs(tmp_path):
    with open_workdir(tmp_path, Config()):
        pass
    with (
        pytest.raises(UsageError, match=r"train\.epochs: 20 -> 30.*--workdir"),
        open_workdir(tmp_path, Config(train=TrainConfig(epochs=30))),
    ):
        pytest.fail("the folder was opened")


def test_a_run_of_an_older_version_that_lacks_a_field_is_resumed(tmp_path):
    with open_workdir(tmp_path, Config()):
        pass
    config = json.loads((tmp_path / "config.json").read_text())
    del config["train"]["ema_decay"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with open_workdir(tmp_path, Config()):
        pass


def test_a_run_of_a_version_with_an_unknown_field_is_refused_with_its_name(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"train": {"momentum_decay": 0.5}}))
    with pytest.raises(UsageError, match=r"train\.momentum_decay"), open_workdir(tmp_path, Config()):
        pytest.fail("the folder was opened")
