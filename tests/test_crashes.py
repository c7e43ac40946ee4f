"""A test that crashes or hangs its process ends the whole run as a failure, with the settings of pyproject.toml."""

import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = Path(__file__).parents[1] / "pyproject.toml"


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["0", "1"])
@pytest.mark.parametrize("body", ["import os; os.abort()", "import time; time.sleep(300)"], ids=["crash", "hang"])
def test_a_test_that_crashes_or_hangs_fails_the_run(tmp_path, body, processes):
    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {body}\n")
    command = [sys.executable, "-m", "pytest", "-c", SETTINGS, "--rootdir", tmp_path, "-n", processes, tmp_path]
    run = subprocess.run([*command, "-o", "timeout=2"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode != 0 and "test_it" in run.stdout + run.stderr
