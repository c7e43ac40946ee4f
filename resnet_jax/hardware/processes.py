"""Agreement between the processes of a run; with a single process, each function here returns at once.

All processes must call these functions in the same order: each is a collective operation of JAX. A `Tally` is none.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from resnet_jax.errors import UsageError, UserError

Result = TypeVar("Result")
SHOWN = 5
"""Differences that an error names."""


def count() -> int:
    """Return the number of processes, without starting JAX's devices if there is only this one."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Tell whether this is process 0, which alone writes files and prints progress."""
    return count() == 1 or jax.process_index() == 0


def largest(number: int) -> int:
    """Return the largest `number` of all processes."""
    return number if count() == 1 else int(multihost_utils.process_allgather(np.int32(number)).max())


def on_host(tree: PyTree) -> PyTree:
    """Return arrays as NumPy arrays, whole also if other processes hold a part of them."""
    return jax.device_get(tree) if count() == 1 else multihost_utils.process_allgather(tree, tiled=True)


def gather(value: Any) -> list[Any]:
    """Return the values of all processes, of JSON's types, in their order."""
    if count() == 1:
        return [value]
    own = np.frombuffer(json.dumps(value).encode(), np.uint8)
    padded = np.full(largest(len(own)), ord(" "), np.uint8)
    padded[: len(own)] = own
    return [json.loads(row.tobytes()) for row in multihost_utils.process_allgather(padded)]


class Tally:
    """Counts different things over all processes; none waits for another, and any thread may add to it.

    All processes make their tallies in the same order, by which they find each other.
    """

    _numbers = itertools.count()

    def __init__(self) -> None:
        self._name = f"resnet_jax/tally/{next(self._numbers)}"
        self._own: set[int] = set()

    def add(self, thing: int) -> int | None:
        """Count a thing; return how many there are so far, or None if any process has counted this one before."""
        if thing in self._own:
            return None
        self._own.add(thing)
        if count() == 1:
            return len(self._own)
        first = coordination_client().key_value_increment(f"{self._name}/{thing}", 1) == 1
        return coordination_client().key_value_increment(self._name, 1) if first else None


def first_only(action: Callable[[], object]) -> None:
    """Do something in process 0 while the others wait.

    Raises:
        UserError: in all processes, if process 0 has raised one, or an error of the file system.
    """
    if count() == 1:
        action()
        return
    failure: UserError | OSError | None = None
    try:
        if is_first():
            action()
    except (UserError, OSError) as error:
        failure = error
    code, message = gather((getattr(failure, "exit_code", 1), str(failure or "")))[0]
    if failure is not None:
        raise failure
    if message:
        raise (UsageError if code == UsageError.exit_code else UserError)(f"process 0: {message}")


def first_before_others(action: Callable[[], Result]) -> Result:
    """Do something in process 0 and then in the others, which find the files that it has written.

    Raises:
        UserError: as in `first_only`.
    """
    results: list[Result] = []
    first_only(lambda: results.append(action()))
    return results[0] if results else action()


def check_devices() -> None:
    """Check that all processes have the same number of devices, without which they can't exchange arrays.

    Raises:
        UsageError: in all processes, if they differ.
    """
    devices = Counter(device.process_index for device in jax.devices())
    differing = [index for index in range(count()) if devices[index] != devices[0]]
    if differing:
        raise UsageError(
            f"the processes of this run differ: process 0 has {devices[0]} devices and process {differing[0]} has "
            f"{devices[differing[0]]}. Give each of them as many, on hosts of the same kind"
        )


def check_equal(facts: dict[str, Any]) -> None:
    """Compare facts, of JSON's types, that must be the same in all processes.

    Raises:
        UsageError: in all processes, if they differ; the message names the first differences.
    """
    if count() == 1:
        return
    flat = [_leaves(each) for each in gather(facts)]
    names = dict.fromkeys(name for each in flat for name in each)
    differing = [name for name in names if any(each.get(name) != flat[0].get(name) for each in flat)]
    if differing:
        raise UsageError(
            f"the processes of this run differ: {'; '.join(_difference(name, flat) for name in differing[:SHOWN])}"
            f"{f'; and {len(differing) - SHOWN} more' if len(differing) > SHOWN else ''}. Start all of them with the "
            "same command, code, packages and images"
        )


def _leaves(value: Any, name: str = "") -> dict[str, str]:
    """Return the leaves of nested dictionaries as JSON, by their path."""
    if not isinstance(value, dict):
        return {name: json.dumps(value)}
    return {path: leaf for key in value for path, leaf in _leaves(value[key], f"{name}.{key}".lstrip(".")).items()}


def _difference(name: str, flat: list[dict[str, str]]) -> str:
    """Describe process 0's value, and that of the first process that has another one."""
    first = flat[0].get(name, "absent")
    index, other = next((index, it.get(name, "absent")) for index, it in enumerate(flat) if it.get(name) != first)
    return f"{name} is {first[:80]} in process 0 and {other[:80]} in process {index}"


def coordination_client() -> Any:
    """Return the client of the service that connects the processes, which keeps keys and values for them."""
    from jax._src import distributed  # JAX has no public name for it; Orbax uses this one

    return distributed.global_state.client
