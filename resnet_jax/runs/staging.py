"""The folder that a run is trained in: on a disk, or a copy of one in an object store.

Orbax writes to disks and Google's store only, and an object store can neither append to a file nor rename or lock a
folder. So a run there is trained in a copy on the local disk, and what changes is uploaded with each checkpoint. The
store decides: each start begins with what is there, and removes what a killed one has left on the disk. A checkpoint
there is complete once it has its checksums, which are uploaded last.
"""

import json
import os
import platform
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import jax
from platformdirs import user_cache_path

from resnet_jax.errors import UserError
from resnet_jax.hardware.processes import check_equal, first_only, is_first
from resnet_jax.runs.bucket import Bucket, is_url
from resnet_jax.runs.fetching import CHECKPOINTS, checkpoint_of, complete, naming
from resnet_jax.runs.folder import complete_steps
from resnet_jax.runs.manifest import NAME
from resnet_jax.runs.opening import locked

OWNER = ".owner"
"""File that names the process that has started last, which alone may write."""
FINISHED = "summary.json"


class RunFolder:
    """A run folder on a disk that all processes see.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self.upload: Callable[[Path, int], None] | None = None
        """What takes a complete checkpoint and its step; each process then has a folder of its own."""

    def __str__(self) -> str:
        return str(self.path)

    def push(self) -> None:
        """Do nothing: the files are where they belong."""


class RunCopy(RunFolder):
    """The copy of a run folder in an object store; each process has one, and process 0 uploads its own.

    Args:
        path: of the copy.
        bucket: the run folder.
    """

    def __init__(self, path: Path, bucket: Bucket):
        super().__init__(path)
        self.upload = self._upload
        self._bucket = bucket
        self._sent: dict[str, tuple[int, int]] = {}
        now = datetime.now().astimezone().isoformat()
        self._owner = json.dumps({"host": platform.node(), "process": os.getpid(), "time": now})

    def __str__(self) -> str:
        return self._bucket.url

    def claim(self) -> None:
        """Become the one process that writes; another one ends when it wants to."""
        self._bucket.write(OWNER, self._owner)

    def fetch(self) -> None:
        """Replace the copy by what is in the bucket."""
        if self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        self._bucket.fetch(complete(self._bucket.names()), self.path)
        self._sent = {name: _state(path) for name, path in self._files().items()}

    def push(self) -> None:
        """Upload the files that have changed, other than checkpoints; the summary, which marks the end, last."""
        if not is_first():
            return
        self._check_owner()
        states = {name: _state(path) for name, path in self._files().items()}
        changed = {name: self.path / name for name, state in states.items() if self._sent.get(name) != state}
        for files in (changed.keys() - {FINISHED}, changed.keys() & {FINISHED}):
            self._bucket.put({name: changed[name] for name in files})
        self._sent = states

    def _upload(self, folder: Path, step: int) -> None:
        """Upload a checkpoint, after deleting those there that were deleted here.

        Args:
            folder: with the complete checkpoint.
            step: of the checkpoint.
        """
        self._check_owner()
        self._keep(set(complete_steps(folder.parent)) - {step})
        target = f"{CHECKPOINTS}/{step}"
        files = {f"{target}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*")}
        self._bucket.put({name: path for name, path in files.items() if path.is_file() and path.name != NAME})
        self._check_owner()
        self._bucket.put({f"{target}/{NAME}": folder / NAME})

    def finish(self) -> None:
        """Upload what is left of a finished run, and remove the copy."""
        self.push()
        if is_first():
            self._keep(complete_steps(self.path / CHECKPOINTS))
        shutil.rmtree(self.path)

    def _keep(self, steps: Collection[int]) -> None:
        """Delete the other checkpoints in the bucket, and first their checksums: the rest is then incomplete."""
        kept = {None, *(f"{CHECKPOINTS}/{step}" for step in steps)}
        others = [name for name in self._bucket.names() if checkpoint_of(name) not in kept]
        self._bucket.remove(sorted(others, key=lambda name: not name.endswith(f"/{NAME}")))

    def _files(self) -> dict[str, Path]:
        found = (*self.path.glob("*"), *self.path.glob("tensorboard/*"))
        visible = (path for path in found if path.is_file() and not path.name.startswith("."))
        return {path.relative_to(self.path).as_posix(): path for path in visible}

    def _check_owner(self) -> None:
        if (found := self._bucket.read(OWNER)) != self._owner:
            raise UserError(
                f"another process has started to train in {self} ({found or 'its name was deleted'}), so this one "
                "ends: let one of them continue, or give another --workdir"
            )


def _state(path: Path) -> tuple[int, int]:
    return path.stat().st_mtime_ns, path.stat().st_size


@contextmanager
def staged(workdir: Path | str) -> Iterator[RunFolder]:
    """Make the run folder available on a disk; one in an object store is complete there when the block has ended well.

    Args:
        workdir: of the run; in an object store, gs://BUCKET/FOLDER or s3://BUCKET/FOLDER.

    Raises:
        UsageError: it is in another kind of store, or a package is missing.
        UserError: the store can't be read or written, or another process trains in this folder.
    """
    if not is_url(workdir):
        yield RunFolder(Path(workdir))
        return
    bucket = Bucket(workdir)
    stage = user_cache_path("resnet_jax", appauthor=False) / "runs" / quote(bucket.url, safe="")
    copy = RunCopy(stage / str(jax.process_index()) / bucket.url.rpartition("/")[2], bucket)
    outer, inner = naming(bucket.url, stage, "XDG_CACHE_HOME"), naming(bucket.url, copy.path, "XDG_CACHE_HOME")
    with outer, inner, ExitStack() as stack:
        first_only(lambda: stack.enter_context(locked(stage)))
        first_only(copy.claim)
        copy.fetch()
        check_equal({"checkpoints": complete_steps(copy.path / CHECKPOINTS)})
        yield copy
        copy.finish()
