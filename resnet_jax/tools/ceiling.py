"""Whether a training step fits a machine, and the highest speed that the machine's data sheet allows it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import jax
from jax.sharding import Mesh

from resnet_jax.tools.chips import Chip
from resnet_jax.tools.compiled import Work, memory_of, tpu_memory, tpu_refusal, work_of
from resnet_jax.tools.job import Job, lower, without_accumulation
from resnet_jax.tools.targets import GPUS, Target, devices_of
from resnet_jax.training.sharding import make_mesh

JAX_SHARE = 0.75
"""Of a GPU's memory, which JAX takes at its start and then keeps to; XLA_PYTHON_CLIENT_MEM_FRACTION changes it."""


@dataclass(frozen=True)
class Needs:
    """Memory of one step on each chip."""

    memory_bytes: int
    """At least so many, where the compiler refuses the program."""
    fits: bool


@dataclass(frozen=True)
class Seconds:
    """What one step needs of each part of a chip, at the rates of the data sheet."""

    arithmetic: float
    memory: float
    network: float

    @property
    def step(self) -> float:
        """The longest: all three may run at once."""
        return max(self.arithmetic, self.memory, self.network)

    @property
    def bound(self) -> str:
        return max(vars(self), key=vars(self).__getitem__)


def seconds_of(work: Work, chip: Chip) -> Seconds:
    """The least time that `work` takes."""
    return Seconds(
        work.flops / chip.bfloat16_flops,
        work.bytes_accessed / chip.memory_bandwidth,
        work.sent_bytes / chip.network_bandwidth,
    )


class Compiler:
    """Compiles steps of a job for a target, each batch size once, and says so on standard error."""

    def __init__(self, job: Job, target: Target):
        self.job, self.target = job, target
        devices = devices_of(target)
        self.mesh: Mesh = make_mesh(target.count, devices)
        gpu_memory = None if target.is_tpu else GPUS[target.chip.name]["memory"]
        self.limit_bytes = tpu_memory(devices[0]) if gpu_memory is None else int(JAX_SHARE * gpu_memory)
        self.needs = lru_cache(self._needs)

    def _compile(self, job: Job, batch_size: int, images: int) -> jax.stages.Compiled:
        lowered = lower(job, batch_size, self.mesh, images)
        print(f"compiling a step of {batch_size} images for {self.target.name} ...", file=sys.stderr, flush=True)
        return lowered.compile()

    def _needs(self, batch_size: int) -> Needs:
        try:
            memory = memory_of(self._compile(self.job, batch_size, self.job.images))
        except jax.errors.JaxRuntimeError as error:
            return Needs(tpu_refusal(error)[0], fits=False)
        return Needs(memory, fits=memory <= self.limit_bytes)

    def work(self, batch_size: int) -> Work:
        """One step's work on each chip.

        The data set is cut to one batch for this. Otherwise the compilers count all of it in every step: on GPUs as
        what the gathering reads, on some TPUs as a copy, which a run makes once for its many steps in a dispatch.
        Compilers count a loop once, so of a batch whose gradient is accumulated, one part is compiled.
        """
        parts = self.job.config.optimizer.accumulate
        job, size, chips = without_accumulation(self.job), batch_size // parts, self.target.count
        compiled = self._compile(job, size, size)
        whole = None if self.target.is_tpu else lower(job, size, None, size).cost_analysis()
        return work_of(compiled, whole["flops"] / chips if whole else 0.0, chips).times(parts)


def largest_batch(needs: Callable[[int], Needs], limit: int, start: int, unit: int, cap: int) -> int | None:
    """Finds the largest batch that fits, or nearly that.

    Memory grows by nearly the same for each image, so two sizes that fit, one of at least half the memory, show where
    it ends. That size is tried, and 5% less until it fits. A TPU's compiler may fit more yet by computing things twice.

    Args:
        needs: of a batch size.
        limit: bytes on a chip.
        start: the first size to try.
        unit: what sizes are a multiple of.
        cap: the largest size to try.
    """

    def rounded(size: float) -> int:
        return min(max(int(size) // unit, 1) * unit, cap)

    size = rounded(start)
    while not needs(size).fits:
        if size == unit:
            return None
        size = rounded(size / 2)
    fitting = {size: needs(size).memory_bytes}
    while len(fitting) < 2 or max(fitting.values()) < limit / 2:
        size = max(fitting)
        size = rounded(size / 2 if fitting[size] >= limit / 2 else size * max(2, 0.6 * limit / fitting[size]))
        if size in fitting or not needs(size).fits:
            break
        fitting[size] = needs(size).memory_bytes
    large = max(fitting)
    size = rounded(_where(limit, fitting))
    while size > large and not needs(size).fits:
        size = max(rounded(0.95 * size), large)
    return max(size, large)


def _where(limit: int, fitting: dict[int, int]) -> float:
    """Where the line through the two largest sizes reaches the limit; the largest if there is no such line."""
    *_, small, large = min(fitting), *sorted(fitting)
    rise = fitting[large] - fitting[small]
    return large + (limit - fitting[large]) * (large - small) / rise if rise > 0 else large
