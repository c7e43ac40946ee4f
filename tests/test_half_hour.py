"""The script for half an hour on a GPU, tried on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "half_hour.py"


def run(out: Path, *options: str) -> str:
    command = [sys.executable, str(SCRIPT), str(out), "--tiny", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_what_does_not_fit_into_the_time_is_said_and_left_for_the_next_call(tmp_path):
    assert "8 px: no time left" in run(tmp_path, "--minutes", "0")
    assert "| 8 px | no time left |" in (tmp_path / "report.md").read_text()
    assert "figure" not in json.loads((tmp_path / "results.json").read_text())["8 px"]


@pytest.mark.slow  # two processes that compile
def test_the_same_command_goes_on_with_what_is_missing(tmp_path):
    missing = "stream of photographs", "layouts of the compiler's choice"
    run(tmp_path, "--minutes", "0")
    results = json.loads((tmp_path / "results.json").read_text())
    earlier = {name: {"figure": "kept"} for name in results if name not in missing}
    (tmp_path / "results.json").write_text(json.dumps(earlier))
    assert "kept" not in run(tmp_path)
    rows = (tmp_path / "report.md").read_text()
    assert all(f"| {name} | kept |" in rows for name in earlier)
    assert rows.count("images/s") == 2 and "chosen" in rows and "as written" in rows
