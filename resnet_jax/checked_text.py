"""Text files with checksums beside them: a damaged one is noticed when it is read.

JSON has no redundancy of its own. A flipped bit makes another digit of a digit, and so another learning rate or another
curve. `.checksums`, in the same folder, has a line for each state that a file is given: CRC-32, bytes and name. It is
written before the file, so a kill leaves no state without its line, and the files themselves stay as people expect.
"""

import logging
import re
import zlib
from pathlib import Path

NAME = ".checksums"


def write_text(path: Path, text: str) -> None:
    """Write a text file; a kill leaves the old or the new one."""
    _record(path, *_state(text.encode()))
    new = path.with_suffix(path.suffix + ".new")
    new.write_bytes(text.encode())
    new.replace(path)


def read_text(path: Path, *, growing: bool = False) -> str:
    """Read a text file; a warning is logged if it has another content than it was given.

    That is a warning, and not an error: a person may change these files on purpose, and after a power failure, files
    and checksums may differ by some lines. A file without a line in `.checksums` is not compared.

    Args:
        path: of the file.
        growing: whether lines are added to it, of which a kill may have cut the last one short.

    Raises:
        OSError: it can't be read.
        UnicodeDecodeError: it is not a text.
    """
    content, states = path.read_bytes(), _last_states(path)
    whole = content[: content.rfind(b"\n") + 1] if growing else content
    cut_short = bool(states) and len(content) < states[-1][1]
    if states and _state(whole if cut_short else content) not in states:
        logging.getLogger(__name__).warning(
            "%s is damaged, or was changed by hand: its checksum in %s differs. Restore it from a copy unless it was "
            "changed on purpose",
            *(path, path.with_name(NAME)),
        )
    return whole.decode()


class GrowingText:
    """A text file to which lines are added, one checksum for each.

    Args:
        path: of the file, which is replaced.
        text: the first lines.
    """

    def __init__(self, path: Path, text: str):
        write_text(path, text)
        self._path, (self._sum, self._length) = path, _state(text.encode())
        self._file = path.open("ab")

    def add(self, line: str) -> None:
        """Add a line, which is on disk when this returns."""
        content = f"{line}\n".encode()
        self._sum, self._length = zlib.crc32(content, self._sum), self._length + len(content)
        _record(self._path, self._sum, self._length)
        self._file.write(content)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _state(content: bytes) -> tuple[int, int]:
    return zlib.crc32(content), len(content)


def _record(path: Path, checksum: int, length: int) -> None:
    with path.with_name(NAME).open("a", encoding="utf-8") as file:
        file.write(f"\n{checksum:08x} {length} {path.name}")  # first the line's end: one that was cut short stays alone


def _last_states(path: Path) -> list[tuple[int, int]]:
    """Return the state that the file was given last and the one before, which it still has if a kill came between."""
    if not path.with_name(NAME).exists():
        return []
    lines = path.with_name(NAME).read_text(encoding="utf-8", errors="replace").split("\n")
    found = [re.fullmatch(r"([0-9a-f]{8}) (\d+) (.*)", line) for line in lines]
    return [(int(match[1], 16), int(match[2])) for match in found if match and match[3] == path.name][-2:]
