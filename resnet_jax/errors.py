"""The errors that a user can cause, each with its exit code."""

import errno
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}
"""What a file system says that is full, broken or not to be written to."""


class UserError(Exception):
    """Something outside the code is wrong: the message says what was given, what is expected and the remedy."""

    exit_code = 1


class UsageError(UserError):
    """The command line or the configuration is wrong."""

    exit_code = 2


def at_least(least: int, **options: object) -> None:
    """Raise a `UsageError` for the first of `options` that is a number below `least`."""
    for name, got in options.items():
        if isinstance(got, int | float) and not got >= least:
            raise UsageError(f"--{name.replace('_', '-')}: got {got}, expected {least} or more")


def printable(text: str) -> str:
    """Return a name from outside, such as a file's or a class's, without characters that a terminal would interpret.

    Control characters, invisible formatting and bytes that are not UTF-8 are replaced by their escapes.
    """
    return "".join(
        character
        if character.isprintable() or unicodedata.category(character) == "Zs"
        else character.encode("unicode_escape").decode()
        for character in text
    )


@contextmanager
def writing(path: Path, remedy: str) -> Iterator[None]:
    """Turn an error of the file system inside into a `UserError` with the remedy."""
    try:
        yield
    except OSError as error:
        raise UserError(f"can't write {path} ({error.strerror or error}): {remedy}") from error
