"""A training run to plan, and its step lowered for devices that are not present."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx
from jax import ShapeDtypeStruct
from jax.sharding import Mesh, Sharding

from resnet_jax.classifier.classifier import Classifier, load_classifier
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.config import Config
from resnet_jax.data.choice import SHARE
from resnet_jax.data.feed import Examples
from resnet_jax.data.resident import ResidentData
from resnet_jax.errors import UsageError
from resnet_jax.hardware.compilation import lower_step
from resnet_jax.hardware.sharding import replicated, sharded
from resnet_jax.models.network import Network
from resnet_jax.models.registry import REGISTRY
from resnet_jax.training.metrics import TrainMetrics
from resnet_jax.training.model import make_model
from resnet_jax.training.program import Shapes, make_program
from resnet_jax.training.setup import resolve
from resnet_jax.training.step import Batch
from resnet_jax.training.teacher import Taught, Teacher, make_teacher

DATA_SETS = {  # training and test images, height and width in pixels, classes
    "digits": (1_437, 360, 8, 10),
    "cifar10": (50_000, 10_000, 32, 10),
    "cifar100": (50_000, 10_000, 32, 100),
    "mnist": (60_000, 10_000, 28, 10),
    "fashion_mnist": (60_000, 10_000, 28, 10),
    "imagenet2012": (1_281_167, 50_000, 224, 1000),
    "imagenet_resized/64x64": (1_281_167, 50_000, 64, 1000),
}
NOTHING = (None, 0, None, None)
Feed = Literal["resident", "stream", "ready"]
MEAN, STD = np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32)  # the values do not change what is computed


@dataclass(frozen=True)
class Job:
    """A training run, without its images."""

    config: Config
    images: int
    """Number of training images."""
    image_size: int
    classes: int
    feed: Feed
    """Images on the devices; decoded by the hosts for each step; or ready batches as input, without augmentation."""


def make_job(
    config: Config,
    images: int | None,
    image_size: int | None,
    classes: int | None,
    *,
    memory_bytes: int,
    ready: bool = False,
) -> Job:
    """Complete the given values with what is known about the configured data set.

    Args:
        config: the recipe.
        images, image_size, classes: of the training images; None for those of the data set.
        memory_bytes: of a chip; the images are on it if they take little of it, as in a run (see `choose_feed`), whose
            hosts are expected to have as much.
        ready: plan for ready batches as input, instead of the recipe's images.

    Raises:
        UsageError: nothing is known about this data set.
    """
    listed = not ready and config.data.source == "tfds"
    known = DATA_SETS.get(config.data.name, NOTHING) if listed else NOTHING
    found = {
        "--images N": images or known[0],
        "--image-size PIXELS": image_size or config.data.image_size or known[2],
        "--classes N": classes or known[3],
    }
    if missing := [option for option, value in found.items() if not value]:
        what = config.data.name if config.data.source == "tfds" else f"the folder {config.data.dir}"
        raise UsageError(f"the training images of {what} are not known here; give {' '.join(missing)}")
    count, size, class_count = (int(value or 0) for value in found.values())
    decoded = (count + known[1]) * size * size * 3
    if images is None and config.data.val_fraction is not None:
        count -= int(count * config.data.val_fraction)
    feed: Feed = "ready" if ready else _feed(config, decoded, memory_bytes)
    chosen = resolve(config, "tpu")  # a GPU gets the same choices
    return Job(chosen, count, size, class_count, feed)


def _feed(config: Config, decoded_bytes: int, memory_bytes: int) -> Feed:
    """Return the feed that a run would choose; see `choose_feed`."""
    if config.augment.crop_scale is not None:
        return "stream"
    return config.data.feed or ("stream" if decoded_bytes > SHARE * memory_bytes else "resident")


def batch_unit(job: Job, chips: int) -> int:
    """Return the number of which a batch must be a multiple to be divided among the chips.

    Raises:
        UsageError: the job's batch is not a multiple of it, or is larger than the data set.
    """
    batch_size, unit = job.config.train.batch_size, chips
    if batch_size % unit:
        expected = f"a multiple of {unit}, for example {max(batch_size // unit, 1) * unit}"
        raise UsageError(f"--batch-size: got {batch_size} for {chips} chips, expected {expected}")
    if batch_size > job.images:
        raise UsageError(f"--batch-size: got {batch_size}, expected at most the {job.images} training images")
    return unit


def lower(
    job: Job, batch_size: int, mesh: Mesh | None, resident_images: int, *, small: bool = False
) -> jax.stages.Lowered:
    """Lower one training step, the function that trains, from shapes alone.

    Args:
        job: the training run.
        batch_size: images in a step, over all devices together.
        mesh: the devices; None for one CPU.
        resident_images: number of images on the devices, for a resident job.
        small: whether the step shrinks its images, as in the first epochs of some recipes.
    """
    config = replace(job.config, train=replace(job.config.train, batch_size=batch_size))
    make = partial(make_model, config, job.classes, jax.random.key(0))
    shape = (job.image_size, job.image_size, 3)
    shapes = Shapes(job.images, shape, job.classes, streamed=job.feed == "stream")
    teacher = _teacher(config.train.teacher, job.classes, config.model.dtype)
    program = make_program(config, nnx.eval_shape(make), shapes, MEAN, STD, teacher)
    whole, divided, by_row = (None,) * 3 if mesh is None else (replicated(mesh), sharded(mesh), sharded(mesh, axis=1))
    state = _on(whole, jax.eval_shape(lambda: program.create_state(make())))
    step: Any
    rest: tuple
    if job.feed == "ready":
        images: Any = ShapeDtypeStruct((batch_size, *shape), "float32")
        soft_labels: Any = ShapeDtypeStruct((batch_size, job.classes), "float32")
        step, rest = program.train_step, (_on(divided, Batch(images, soft_labels)),)
    else:
        metrics, (data, taken) = jax.eval_shape(TrainMetrics.zero), _fed(job, batch_size, resident_images)
        if teacher is not None:
            data = Taught(data, teacher.weights)
        step = program.run_small_steps if small else program.run_steps
        rest = _on(whole, metrics), _on(whole, data), _on(by_row, taken)
    return jax.jit(step).lower(state, *rest) if mesh is None else lower_step(step, state, *rest)


def _fed(job: Job, batch_size: int, resident_images: int) -> tuple[Any, Any]:
    """Return the shapes of what the job's feed keeps on the devices, and of what it brings for one step."""
    shape, numbers = (job.image_size, job.image_size, 3), ShapeDtypeStruct((1, batch_size), "int32")
    if job.feed == "stream":
        images: Any = ShapeDtypeStruct((1, batch_size, *shape), "uint8")
        return (), Examples(images, numbers, numbers)  # type: ignore[arg-type]
    rows: Any = ShapeDtypeStruct((resident_images, math.prod(shape)), "uint8")
    labels: Any = ShapeDtypeStruct((resident_images,), "int32")
    return ResidentData(rows, labels), numbers


@lru_cache(maxsize=1)
def _teacher(source: str | None, classes: int, dtype: str | None) -> Teacher | None:
    """Read the teacher of a run, whatever its classes are called: the names do not change what is computed."""
    if source is None:
        return None
    classifier = _without_weights(source) or load_classifier(source)
    return make_teacher(classifier, source, np.arange(classes), MEAN, STD, dtype or np.float32)


def _without_weights(source: str) -> Classifier | None:
    """Return the network of one of torchvision's names with zeros as weights, since a plan needs no download."""
    arch: Any = source.removeprefix("torchvision/").partition(".")[0]
    if not source.startswith("torchvision/") or arch not in REGISTRY or Path(source).exists():
        return None
    network = Network(arch)
    graphdef, state = nnx.split(network.abstract())
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    return Classifier(nnx.merge(graphdef, zeros), network, (), Preprocessing(), {})


def _on(sharding: Sharding | None, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
