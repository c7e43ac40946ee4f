"""Time pieces of work for comparison: after a warm-up, several times in turn, each long enough for the clock."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

REPEAT_SECONDS = 0.5
"""Approximate minimum duration of a repeat; a repeat has at least one step."""

Work = Callable[[int], int]
"""Function that takes at least a number of steps, waits for their results, and returns how many it took."""


@dataclass(frozen=True)
class Timing:
    """Duration of a step."""

    seconds: tuple[float, ...]
    """Mean duration of a step in each repeat."""
    steps: int
    """Number of steps in a repeat."""

    @property
    def median(self) -> float:
        return median(self.seconds)


def measure(works: Mapping[str, Work], repeats: int) -> dict[str, Timing]:
    """Time every piece of work `repeats` times, in turns, so that what slows the machine affects all of them.

    Args:
        works: pieces of work by name.
        repeats: number of measurements of each, 1 or more.
    """
    steps = {name: steps_of_a_repeat(work) for name, work in works.items()}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            work(1)  # the first step after other work is slower
            seconds[name].append(_seconds_a_step(work, steps[name])[0])
    return {name: Timing(tuple(seconds[name]), steps[name]) for name in works}


def steps_of_a_repeat(work: Work) -> int:
    """Return the number of steps that last `REPEAT_SECONDS`, found by trying after one step that warms up."""
    work(1)
    steps = 1
    while True:
        each, steps = _seconds_a_step(work, steps)
        if each * steps >= 0.8 * REPEAT_SECONDS:
            return steps
        steps = math.ceil(steps * min(REPEAT_SECONDS / (each * steps), 10))


def _seconds_a_step(work: Work, steps: int) -> tuple[float, int]:
    start = time.perf_counter()
    taken = work(steps)
    return (time.perf_counter() - start) / taken, taken
