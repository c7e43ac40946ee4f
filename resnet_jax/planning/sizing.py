"""Steps compiled for a target, and the largest batch that fits in its memory."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import jax

from resnet_jax.hardware.compilation import compile_lowered
from resnet_jax.hardware.compiled import Work, memory_of, tpu_memory, tpu_refusal, work_of
from resnet_jax.hardware.sharding import make_mesh
from resnet_jax.planning.job import Job, batch_unit, lower
from resnet_jax.planning.targets import Target, devices_of

NO_TILES = "Couldn't find output tile sizes"
"""Message of jaxlib 0.10.2 for some products, as when 192 pixels shrink to 160, without a GPU to tune them on."""


@dataclass(frozen=True)
class Needs:
    """Memory of one step on each chip."""

    memory_bytes: int
    """Bytes; a lower bound if the compiler refuses the program."""
    fits: bool


class Compiler:
    """Compiles steps of a job for a target, each once, and reports each on standard error.

    Raises:
        UsageError: the job's batch does not divide among the chips.
        UserError: the compiler is not installed.
    """

    def __init__(self, job: Job, target: Target):
        self.job, self.target = job, target
        self.unit = batch_unit(job, target.count)
        """A batch is a multiple of this number."""
        devices = devices_of(target)
        self.mesh = make_mesh(target.count, devices)
        self.limit_bytes = tpu_memory(devices[0]) if target.is_tpu else target.memory_bytes
        """Memory of a chip that a program may use."""
        self.needs = lru_cache(self._needs)
        """Function from a batch size to the memory of its step."""
        self._compiled = lru_cache(maxsize=1)(self._compile)
        """The program of a step; without a resident data set, the same one shows its memory and its work."""

    def work(self, batch_size: int, *, small: bool = False) -> Work:
        """Return the work of one step on each chip.

        A resident data set is cut to one batch for this. Otherwise the compilers count all of it in every step: on GPUs
        as read by the gathering, on some TPUs as a copy, which a run makes only once for the many steps of a call.

        Args:
            batch_size: images in the step, over all chips.
            small: whether it shrinks them, as in the first epochs of some recipes.
        """
        job, chips = self.job, self.target.count
        compiled = self._compiled(batch_size, batch_size if job.feed == "resident" else 0, small=small)
        whole = None if self.target.is_tpu else lower(job, batch_size, None, batch_size, small=small).cost_analysis()
        return work_of(compiled, whole["flops"] / chips if whole else 0.0, chips)

    def _needs(self, batch_size: int) -> Needs:
        try:
            compiled = self._compiled(batch_size, self.job.images if self.job.feed == "resident" else 0, small=False)
            memory = memory_of(compiled)
            needs = Needs(memory, fits=memory <= self.limit_bytes)
        except jax.errors.JaxRuntimeError as error:
            needs = Needs(tpu_refusal(error)[0], fits=False)
        verdict = f"{'fits' if needs.fits else 'does not fit'}, {needs.memory_bytes / 2**30:,.2f} GiB on each chip"
        print(f"a batch of {batch_size:,} {verdict}", file=sys.stderr, flush=True)
        return needs

    def _compile(self, batch_size: int, resident_images: int, *, small: bool) -> jax.stages.Compiled:
        lowered = lower(self.job, batch_size, self.mesh, resident_images, small=small)
        print(f"compiling a step of {batch_size:,} images for {self.target.name}", file=sys.stderr, flush=True)
        try:
            return compile_lowered(lowered)
        except jax.errors.JaxRuntimeError as error:
            if NO_TILES not in str(error):
                raise
            return compile_lowered(lowered, {"xla_gpu_enable_triton_gemm": False})


def largest_batch(needs: Callable[[int], Needs], limit: int, start: int, unit: int, cap: int) -> int | None:
    """Find approximately the largest batch that fits.

    Memory grows by nearly the same amount with each image, so two sizes that fit, one with at least half of the memory,
    show where the limit is. That size is tried, and then 5% less until it fits. Compilers may fit even more by
    computing some things twice.

    Args:
        needs: function from a batch size to its memory.
        limit: bytes on a chip.
        start: first size to try.
        unit: all sizes are a multiple of it.
        cap: largest size to try.

    Returns:
        A size that fits; None if not even `unit` images fit.
    """

    def rounded(size: int) -> int:
        return min(max(size // unit, 1) * unit, cap)

    size = rounded(start)
    while not needs(size).fits:
        if size == unit:
            return None
        size = rounded(size // 2)
    fitting = {size: needs(size).memory_bytes}
    while len(fitting) < 2 or max(fitting.values()) < limit / 2:
        size = max(fitting)
        size = rounded(size // 2 if fitting[size] > limit / 2 else max(2 * size, where(limit * 3 // 5, fitting)))
        if size in fitting or not needs(size).fits:
            break
        fitting[size] = needs(size).memory_bytes
    size, large = rounded(where(limit, fitting)), max(fitting)
    while size > large and not needs(size).fits:
        size = max(rounded(size * 19 // 20), large)
    return max(size, large)


def where(memory: int, sizes: dict[int, int]) -> int:
    """Return the batch size at which a line through the two largest `sizes` (or 0 and the only one) has `memory`."""
    small, large = ([0, *sorted(sizes)])[-2:]
    rise = sizes[large] - sizes.get(small, 0)
    return large + (memory - sizes[large]) * (large - small) // rise if rise > 0 else large
