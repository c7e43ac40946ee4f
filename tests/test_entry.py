"""What is around a command: Ctrl-C, and what is printed when it ends."""

import subprocess
import sys

import pytest

DESTRUCTOR = """
class Buffer:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def main():
    Buffer()
    print("goes on")
"""
PLAIN = """
def main():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        print("cleans up")
"""


def ended(main: str) -> subprocess.CompletedProcess:
    """Run a function `main` as a command, in a new process."""
    code = f"import signal\nfrom resnet_jax.entry import run\n{main}\nrun(main)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("main, printed", [(DESTRUCTOR, ""), (PLAIN, "cleans up\n")], ids=["destructor", "code"])
def test_ctrl_c_ends_a_command_even_where_its_exception_is_lost(main, printed):
    result = ended(main)
    assert (result.returncode, result.stdout, result.stderr) == (130, printed, "stopped\n")


def test_what_fails_in_a_destructor_without_ctrl_c_is_reported():
    result = ended("class Buffer:\n    def __del__(self):\n        1 / 0\n\ndef main():\n    Buffer()\n")
    assert result.returncode == 0 and "ZeroDivisionError" in result.stderr
