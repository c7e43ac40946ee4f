"""The errors that a user can cause, each with its exit code."""

import errno
import io
import logging
import os
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}
"""What a file system says that is full, broken or not to be written to."""

interrupted = False
"""Whether Ctrl-C was pressed. Its exception is lost if it is raised in a destructor or a callback."""


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


def run(main: Callable[[], object], *, stopped: str = "stopped") -> None:
    """Run a command: errors that the user caused end with one line and their exit code, Ctrl-C with `stopped`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell starts background jobs without it
        signal.signal(signal.SIGINT, partial(_interrupt, stopped))
    logging.basicConfig(format="%(message)s")  # warnings are sentences, without the names of modules
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack the letters of a name
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except UserError as error:
        _complain(f"error: {error}" if error.exit_code < 128 else str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `... | head`
        os._exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _complain(stopped)
        os._exit(128 + signal.SIGINT)  # sys.exit would wait for the checkpoint that is being written


def _interrupt(stopped: str, number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; end the process instead during an import, since compiled modules replace it or abort."""
    global interrupted
    interrupted = True
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            show_cursor = "\x1b[?25h" if os.isatty(2) else ""
            os.write(2, f"{show_cursor}{stopped}\n".encode())
            os._exit(128 + signal.SIGINT)
        frame = frame.f_back
    raise KeyboardInterrupt


def _complain(message: str) -> None:
    from rich.console import Console

    safe = "\n".join(map(printable, message.split("\n")))
    Console(stderr=True).print(safe, style="red", highlight=False, markup=False, soft_wrap=True)
