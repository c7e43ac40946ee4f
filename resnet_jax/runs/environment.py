"""What a run was started with: command, versions, devices and the commit of the code."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import jax

from resnet_jax.json_files import read_json
from resnet_jax.runs.folder import write_json

PACKAGES = (
    *("resnet-nnx", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy", "pillow"),
    "cykooz-resizer",
)


def environment() -> dict[str, Any]:
    """Return time, command, versions, devices and the git commit of this process."""
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": [device.device_kind for device in jax.devices()],
        "backend": jax.default_backend(),
        "git_commit": _git_commit(),
    }


def record_start(workdir: Path) -> None:
    """Add this process to `environment.json`, a list of all starts of the run."""
    path = workdir / "environment.json"
    starts = read_json(path, list | dict, "delete it, as it only describes earlier starts") if path.exists() else []
    if isinstance(starts, dict):  # a version that kept the last start only
        starts = [starts]
    write_json(path, [*starts, environment()])


def processor() -> str:
    """Return the name of this machine's processor with the number of cores that this process may use."""
    try:
        listed = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        listed = ""
    name = re.search(r"^model name\s*:\s*(.+)$", listed, re.MULTILINE)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name[1].strip() if name else platform.processor() or platform.machine()}, {cores} cores"


def _git_commit() -> str | None:
    """Return the commit, with "-dirty" if a file was changed since; None outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
    except FileNotFoundError:  # git is not installed
        return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
