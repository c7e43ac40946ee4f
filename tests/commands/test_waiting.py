"""What takes more than a second is said on standard error."""

import os
import pty
import subprocess
import sys
import time

import pytest

from resnet_jax.commands import waiting as module
from resnet_jax.commands.waiting import waiting

SLOW = """
import time
from resnet_jax.commands.waiting import waiting

with waiting("compiling", plain=False):
    time.sleep(2)
"""


@pytest.mark.parametrize(("seconds", "plain", "shown"), [(0.5, True, "compiling\n"), (0.5, False, ""), (0.0, True, "")])
def test_without_a_terminal_a_line_comes_only_after_a_while_and_if_asked_for(
    capsys, monkeypatch, seconds, plain, shown
):
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    with waiting("compiling", plain=plain):
        time.sleep(seconds)
    out, err = capsys.readouterr()
    assert (out, err) == ("", shown)


def test_an_error_inside_is_not_held_back():
    with pytest.raises(ValueError, match="inside"), waiting("compiling", plain=True):
        raise ValueError("inside")


def test_a_terminal_shows_it_and_has_its_cursor_back():
    parent, child = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", SLOW], stderr=child, env=os.environ | {"TERM": "xterm"}) as process:
        os.close(child)
        assert process.wait(60) == 0
    screen = os.read(parent, 65536).decode()
    os.close(parent)
    assert "compiling" in screen and screen.count("\x1b[?25l") == screen.count("\x1b[?25h") == 1
