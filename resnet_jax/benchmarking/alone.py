"""A measurement in a process of its own, so that a lack of memory ends only this one."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from resnet_jax.errors import UserError

Say = Callable[[str], None]


def measure_alone(measurement: Callable[[Say], dict[str, Any]], say: Say) -> dict[str, Any]:
    """Call `measurement(say)` in a new process, and return its figures.

    Args:
        measurement: a function that can be pickled.
        say: called in this process with the messages of the other one.

    Raises:
        UserError: that of the measurement; or its process was ended, as Linux does where memory is exhausted.
        RuntimeError: the measurement raised another error, which its process has printed.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(measurement, theirs), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process is the end of its messages
    try:
        while isinstance(received := ours.recv(), str):
            say(received)
    except EOFError:
        process.join()
        raise _ending(process.exitcode) from None
    finally:
        process.kill()
        process.join()
    if isinstance(received, UserError):
        raise received
    return received


def _answer(measurement: Callable[[Say], dict[str, Any]], connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # after Ctrl-C, the other process ends this one
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        connection.send(measurement(connection.send))
    except UserError as error:
        connection.send(error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _ending(code: int | None) -> UserError | RuntimeError:
    """Return the error of a process that ended without figures: it was killed or aborted, or has printed its error."""
    if code is None or code >= 0:
        return RuntimeError("the process that measures has failed")
    name = signal.Signals(-code).name
    return UserError(f"its process was ended by {name}, as where memory is exhausted: choose a smaller --batch-size")
