"""Files in an object store, `gs://BUCKET/FOLDER` or `s3://BUCKET/FOLDER`, through fsspec."""

import errno
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from resnet_jax.errors import UsageError, UserError

LIBRARIES = {"gs": "gcsfs", "s3": "s3fs"}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""What only a local disk says."""


def is_url(name: Path | str) -> bool:
    """Tell whether this names something in an object store, also in one that is not supported.

    A `Path` makes s3:/bucket of s3://bucket; both are understood.
    """
    return re.match(r"[a-z][a-z0-9+.-]+:/", str(name)) is not None


class Bucket:
    """A folder in an object store. Names of files are relative to it; each method raises a `UserError` if it fails.

    Args:
        url: such as s3://bucket/folder.

    Raises:
        UsageError: it names no such folder, or the library for it is not installed.
    """

    def __init__(self, url: Path | str):
        self.url = re.sub(r"^([^:/]+):/(?!/)", r"\1://", str(url)).rstrip("/")
        scheme, _, self._folder = self.url.partition("://")
        if scheme not in LIBRARIES or "/" not in self._folder:
            raise UsageError(f"got {self.url}, expected a path on a disk, gs://BUCKET/FOLDER or s3://BUCKET/FOLDER")
        if find_spec(LIBRARIES[scheme]) is None:
            raise UsageError(
                f"{self.url} needs the package {LIBRARIES[scheme]}: pip install -e '.[cloud]' in a checkout of this "
                "project"
            )
        import fsspec

        with self._faults("open"):
            self._store = fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)

    def names(self) -> list[str]:
        """Return the names of all files, without those that would lead out of the folder on a disk."""
        with self._faults("list"):
            found = self._store.find(self._folder)
        names = [path.removeprefix(f"{self._folder}/") for path in found if path.startswith(f"{self._folder}/")]
        return [name for name in names if not {"/", ".."} & set(PurePosixPath(name).parts)]

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        """Copy files into a local folder, several at once."""
        wanted = list(names)
        with self._faults("read"):
            self._store.get([self._path(name) for name in wanted], [str(folder / name) for name in wanted])

    def put(self, files: Mapping[str, Path]) -> None:
        """Copy local files into the bucket by their names there, several at once."""
        with self._faults("write to"):
            self._store.put([str(path) for path in files.values()], [self._path(name) for name in files])

    def remove(self, names: Iterable[str]) -> None:
        """Delete files, one after the other."""
        with self._faults("delete a file in"):
            for name in names:
                self._store.rm_file(self._path(name))

    def write(self, name: str, text: str) -> None:
        """Write a small file."""
        with self._faults("write to"):
            self._store.pipe_file(self._path(name), text.encode())

    def read(self, name: str) -> str:
        """Read a small file; an empty text if there is none."""
        with self._faults("read"):
            try:
                return self._store.cat_file(self._path(name)).decode()
            except FileNotFoundError:
                return ""

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    @contextmanager
    def _faults(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of an HTTP client, a cloud's library or this disk: dozens of kinds
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            reason = (str(error) or repr(error)).splitlines()[0][:200]
            raise UserError(
                f"can't {what} {self.url} ({reason}): check the name of the bucket, the credentials in the environment "
                "and the connection"
            ) from error
