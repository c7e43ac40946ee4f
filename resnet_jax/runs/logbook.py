"""The run folder: configuration, environment, metrics line by line, TensorBoard events and the summary."""

import fcntl
import importlib.metadata
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from resnet_jax.config import Config, as_dict, differences, from_dict
from resnet_jax.errors import UsageError, UserError

PACKAGES = ("resnet-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")


@contextmanager
def open_workdir(workdir: Path, config: Config) -> Iterator[None]:
    """Makes the run folder, or checks that the run in it has this configuration, and locks it meanwhile.

    Raises:
        UserError: it can't be written, or another process is training in it.
        UsageError: it holds a run of another configuration.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / ".lock").open("w")
    except OSError as error:
        raise UserError(f"can't write to the run folder {workdir}: {error}; give a writable --workdir") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is training in {workdir}: wait for it, stop it, or give another --workdir"
            ) from None
        path = workdir / "config.json"
        if not path.exists():
            _write_json(path, as_dict(config))
        elif changed := differences(as_dict(from_dict(_read_json(path))), as_dict(config)):
            raise UsageError(
                f"{workdir} holds a run of another configuration ({'; '.join(changed)}): "
                "repeat it with its own values to resume, or give another --workdir"
            )
        yield


class Logbook:
    """Writes what happens in a run into its folder; to be closed by a `with` block.

    Args:
        workdir: the run folder.
        step: step that the run continues from; later lines of an interrupted run are taken out, as they come again.
        wandb_project: Weights & Biases project to log to as well; None for none.
    """

    def __init__(self, workdir: Path, config: Config, *, step: int, wandb_project: str | None):
        self._wandb = None
        if wandb_project is not None:
            self._wandb = _import_wandb().init(
                project=wandb_project, name=workdir.name, id=workdir.name, config=as_dict(config), resume="allow"
            )
        self.workdir = workdir
        self._metrics_path = workdir / "metrics.jsonl"
        lines = [line for line in read_metrics(workdir) if line["step"] <= step]
        _write_text(self._metrics_path, "".join(json.dumps(line) + "\n" for line in lines))
        self._metrics = self._metrics_path.open("a")
        (workdir / "tensorboard").mkdir(exist_ok=True)
        # Not tensorboardX's SummaryWriter: its thread dies of a full disk, and the run then waits for it forever.
        self._board = EventsWriter(str(workdir / "tensorboard" / "events"), filename_suffix=f".{step}")
        self._board.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))  # hides later
        _write_json(workdir / "environment.json", environment())

    def __enter__(self) -> "Logbook":
        return self

    def __exit__(self, *error) -> None:
        self._metrics.close()
        self._board.close()
        if self._wandb:
            self._wandb.finish()

    def write(self, **values: Any) -> None:
        """Adds a line with `step`, `epoch`, `split` and figures; accuracies are shares, losses nats."""
        self._metrics.write(json.dumps(values) + "\n")
        self._metrics.flush()
        figures = {key: value for key, value in values.items() if isinstance(value, float) and math.isfinite(value)}
        for key, value in figures.items():
            summary = scalar(f"{values['split']}/{key}", value)
            self._board.write_event(Event(wall_time=time.time(), step=values["step"], summary=summary))
        self._board.flush()
        if self._wandb:
            self._wandb.log({f"{values['split']}/{k}": v for k, v in figures.items()}, step=values["step"])

    def finish(self, summary: dict[str, Any]) -> None:
        """Writes `summary.json`, which marks the run as finished."""
        _write_json(self.workdir / "summary.json", summary)
        if self._wandb:
            self._wandb.summary.update(summary)


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Reads the lines of `metrics.jsonl`; a last line cut short by a kill is left out."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1]]


def read_summary(workdir: Path) -> dict[str, Any] | None:
    """Reads the summary of a finished run; None where it has not finished."""
    path = workdir / "summary.json"
    return _read_json(path) if path.exists() else None


def environment() -> dict[str, Any]:
    """Versions, devices and the code's git commit."""
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": [device.device_kind for device in jax.devices()],
        "backend": jax.default_backend(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit, with "-dirty" where a file was changed since; None outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
    except FileNotFoundError:  # there is no git
        return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _import_wandb():
    try:
        import wandb
    except ImportError:
        raise UsageError("--wandb needs Weights & Biases: pip install 'resnet-jax[wandb]'") from None
    return wandb


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _write_json(path: Path, value: dict[str, Any]) -> None:
    _write_text(path, json.dumps(value, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    """Replaces a file in one go, so that a kill leaves the old or the new one."""
    new = path.with_suffix(path.suffix + ".new")
    new.write_text(text)
    new.replace(path)
