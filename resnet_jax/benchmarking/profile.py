"""A profiler's trace of some training steps, and the operations in it that take longest."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import jax

from resnet_jax.benchmarking.measure import Work

STEPS = 5
READER = Path(__file__).with_name("trace.py")
READER_SECONDS = 120.0


class Operation(NamedTuple):
    """One operation of a compiled program."""

    name: str
    """XLA's name."""
    output: str
    """Type and shape of its first output; "" if the program has no operation of this name."""
    source: str
    """Path of the JAX operation that it comes from, likewise; of several, "one:another"."""
    seconds: float
    """Duration per step on one device, without the operations inside."""
    share: float
    """Share of the time of all operations."""


class UnreadableTraceError(Exception):
    """The operations of a trace could not be listed."""


def record_trace(folder: Path, work: Work) -> int:
    """Write an xprof trace of some steps into `folder`, and return how many steps it covers.

    Args:
        folder: created if it does not exist.
        work: compiled already.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Python's own calls would outnumber everything else
    with jax.profiler.trace(str(folder), profiler_options=options):
        return work(STEPS)


def longest_operations(folder: Path, program: str, *, executions: int, count: int = 10) -> list[Operation]:
    """List the operations that take longest in the newest trace in `folder`.

    Args:
        folder: folder that `record_trace` wrote to.
        program: text of the compiled program, `compiled.as_text()`, which names the operations' sources.
        executions: how often a device ran the program in the trace: the steps times the devices.
        count: maximum number of operations.

    Raises:
        UnreadableTraceError: the trace is missing, or its reader failed.
    """
    files = sorted(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise UnreadableTraceError("JAX wrote no trace")
    seconds = read_trace(files[-1])
    known, total = described(program), sum(seconds.values())
    return [
        Operation(name, *known.get(name, ("", "")), seconds[name] / executions, seconds[name] / total)
        for name in sorted(seconds, key=seconds.__getitem__, reverse=True)[:count]
    ]


def read_trace(file: Path) -> dict[str, float]:
    """Return the seconds of each operation in a trace, over all devices, without the operations inside of it.

    Another process reads it, so that a crash of JAX's reader does not end the measurements.

    Raises:
        UnreadableTraceError: the reader failed, crashed or took too long.
    """
    command = [sys.executable, "-P", "-W", "ignore", str(READER), str(file)]
    try:
        reader = subprocess.run(command, capture_output=True, text=True, timeout=READER_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise UnreadableTraceError(f"its reader took over {READER_SECONDS:g} s") from error
    except OSError as error:
        raise UnreadableTraceError(f"its reader did not start: {error.strerror}") from error
    if reader.returncode:
        status = f"its reader ended with status {reader.returncode}"
        raise UnreadableTraceError(": ".join([status, *reader.stderr.strip().splitlines()[-1:]]))
    return json.loads(reader.stdout)


def described(program: str) -> dict[str, tuple[str, str]]:
    """Find each operation's output and source in a program's text; a fusion without a source has those of its parts."""
    found: dict[str, tuple[str, str]] = {}
    parts: dict[str, list[str]] = defaultdict(list)  # sources by computation; a computation stands above its caller
    computation = ""
    for line in program.splitlines():
        if start := re.match(r"(?:ENTRY )?%?([\w.-]+) \(", line):
            computation = start[1]
        elif operation := re.match(r" +(?:ROOT )?%?([\w.-]+) = \(?(\w+\[[\d,]*\])", line):
            source, called = re.search(r'op_name="jit\(\w+\)/([^"]*)"', line), re.search(r"calls=%?([\w.-]+)", line)
            if source:
                parts[computation].append(source[1])
            merged = ":".join(dict.fromkeys(parts[called[1]])) if called else ""
            found[operation[1]] = operation[2], source[1] if source else merged
    return found
