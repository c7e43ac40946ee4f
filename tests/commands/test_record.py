"""The timed trainings of `resnet-jax record`, as a process on the digits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
SMALL = ("--config", "configs/digits.py", "--model.width", "4", "--train.epochs", "1", "--evaluate.tta", "flip")


def record(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "resnet_jax", "record", *arguments]
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cwd / "compiled"), "PYTHONPATH": str(REPO)}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("record")
    result = record(*SMALL[:1], str(REPO / SMALL[1]), *SMALL[2:], "--runs", "2", cwd=folder)
    assert result.returncode == 0, result.stderr
    (record_file,) = folder.glob("record-digits-*.json")
    return result.stdout, json.loads(record_file.read_text())


@pytest.mark.slow
def test_each_run_has_the_next_seed(two):
    assert [run["seed"] for run in two[1]["runs"]] == [0, 1]


@pytest.mark.slow
def test_accuracies_and_seconds_are_those_of_real_runs(two):
    for run in two[1]["runs"]:
        assert 0.05 < run["test_accuracy"] <= 1 and 0.05 < run["plain"] <= 1 and run["seconds"] > 0


@pytest.mark.slow
def test_the_report_has_the_mean_over_the_runs(two):
    mean = sum(run["test_accuracy"] for run in two[1]["runs"]) / 2
    assert f"{100 * mean:.2f} (sd" in two[0].splitlines()[-1] and "n = 2" in two[0].splitlines()[-1]


def test_zero_runs_are_a_usage_error(tmp_path):
    result = record("--runs", "0", cwd=tmp_path)
    assert result.returncode == 2 and "--runs: got 0, expected 1 or more" in result.stderr


def test_an_output_that_cannot_be_written_is_an_error_before_training(tmp_path):
    result = record("--config", str(REPO / SMALL[1]), "--out", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 1 and result.stdout == ""
    assert f"can't write {tmp_path} (Is a directory): give another --out" in result.stderr
