"""Print the seconds of each of XLA's operations in a profiler's trace, as a JSON object.

Run as a script, `python trace.py FILE.xplane.pb`, by `resnet_jax.benchmarking.profile`: JAX's reader of traces can
abort its process. With JAX 0.12 it does so where warnings are errors, since its types cause a DeprecationWarning.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from jax.profiler import ProfileData


def operation_seconds(data: ProfileData) -> dict[str, float]:
    """Compute the seconds of each operation, over all devices, without the operations inside of it.

    On CPUs and GPUs, an operation's event carries its name as `hlo_op`; on TPUs, the line "XLA Ops" holds nothing else.
    The host's lines also have a GPU's operations, where they are started; if a trace has devices, only those count.
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


def _operations(line: Any) -> Iterator[tuple[float, float, str]]:
    for event in line.events:
        name = event.name.split(" = ")[0].lstrip("%") if line.name == "XLA Ops" else dict(event.stats).get("hlo_op")
        if name is not None:
            yield event.start_ns, event.start_ns + event.duration_ns, name


if __name__ == "__main__":
    print(json.dumps(operation_seconds(ProfileData.from_file(sys.argv[1]))))
