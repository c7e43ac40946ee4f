"""Ctrl-C and SIGTERM as requests to stop after the next step, instead of at once."""

import os
import signal
from pathlib import Path
from types import FrameType

from resnet_jax.errors import UserError


class Interrupted(UserError):
    """The run was asked to stop and has saved its state; the exit code is the shell's for that signal."""

    def __init__(self, step: int, workdir: Path, signal_number: int):
        super().__init__(f"stopped and saved at step {step}; to continue, repeat the command with --workdir {workdir}")
        self.exit_code = 128 + signal_number


class StopRequest:
    """Notes SIGINT and SIGTERM while it is active; a second signal acts at once, as it would without this object."""

    signal_number = 0

    @property
    def requested(self) -> bool:
        return self.signal_number != 0

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        os.write(2, b"stopping after the next step; a second signal stops at once\n")  # print is not reentrant
        for each in self._before:
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
