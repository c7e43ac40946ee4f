"""Run folders in an object store, copied to the local disk to be read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from resnet_jax.errors import DISK_ERRORS, UserError
from resnet_jax.runs.bucket import Bucket
from resnet_jax.runs.manifest import NAME

CHECKPOINTS = "checkpoints"


def checkpoint_of(name: str) -> str | None:
    """Return the folder of the checkpoint that a file belongs to, by its name in the run folder, or None."""
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] == CHECKPOINTS and len(parts) > 2 else None


def complete(names: Sequence[str]) -> list[str]:
    """Return the names without hidden files and those of incomplete checkpoints: checksums are uploaded last."""
    whole = {None, *(checkpoint_of(name) for name in names if name.endswith(f"/{NAME}"))}
    return [name for name in names if checkpoint_of(name) in whole and not name.startswith(".")]


@contextmanager
def fetched(url: Path | str, *, weights: bool) -> Iterator[Path]:
    """Copy a run folder into a temporary one.

    Args:
        url: of the run folder.
        weights: whether to copy the checkpoints and nothing else, or everything else.

    Raises:
        UserError: there is no such run, or it can't be read.
    """
    bucket = Bucket(url)
    names = complete(bucket.names())
    if weights:
        names = [name for name in names if checkpoint_of(name)]
    else:  # of a checkpoint, its step is enough
        names = [name for name in names if not checkpoint_of(name) or name.endswith(f"/{NAME}")]
    if not names:
        raise UserError(
            f"there is no {'checkpoint' if weights else 'run'} in {bucket.url}: expected the --workdir of a run; "
            "correct the address"
        )
    with TemporaryDirectory(prefix="run-") as folder, naming(bucket.url, Path(folder), "TMPDIR"):
        bucket.fetch(names, Path(folder))
        yield Path(folder)


@contextmanager
def naming(url: str, folder: Path, variable: str) -> Iterator[None]:
    """Name a run folder as the user does in errors of what is done inside with its copy.

    Args:
        url: of the run folder.
        folder: of the copy.
        variable: of the environment, which names the disk of the copy.

    Raises:
        UserError: inside, such an error was raised, or one of the local disk.
    """
    try:
        yield
    except UserError as error:
        if error.__cause__ is None:  # otherwise it is about a file of the copy
            error.args = (str(error).replace(str(folder), url),)
        raise
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise UserError(
            f"can't write the copy of {url} in {folder} ({error.strerror}): free space there, or set {variable} to a "
            "folder on another disk"
        ) from error
