"""A profiler's trace of some steps, and the operations in it that take longest."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import jax

from resnet_jax.benchmarking.measure import Work

STEPS = 5


class Operation(NamedTuple):
    """One operation of a compiled program."""

    name: str
    """XLA's."""
    output: str
    """Type and shape of its first output, "" where the program has no such name."""
    source: str
    """The path of the JAX operation that it comes from, likewise; of several, "one:another"."""
    seconds: float
    """A step on one device, without the operations inside."""
    share: float
    """Of all operations' time."""


def profile(folder: Path, work: Work, program: str, *, devices: int, count: int = 10) -> list[Operation]:
    """Writes an xprof trace of some steps into `folder`, and finds the operations that take longest.

    Args:
        folder: of the trace; made where it is missing.
        work: warm already.
        program: the text of the compiled program, `compiled.as_text()`, which names the operations' sources.
        devices: that the work runs on.
        count: how many operations.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Python's own calls would outnumber everything else
    with jax.profiler.trace(str(folder), profiler_options=options):
        steps = work(STEPS)
    newest = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    seconds = operation_seconds(jax.profiler.ProfileData.from_file(str(newest)))
    known = described(program)
    total = sum(seconds.values())
    return [
        Operation(name, *known.get(name, ("", "")), seconds[name] / steps / devices, seconds[name] / total)
        for name in sorted(seconds, key=seconds.__getitem__, reverse=True)[:count]
    ]


def described(program: str) -> dict[str, tuple[str, str]]:
    """Output and source of each operation in a program's text; a fusion that has no source gets those of its parts."""
    found: dict[str, tuple[str, str]] = {}
    parts: dict[str, list[str]] = defaultdict(list)  # sources by computation; what is called stands above its caller
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


def operation_seconds(data: Any) -> dict[str, float]:
    """Seconds of each of XLA's operations in a trace, over all devices, without the operations inside of it.

    On CPUs and GPUs an operation's event carries its name as `hlo_op`; on TPUs the line "XLA Ops" holds nothing else.
    A GPU's operations are also on the host, as what starts them; where a trace has devices, they alone count.
    """
    seconds: dict[str, float] = defaultdict(float)
    planes = list(data.planes)
    planes = [plane for plane in planes if plane.name.startswith("/device:")] or planes
    for line in (line for plane in planes for line in plane.lines):
        outer: list[tuple[float, str]] = []  # the operations that are running: their ends and names
        for start, end, name in sorted(_operations(line), key=lambda event: (event[0], -event[1])):
            while outer and outer[-1][0] <= start:
                outer.pop()
            if outer:
                seconds[outer[-1][1]] -= (end - start) / 1e9
            seconds[name] += (end - start) / 1e9
            outer.append((end, name))
    return seconds


def _operations(line: Any) -> list[tuple[float, float, str]]:
    found = []
    for event in line.events:
        name = event.name.split(" = ")[0].lstrip("%") if line.name == "XLA Ops" else dict(event.stats).get("hlo_op")
        if name is not None:
            found.append((event.start_ns, event.start_ns + event.duration_ns, name))
    return found
