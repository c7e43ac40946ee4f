"""Around a command: errors of the user end in one line, and Ctrl-C ends it at any moment."""

import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType

from resnet_jax.errors import UserError, printable

interrupted = False
"""Whether Ctrl-C was pressed."""


def run(main: Callable[[], object], *, stopped: str = "stopped") -> None:
    """Run a command: errors that the user caused end with one line and their exit code, Ctrl-C with `stopped`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell starts background jobs without it
        signal.signal(signal.SIGINT, partial(_interrupt, stopped))
        sys.unraisablehook = partial(_unraisable, stopped, sys.unraisablehook)
    logging.basicConfig(format="%(message)s")  # warnings are sentences, without the names of modules
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack the letters of a name
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except UserError as error:
        sys.exit(report(error))
    except BrokenPipeError:  # `... | head`
        os._exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        _end(stopped)


def report(error: UserError) -> int:
    """Print an error that the user caused, and return its exit code."""
    _complain(f"error: {error}" if error.exit_code < 128 else str(error))
    return error.exit_code


def _interrupt(stopped: str, number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; end the process instead during an import, since compiled modules replace it or abort."""
    global interrupted
    interrupted = True
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _end(stopped)
        frame = frame.f_back
    raise KeyboardInterrupt


def _unraisable(stopped: str, original: Callable, unraisable: "sys.UnraisableHookArgs") -> None:
    """End the process if a KeyboardInterrupt is lost in a destructor or callback; report what else is lost before."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _end(stopped)
    if not interrupted:
        original(unraisable)


def _end(stopped: str) -> None:
    """Print `stopped` and end the process at once: sys.exit would wait for the checkpoint that is being written."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""
    os.write(2, f"{show_cursor}{stopped}\n".encode())
    os._exit(128 + signal.SIGINT)


def _complain(message: str) -> None:
    from rich.console import Console

    safe = "\n".join(map(printable, message.split("\n")))
    Console(stderr=True).print(safe, style="red", highlight=False, markup=False, soft_wrap=True)
