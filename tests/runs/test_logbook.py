"""What the logbook writes and what is read back."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from resnet_jax.config import Config
from resnet_jax.errors import UsageError
from resnet_jax.runs.folder import read_metrics, read_summary
from resnet_jax.runs.logbook import Logbook


def open_logbook(workdir: Path, *, step: int = 0, wandb_project: str | None = None) -> Logbook:
    return Logbook(workdir, Config(), step=step, wandb_project=wandb_project)


def write_steps(workdir: Path, *steps: int, after: int = 0) -> None:
    with open_logbook(workdir, step=after) as logbook:
        for step in steps:
            logbook.write(step=step, epoch=step - 1, split="train", loss=1 / step, accuracy=0.5)


def steps_in(workdir: Path) -> list[int]:
    return [line["step"] for line in read_metrics(workdir)]


def test_lines_are_read_as_they_were_written(tmp_path):
    write_steps(tmp_path, 3)
    assert read_metrics(tmp_path) == [{"step": 3, "epoch": 2, "split": "train", "loss": 1 / 3, "accuracy": 0.5}]


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path):
    with open_logbook(tmp_path) as logbook:
        logbook.write(step=1, epoch=0, split="train", loss=1.0)
        assert steps_in(tmp_path) == [1]


def test_lines_after_the_resumed_step_are_dropped(tmp_path):
    write_steps(tmp_path, 1, 2, 3)
    write_steps(tmp_path, 3, after=2)
    assert steps_in(tmp_path) == [1, 2, 3]


def test_an_incomplete_last_line_is_ignored_and_then_replaced(tmp_path):
    write_steps(tmp_path, 1, 2)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-10])
    assert steps_in(tmp_path) == [1]
    write_steps(tmp_path, 2, after=1)
    assert steps_in(tmp_path) == [1, 2]


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    with open_logbook(tmp_path) as logbook:
        logbook.finish({"test_accuracy": 0.5})
        monkeypatch.setattr(Path, "replace", lambda self, target: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            logbook.finish({"test_accuracy": 0.75})
    assert read_summary(tmp_path) == {"test_accuracy": 0.5}


def test_wandb_that_is_not_installed_is_a_usage_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match="wandb"):
        open_logbook(tmp_path, wandb_project="digits")


def test_wandb_gets_the_figures_of_every_line(tmp_path, monkeypatch):
    logged = {}
    run = SimpleNamespace(
        log=lambda figures, step: logged.update({step: figures}), finish=lambda: logged.update(end=True), summary={}
    )
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **options: run))
    with open_logbook(tmp_path, wandb_project="digits") as logbook:
        logbook.write(step=4, epoch=1, split="test", accuracy=0.5)
        logbook.finish({"test_accuracy": 0.5})
    assert logged == {4: {"test/accuracy": 0.5}, "end": True} and run.summary == {"test_accuracy": 0.5}
