"""What a command is busy with, said where nothing else would be seen for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

from rich.console import Console

PATIENCE = 1.0  # seconds until it is said


@contextmanager
def waiting(what: str, *, plain: bool) -> Iterator[None]:
    """Say on standard error what takes time inside, if it takes more than a second.

    Args:
        what: is going on.
        plain: print one line where there is no terminal; otherwise only a terminal shows anything.
    """
    console = Console(stderr=True, highlight=False)
    status = console.status(what)
    timer = Timer(PATIENCE, status.start if console.is_terminal else lambda: console.print(what))
    if plain or console.is_terminal:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()
        status.stop()
