"""Faults of disk, memory and numerics, as errors that name the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from resnet_jax.errors import DISK_ERRORS, UserError
from resnet_jax.runs.checkpoint import Checkpoints


@contextmanager
def disk_faults(workdir: Path | str) -> Iterator[None]:
    """Turn an error of the file system inside into a `UserError` with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise UserError(
            f"can't write to {workdir}: {error.strerror}; free space or correct the permissions, then repeat the "
            f"command with --workdir {workdir} to continue from the last checkpoint"
        ) from error


@contextmanager
def memory_faults(remedy: str) -> Iterator[None]:
    """Turn a lack of memory inside, on the host or a device, into a `UserError` with the remedy."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(f"out of memory: {remedy}") from error


def diverged(what: str, checkpoints: Checkpoints) -> UserError:
    """Return the error for a run whose `what` is not finite, after waiting for the checkpoint that is being written."""
    checkpoints.close()
    last = f"step {checkpoints.steps[-1]} in {checkpoints.directory}" if checkpoints.steps else "none was written yet"
    return UserError(
        f"{what} is not a finite number; the last good checkpoint: {last}. Start again in a new --workdir with a lower "
        "--optimizer.peak-learning-rate, a longer --optimizer.warmup, or --optimizer.clip-norm 1"
    )
