"""The batch size that is fastest."""

import re
from collections.abc import Callable

from resnet_jax.benchmarking.measure import Work, measure

GAIN = 1.02
"""Factor by which a doubled batch must be faster for another doubling to be tried."""


def sweep(work_of: Callable[[int], Work], smallest: int, repeats: int) -> dict[int, float]:
    """Double the batch as long as that makes the work faster and memory suffices.

    Args:
        work_of: function from a batch size to its steps.
        smallest: first batch size.
        repeats: number of measurements of each size.

    Returns:
        Images per second by batch size, in the order in which they were tried.
    """
    speeds: dict[int, float] = {}
    batch_size = smallest
    while True:
        try:
            timing = measure({"work": work_of(batch_size)}, repeats)["work"]
        except (MemoryError, RuntimeError) as error:
            if speeds and out_of_memory(error):
                return speeds
            raise
        best = max(speeds.values(), default=0.0)
        speeds[batch_size] = batch_size / timing.median
        if speeds[batch_size] < GAIN * best:
            return speeds
        batch_size *= 2


def out_of_memory(error: Exception) -> bool:
    """Tell whether an error of JAX, PyTorch or Python is a lack of memory."""
    return isinstance(error, MemoryError) or re.search("RESOURCE_EXHAUSTED|out of memory", str(error)) is not None
