"""Opening a run folder: its lock and its configuration."""

import json
from pathlib import Path

import jax.numpy as jnp
import pytest

from resnet_jax.config import Config, OptimizerConfig, TrainConfig, as_dict
from resnet_jax.errors import UsageError, UserError
from resnet_jax.runs.checkpoint import Checkpoints
from resnet_jax.runs.opening import open_workdir

TRAINED = Config(optimizer=OptimizerConfig(peak_learning_rate=0.05))
OTHER = Config(optimizer=OptimizerConfig(peak_learning_rate=0.4))


def open_and_close(workdir: Path, config: Config) -> None:
    with open_workdir(workdir, config):
        pass


@pytest.fixture
def trained(tmp_path):
    """Return the folder of a run of `TRAINED` with two checkpoints."""
    open_and_close(tmp_path, TRAINED)
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, best=False)
    for step in (10, 20):
        checkpoints.save(step, {"weights": jnp.ones(3)}, {"config": as_dict(TRAINED)})
        checkpoints.wait()
    checkpoints.close()
    return tmp_path


def write_figure(workdir: Path) -> None:
    """Write what makes a folder that of a run that has trained."""
    workdir.joinpath("metrics.jsonl").write_text('{"step": 10, "epoch": 0, "split": "train", "loss": 1.0}\n')


def test_a_run_folder_is_locked_while_it_is_open(tmp_path):
    with (
        open_workdir(tmp_path, Config()),
        pytest.raises(UserError, match="another process is training in"),
        open_workdir(tmp_path, Config()),
    ):
        pytest.fail("the folder was opened twice")
    with open_workdir(tmp_path, Config()):
        pass


def test_a_run_with_another_configuration_is_refused_by_what_differs(tmp_path):
    open_and_close(tmp_path, Config())
    write_figure(tmp_path)
    with (
        pytest.raises(UsageError, match=r"train\.epochs: 20 -> 30.*--workdir"),
        open_workdir(tmp_path, Config(train=TrainConfig(epochs=30))),
    ):
        pytest.fail("the folder was opened")


def test_a_run_of_a_version_without_one_of_the_fields_is_resumed(tmp_path):
    open_and_close(tmp_path, Config())
    write_figure(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["train"]["ema_decay"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with open_workdir(tmp_path, Config()):
        pass


def test_a_run_of_a_version_with_another_field_is_refused_by_its_name(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"train": {"momentum_decay": 0.5}}))
    write_figure(tmp_path)
    with pytest.raises(UsageError, match=r"train\.momentum_decay"), open_workdir(tmp_path, Config()):
        pytest.fail("the folder was opened")


def test_a_checkpoint_tells_another_configuration_where_config_json_was_deleted(trained):
    (trained / "config.json").unlink()
    with pytest.raises(UsageError, match=r"optimizer\.peak_learning_rate: 0\.05 -> 0\.4"):
        open_and_close(trained, OTHER)
    assert not (trained / "config.json").exists()


@pytest.mark.parametrize("damage", [None, "", "{", json.dumps(as_dict(OTHER))])
def test_config_json_is_written_again_from_the_checkpoints_configuration_with_a_warning(trained, damage, caplog):
    intact = (trained / "config.json").read_text()
    (trained / "config.json").unlink() if damage is None else (trained / "config.json").write_text(damage)
    open_and_close(trained, TRAINED)
    assert (trained / "config.json").read_text() == intact
    assert "config.json" in caplog.text and "checkpoint 20" in caplog.text


def test_an_edited_config_json_does_not_change_what_a_run_is_resumed_with(trained):
    (trained / "config.json").write_text(json.dumps(as_dict(OTHER)))
    with pytest.raises(UsageError, match=r"optimizer\.peak_learning_rate: 0\.05 -> 0\.4"):
        open_and_close(trained, OTHER)


def test_the_configuration_of_the_checkpoint_before_a_damaged_one_is_compared(trained):
    (trained / "config.json").unlink()
    (trained / "checkpoints" / "20" / "info" / "metadata").write_text("{")
    with pytest.raises(UsageError, match=r"optimizer\.peak_learning_rate"):
        open_and_close(trained, OTHER)


def test_a_run_whose_configuration_is_nowhere_is_refused(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json"):
        open_and_close(tmp_path, TRAINED)


@pytest.mark.parametrize("content", [json.dumps(as_dict(OTHER)), "{"])
def test_a_run_that_failed_before_its_first_step_gives_way_to_a_corrected_configuration(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    for name in ("metrics.jsonl", "environment.json", ".lock"):
        (tmp_path / name).touch()
    (tmp_path / "checkpoints").mkdir()
    open_and_close(tmp_path, TRAINED)
    assert json.loads((tmp_path / "config.json").read_text()) == as_dict(TRAINED)
