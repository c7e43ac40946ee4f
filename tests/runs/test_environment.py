"""The environment that a run was started in."""

import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from resnet_jax.errors import UserError
from resnet_jax.runs.environment import environment, record_start


def test_the_environment_describes_the_process():
    result = environment()
    assert json.loads(json.dumps(result)) == result
    assert result["command"] == sys.argv and result["python"] == platform.python_version()
    assert result["packages"]["jax"] == importlib.metadata.version("jax")
    assert result["backend"] == "cpu" and result["devices"] == ["cpu"] * 8


def test_the_environment_names_the_commit_of_a_checkout():
    checkout = subprocess.run(["git", "-C", Path(__file__).parent, "rev-parse", "HEAD"], capture_output=True, text=True)
    if checkout.returncode != 0:
        pytest.skip("these sources are not a git checkout")
    assert re.fullmatch(checkout.stdout.strip() + "(-dirty)?", environment()["git_commit"])


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment()["git_commit"] is None


def test_a_damaged_record_of_the_starts_is_an_error_that_is_remedied_by_deleting_it(tmp_path):
    path = tmp_path / "environment.json"
    path.write_text("[")
    with pytest.raises(UserError, match=r"environment\.json .*delete it"):
        record_start(tmp_path)
    path.unlink()
    record_start(tmp_path)
    assert len(json.loads(path.read_text())) == 1


def test_every_start_is_added_to_the_single_one_that_an_older_version_stored(tmp_path):
    path = tmp_path / "environment.json"
    path.write_text(json.dumps({"command": ["train.py"]}))
    record_start(tmp_path)
    record_start(tmp_path)
    assert [start["command"] for start in json.loads(path.read_text())] == [["train.py"], sys.argv, sys.argv]
