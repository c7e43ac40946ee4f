"""Opening a run folder for training: made, or checked against its configuration, and locked meanwhile."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from resnet_jax.config import Config, as_dict, differences, from_dict
from resnet_jax.errors import UsageError, UserError
from resnet_jax.hardware.processes import first_only
from resnet_jax.json_files import read_json
from resnet_jax.runs.folder import REMEDY, has_trained, write_json
from resnet_jax.runs.stored import read_latest_info


@contextmanager
def open_workdir(workdir: Path, config: Config, *, separate: bool = False) -> Iterator[None]:
    """Make the run folder, or check that the run in it has this configuration, and lock it meanwhile.

    Of several processes, the first does so, and an error of its is raised in all; each does so if the folders are
    `separate`, one for each process.

    Raises:
        UserError: it can't be written, or another process is training in it.
        UsageError: it holds a run of another configuration, or one written by another version with other fields.
    """
    with ExitStack() as stack:

        def open_it() -> None:
            stack.enter_context(locked(workdir))
            _claim(workdir, as_dict(config))

        if separate:
            open_it()
        else:
            first_only(open_it)
        if not (workdir / ".lock").exists():
            raise UserError(
                f"the run folder {workdir} of process 0 is not visible here: all hosts need one --workdir on a file "
                "system that they share"
            )
        yield


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Make a folder, and lock it meanwhile.

    Raises:
        UserError: it can't be written, or another process has locked it.
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
        yield


def _claim(workdir: Path, config: dict[str, Any]) -> None:
    """Compare the configuration with that of the run in the folder, and write `config.json` where it is missing.

    What a checkpoint was trained with is stored in it and decides; `config.json` may have been changed or deleted.

    Raises:
        UserError: the run's configuration is lost.
        UsageError: it is another one.
    """
    path = workdir / "config.json"
    if not has_trained(workdir):  # new, or it failed before its first step: a corrected command takes its place
        write_json(path, config)
        return
    latest = read_latest_info(workdir / "checkpoints")
    written, problem = None, "it is missing"
    try:
        written = _complete(read_json(path, dict[str, Any], REMEDY)) if path.exists() else None
    except UserError as error:
        if latest is None:
            raise
        problem = str(error)
    trained = written if latest is None else _complete(latest.info["config"])
    if trained is None:
        raise UserError(f"{workdir} holds a run, but not its configuration {path}: {REMEDY}")
    config = config | {"data": config["data"] | {"workers": trained["data"]["workers"]}}  # changes no result
    if changed := differences(trained, config):
        raise UsageError(
            f"{workdir} holds a run of another configuration ({'; '.join(changed)}): "
            "repeat it with its own values to resume it, or give another --workdir"
        )
    if latest is not None and written != config:
        logging.getLogger(__name__).warning(
            "%s is not what checkpoint %d was trained with (%s); it is written again",
            *(path, latest.step, "; ".join(differences(written, config)) if written else problem),
        )
        write_json(path, config)


def _complete(stored: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the defaults of fields that an older version did not have."""
    return as_dict(from_dict(stored))
