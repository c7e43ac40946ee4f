"""The highest training speed that a machine's data sheet allows, and the time and cost that follow from it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from resnet_jax.hardware.chips import Chip
from resnet_jax.hardware.compiled import Work
from resnet_jax.planning.job import Job
from resnet_jax.planning.sizing import Compiler, largest_batch

SUBLANES = 8
"""The largest batch is a multiple of this number of images per chip."""


@dataclass(frozen=True)
class Seconds:
    """Time that one step needs of each part of a chip, at the rates of the data sheet."""

    arithmetic: float
    memory: float
    network: float

    @property
    def step(self) -> float:
        """The longest of them: all three can run at the same time."""
        return max(self.arithmetic, self.memory, self.network)

    @property
    def bound(self) -> str:
        return max(vars(self), key=vars(self).__getitem__)


def seconds_of(work: Work, chip: Chip) -> Seconds:
    """Return the shortest time in which a chip can do `work`."""
    return Seconds(
        work.flops / chip.bfloat16_flops,
        work.traffic_bytes / chip.memory_bandwidth,
        work.sent_bytes / chip.network_bandwidth,
    )


def answers(compiler: Compiler, price: float | None) -> Iterator[dict[str, Any]]:
    """Compute everything that `plan` prints, the asked batch first; if it does not fit, also for the largest that does.

    Args:
        compiler: for the job and the target.
        price: price of a chip for an hour.

    Yields:
        Figures as soon as they are known: whether the batch fits; if so, the ceiling of its speed; the largest batch
        that fits; the ceiling for that one, if the asked one does not fit.
    """
    job, target = compiler.job, compiler.target
    batch_size, unit = job.config.train.batch_size, compiler.unit
    needs = compiler.needs(batch_size)
    yield {
        "target": target.name,
        "chips": target.count,
        "arch": job.config.model.arch,
        "width": job.config.model.width,
        "image_size": job.image_size,
        "classes": job.classes,
        "images": job.images,
        "resident": job.resident,
        "batch_size": batch_size,
        "fits": needs.fits,
        "memory_bytes": needs.memory_bytes,
        "limit_bytes": compiler.limit_bytes,
        "counted_batch_size": None,
    }
    if needs.fits:
        yield _ceiling(compiler, batch_size, price)
    wide = unit * SUBLANES if job.images >= unit * SUBLANES else unit
    cap = job.images // wide * wide
    largest = largest_batch(compiler.needs, compiler.limit_bytes, batch_size, wide, cap)
    yield {"largest_batch_size": largest, "largest_possible_batch_size": cap}
    if not needs.fits and largest is not None:
        yield _ceiling(compiler, largest, price)


def _ceiling(compiler: Compiler, batch_size: int, price: float | None) -> dict[str, Any]:
    """Compute the ceiling of the speed of one batch size."""
    job, target = compiler.job, compiler.target
    work = compiler.work(batch_size)
    full = small = seconds_of(work, target.chip)
    if job.config.small_epochs:
        small = seconds_of(compiler.work(batch_size, job.config.augment.small_size), target.chip)
    figures = speed(job, batch_size, full, small, target.count, price)
    return {"counted_batch_size": batch_size} | asdict(work) | figures


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
        "images_per_second_ceiling": batch_size / seconds.step,
        "epochs": epochs,
        "steps": steps_per_epoch * epochs,
        "training_seconds": training,
        "chip_hours": chip_hours,
        "cost": None if price is None else chip_hours * price,
    }
