"""Archives of data sets: found where a person put them, or downloaded; used only when whole."""

from pathlib import Path
from typing import NamedTuple

from resnet_jax.errors import UserError


class Archive(NamedTuple):
    """A file to download and the SHA-256 of each form of it that is accepted, the one at the URL first."""

    url: str
    sha256: tuple[str, ...]

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def fetch(archive: Archive, folder: Path) -> Path:
    """Returns the path of the archive in the folder, downloading it there if it is missing.

    Raises:
        UserError: the file there is not the archive, or the download failed; a failed one leaves nothing behind.
    """
    import pooch
    import requests

    path = folder / archive.file_name
    if path.exists():
        got = pooch.file_hash(path)
        if got not in archive.sha256:
            raise UserError(
                f"{path} is not the archive at {archive.url}: its SHA-256 is {got}, wanted is {archive.sha256[0]}. "
                "Delete it and run again, or put a whole copy there."
            )
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(archive.url, f"sha256:{archive.sha256[0]}", path.name, folder, progressbar=True)
    except (OSError, ValueError) as error:  # no network, no such page, cut short, disk full; another hash
        reason = "no connection" if isinstance(error, requests.exceptions.ConnectionError) else error
        raise UserError(
            f"{archive.file_name} could not be downloaded ({reason}). Run again with a network, or download "
            f"{archive.url} elsewhere and put it at {path}; `--config configs/digits.py` needs no download."
        ) from error
    return path
