"""The files of a run folder, read and written."""

import fcntl
import json
from pathlib import Path
from typing import Any

import msgspec

from resnet_jax.checked_text import read_text, write_text
from resnet_jax.errors import UserError
from resnet_jax.json_files import Count, check_json, read_json

REMEDY = "restore it from a copy, or use another run folder"


class Line(msgspec.Struct):
    """The types in a line of `metrics.jsonl`."""

    step: Count
    epoch: Count = 0
    split: str = ""
    loss: float | None = None
    accuracy: float | None = None
    images_per_second: float | None = None


class Summary(msgspec.Struct):
    """The types in `summary.json`."""

    test_accuracy: float | None = None
    test_loss: float | None = None
    test_calibration_error: float | None = None
    evaluated_step: Count | None = None
    steps: Count | None = None
    parameters: Count | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    dataset: str = ""


def is_locked(workdir: Path) -> bool | None:
    """Tell whether a process is training in a run folder; None if it is a copy, which has no lock."""
    try:
        with (workdir / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no such file
        return None
    return False


def has_trained(workdir: Path) -> bool:
    """Tell whether a run has left anything of its training: a checkpoint, even a damaged one, a figure or a summary."""
    metrics = workdir / "metrics.jsonl"
    return (
        (workdir / "summary.json").exists()
        or any((workdir / "checkpoints").glob("[0-9]*"))
        or (metrics.exists() and metrics.stat().st_size > 0)
    )


def read_summary(workdir: Path) -> dict[str, Any] | None:
    """Read the summary of a finished run; None if it has not finished.

    Raises:
        UserError: it is damaged.
    """
    path = workdir / "summary.json"
    if not path.exists():
        return None
    summary: dict[str, Any] = read_json(path, dict[str, Any], REMEDY)
    check_json(summary, Summary, str(path), REMEDY)
    return summary


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Read the lines of `metrics.jsonl`, without an incomplete last line.

    Raises:
        UserError: it can't be read, or another line is damaged.
    """
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in read_text(path, growing=True).split("\n")[:-1]]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"can't read {path} ({error}): {REMEDY}") from error
    check_json(lines, list[Line], str(path), REMEDY)
    return lines


def complete_steps(directory: Path) -> list[int]:
    """Return the steps of the complete checkpoints in a folder, ascending."""
    return sorted(int(path.name) for path in directory.glob("[0-9]*") if path.name.isdigit())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; if the process is killed, the old or the new one remains."""
    write_text(path, json.dumps(value, indent=2) + "\n")
