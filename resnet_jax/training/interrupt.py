"""Ctrl-C, SIGTERM and SIGHUP as requests to stop after the next step, instead of at once."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType

from resnet_jax import entry
from resnet_jax.errors import UserError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(UserError):
    """The run was asked to stop and has saved its state; the exit code is the shell's for that signal."""

    def __init__(self, step: int, workdir: Path, signal_number: int):
        super().__init__(f"stopped and saved at step {step}; to continue, repeat the command with --workdir {workdir}")
        self.step, self.signal_number = step, signal_number
        self.exit_code = 128 + signal_number


class StopRequest:
    """Notes SIGINT, SIGTERM and SIGHUP while it is active; a second signal acts at once, as without this object.

    Under `nohup`, SIGHUP stays ignored. Only the main thread gets signals, so in another thread it notes nothing.

    Raises:
        KeyboardInterrupt: on entry, if Ctrl-C was pressed before and its exception was lost.
    """

    signal_number = 0

    @property
    def requested(self) -> bool:
        return self.signal_number != 0

    def __enter__(self) -> "StopRequest":
        if entry.interrupted:
            raise KeyboardInterrupt
        main = threading.current_thread() is threading.main_thread()
        taken = SIGNALS if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else SIGNALS[:-1]
        self._before = {number: signal.signal(number, self._note) for number in (taken if main else ())}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        os.write(2, b"stopping after the next step; a second signal stops at once\n")  # print is not reentrant
        for each in self._before:
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
