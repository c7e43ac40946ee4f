"""Archives of data sets: found in a folder or downloaded, and verified."""

from pathlib import Path
from typing import NamedTuple

from resnet_jax.errors import DISK_ERRORS, UserError


class Archive(NamedTuple):
    """A file to download and the accepted SHA-256 values, that of the file at the URL first."""

    url: str
    sha256: tuple[str, ...]

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def fetch(archive: Archive, folder: Path) -> Path:
    """Return the path of the archive in the folder, after downloading it if it is missing.

    Raises:
        UserError: the file there is not the archive, or it can't be downloaded or written; then no file is left.
    """
    import pooch
    import requests

    path = folder / archive.file_name
    if path.exists():
        got = pooch.file_hash(path)
        if got not in archive.sha256:
            raise UserError(
                f"{path} is not the archive at {archive.url}: its SHA-256 is {got}, expected {archive.sha256[0]}. "
                "Delete it and run again, or put an intact copy there."
            )
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(archive.url, f"sha256:{archive.sha256[0]}", path.name, folder, progressbar=True)
    except (OSError, ValueError) as error:  # no network, no such page, cut short, disk full; another hash
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise UserError(
                f"can't write {path} ({error.strerror}): free space or allow writing there, or name another folder "
                "with --data.dir"
            ) from error
        reason = "no connection" if isinstance(error, requests.exceptions.ConnectionError) else error
        raise UserError(
            f"could not download {archive.file_name} ({reason}). Run again with a connection, or download "
            f"{archive.url} elsewhere and put it at {path}; the recipe configs/digits.py needs no download."
        ) from error
    return path
