"""The images that a command has been given: files, folders, patterns, and a pipe."""

import atexit
import os
import sys
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from tempfile import NamedTemporaryFile

from resnet_jax.data.reading.folder import list_images
from resnet_jax.data.reading.skipped import OVERLAY, describe_skipped
from resnet_jax.errors import UserError, printable

STANDARD_INPUT = "standard-input"
"""Name of an image that is read from standard input."""


def find_images(names: Sequence[str]) -> list[tuple[str, Path]]:
    """List the images in folders, matched by patterns and named on standard input, "-"; other names are kept.

    Returns:
        The name and the file of each image; they differ for an image on standard input, called `STANDARD_INPUT`.

    Raises:
        UserError: no image is found.
    """
    content = sys.stdin.buffer.read() if "-" in names else b""
    image = b"\0" in content
    lines = [STANDARD_INPUT] if image else [os.fsdecode(line) for line in content.splitlines()]
    given = [each for name in names for each in (lines if name == "-" else [name]) if each]
    skipped: list[Path] = []
    paths = [path for name in given for path in _expand(name, skipped) or [name]]
    if remark := describe_skipped(skipped):
        print(printable(remark), file=sys.stderr)
    found = [(path, _copy(content) if image and path is lines[0] else Path(path)) for path in paths]
    if not any(path.is_file() for _, path in found):
        got = ", ".join(given[:3]) + (", ..." if len(given) > 3 else "")
        raise UserError(
            f"no image found: got {got or 'no path'}, expected images, folders of images or patterns ('*.jpg')"
        )
    return found


def _copy(content: bytes) -> Path:
    """Return a file with this content, which is removed when the process ends."""
    copy = NamedTemporaryFile()  # noqa: SIM115
    copy.write(content)
    copy.flush()
    atexit.register(copy.close)
    return Path(copy.name)


def _expand(name: str, skipped: list[Path]) -> list[str]:
    if os.path.isdir(name):
        return [str(path) for path in list_images(Path(name), skipped)]
    if has_magic(name) and not os.path.exists(name):
        found = [path for path in sorted(glob(name, recursive=True)) if os.path.isfile(path)]
    else:
        return [name]
    return [path for path in found if not path.endswith(OVERLAY)]
