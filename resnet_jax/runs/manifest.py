"""Checksums of a folder's files: a file that was cut short or has a flipped bit is noticed when it is read."""

import json
import zlib
from pathlib import Path

NAME = "checksums.json"
CHUNK = 1 << 20


def write_manifest(folder: Path) -> None:
    """Write the CRC-32 of every file below `folder` into it, except those directly in it."""
    new = folder / f"{NAME}.new"
    new.write_text(json.dumps({name: _checksum(folder / name) for name in _files(folder)}))
    new.replace(folder / NAME)


def check_manifest(folder: Path, below: str = "") -> None:
    """Compare the files with their checksums, if the folder has any: older versions wrote none.

    Args:
        folder: of the manifest.
        below: beginning of the names that are compared.

    Raises:
        ValueError: a file differs, is missing, or is not in the manifest, or the manifest is damaged.
        OSError: a file can't be read.
    """
    if not (folder / NAME).exists():
        return
    expected = json.loads((folder / NAME).read_text())
    if not isinstance(expected, dict):
        raise ValueError(f"{NAME} is damaged")
    names = [name for name in sorted(expected.keys() | _files(folder)) if name.startswith(below)]
    differing = [
        name for name in names if not (folder / name).is_file() or _checksum(folder / name) != expected.get(name)
    ]
    if differing:
        raise ValueError(f"the checksums of {len(differing)} of {len(names)} files differ, such as {differing[0]}")


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.glob("*/**/*") if path.is_file()}


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            value = zlib.crc32(chunk, value)
    return value
