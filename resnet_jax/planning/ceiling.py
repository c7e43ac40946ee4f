"""The highest training speed that a machine's data sheet allows, and the time and cost that follow from it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from resnet_jax.hardware.compiled import Work
from resnet_jax.planning.job import Job
from resnet_jax.planning.sizing import Compiler, largest_batch
from resnet_jax.planning.targets import Target

SUBLANES = 8
"""The largest batch is a multiple of this number of images per chip."""
DECODE_RATE = 700.0
"""JPEGs of 500x375 that one virtual processor decodes and crops to 224 pixels in a second; see docs/input.md."""


@dataclass(frozen=True)
class Seconds:
    """Time that one step needs of each part of a chip, at the rates of the data sheet, and of its part of the host."""

    arithmetic: float
    memory: float
    network: float
    decoding: float = 0.0

    @property
    def chip(self) -> float:
        """Time of the chip alone: the longest of its parts, which can all run at the same time."""
        return max(self.arithmetic, self.memory, self.network)

    @property
    def step(self) -> float:
        """Time of the step: the images of the next one are decoded meanwhile."""
        return max(self.chip, self.decoding)

    @property
    def bound(self) -> str:
        return max(vars(self), key=vars(self).__getitem__)


def seconds_of(work: Work, target: Target, decoded: float = 0.0, decode_rate: float = DECODE_RATE) -> Seconds:
    """Return the shortest time in which a target can take a step.

    An operation between the chips takes at least as long as a message between the two that are farthest apart.

    Args:
        work: of one chip.
        target: the chips.
        decoded: images that the host decodes for each chip.
        decode_rate: images that a processor of the host decodes in a second.
    """
    chip = target.chip
    return Seconds(
        work.flops / chip.bfloat16_flops,
        work.traffic_bytes / chip.memory_bandwidth,
        work.sent_bytes / chip.network_bandwidth + work.collectives * target.hops * chip.hop_seconds,
        decoded / (decode_rate * chip.host_cores) if chip.host_cores else 0.0,
    )


def answers(compiler: Compiler, price: float | None, decode_rate: float | None) -> Iterator[dict[str, Any]]:
    """Compute everything that `plan` prints, the asked batch first; if it does not fit, also for the largest that does.

    Args:
        compiler: for the job and the target.
        price: price of a chip for an hour.
        decode_rate: images that a processor decodes in a second; None for DECODE_RATE.

    Yields:
        Figures as soon as they are known: whether the batch fits; if so, the ceiling of its speed; the largest batch
        that fits; the ceiling for that one, if the asked one does not fit.
    """
    job, target = compiler.job, compiler.target
    batch_size, unit, rate = job.config.train.batch_size, compiler.unit, decode_rate or DECODE_RATE
    needs = compiler.needs(batch_size)
    yield {
        "target": target.name,
        "chips": target.count,
        "arch": job.config.model.arch,
        "width": job.config.model.width,
        "image_size": job.image_size,
        "classes": job.classes,
        "images": job.images,
        "feed": job.feed,
        "batch_size": batch_size,
        "fits": needs.fits,
        "memory_bytes": needs.memory_bytes,
        "limit_bytes": compiler.limit_bytes,
        "counted_batch_size": None,
    }
    if needs.fits:
        yield _ceiling(compiler, batch_size, price, rate)
    wide = unit * SUBLANES if job.images >= unit * SUBLANES else unit
    cap = job.images // wide * wide
    largest = largest_batch(compiler.needs, compiler.limit_bytes, batch_size, wide, cap)
    yield {"largest_batch_size": largest, "largest_possible_batch_size": cap}
    if not needs.fits and largest is not None:
        yield _ceiling(compiler, largest, price, rate)


def _ceiling(compiler: Compiler, batch_size: int, price: float | None, decode_rate: float) -> dict[str, Any]:
    """Compute the ceiling of the speed of one batch size."""
    job, target = compiler.job, compiler.target
    decoded = batch_size / target.count if job.feed == "stream" else 0.0
    work = compiler.work(batch_size)
    full = small = seconds_of(work, target, decoded, decode_rate)
    if job.config.small_epochs:
        small = seconds_of(compiler.work(batch_size, small=True), target, decoded, decode_rate)
    figures = speed(job, batch_size, full, small, target.count, price)
    cores = batch_size / full.chip / decode_rate if decoded else 0.0
    decoding = {"decode_rate": decode_rate, "host_cores": target.chip.host_cores * target.count, "needed_cores": cores}
    return {"counted_batch_size": batch_size} | asdict(work) | figures | decoding


def speed(
    job: Job, batch_size: int, seconds: Seconds, small: Seconds, chips: int, price: float | None
) -> dict[str, Any]:
    """Compute what the ceiling means for the whole training, without evaluation.

    Args:
        job: the training.
        batch_size: images in a step, over all chips.
        seconds: time of a step.
        small: time of a step on shrunk images, in the first epochs of a recipe that has them.
        chips: their number.
        price: price of a chip for an hour.
    """
    steps_per_epoch, epochs, small_epochs = job.images // batch_size, job.config.train.epochs, job.config.small_epochs
    training = steps_per_epoch * (small_epochs * small.step + (epochs - small_epochs) * seconds.step)
    chip_hours = training * chips / 3600
    return {
        "step_seconds": asdict(seconds),
        "bound": seconds.bound,
        "network_share": seconds.network / seconds.chip,
        "images_per_second_ceiling": batch_size / seconds.step,
        "images_per_second_of_chips": batch_size / seconds.chip,
        "epochs": epochs,
        "steps": steps_per_epoch * epochs,
        "training_seconds": training,
        "chip_hours": chip_hours,
        "cost": None if price is None else chip_hours * price,
    }
