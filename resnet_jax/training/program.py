"""What a run computes, apart from its arrays: built from the configuration alone, so that `plan` can compile it too."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key, PyTree

from resnet_jax.config import Config, OptimizerConfig
from resnet_jax.data.augment import Augmentation, alternating_mirror, augment, flip
from resnet_jax.data.feed import Examples
from resnet_jax.data.resident import gather
from resnet_jax.errors import UsageError
from resnet_jax.models.interface import ImageClassifier
from resnet_jax.training.augmentations import make_augmentations
from resnet_jax.training.loss import make_criterion
from resnet_jax.training.metrics import TrainMetrics
from resnet_jax.training.optimizer import make_muon, make_optimizer, make_schedule
from resnet_jax.training.randomness import split_by_purpose
from resnet_jax.training.state import TrainState, create_state
from resnet_jax.training.step import Batch, TrainStep, make_run_steps, make_train_step
from resnet_jax.training.teacher import Teacher

RunSteps = Callable[[TrainState, TrainMetrics, PyTree, PyTree], tuple[TrainState, TrainMetrics]]


@dataclass(frozen=True)
class Shapes:
    """What a program needs to know about the data."""

    images: int
    """Number of training images."""
    image: tuple[int, int, int]
    """Height, width and 3."""
    classes: int
    streamed: bool = False
    """Whether each step brings its images; otherwise they are all on the devices."""


@dataclass(frozen=True)
class Program:
    """The functions of a run; none of them is compiled yet."""

    run_steps: RunSteps
    """Several steps, from what a feed holds and returns; see `make_run_steps`."""
    run_small_steps: RunSteps
    """The same with shrunk images, for the first epochs of a recipe that has them."""
    train_step: TrainStep
    """One step, from a finished batch."""
    make_batch: Callable[..., Batch]
    """From data, a row of the feed, key and step to that batch: augmented images and their soft labels."""
    create_state: Callable[[nnx.Module], TrainState]
    """From a network to the state at step 0."""
    schedule: optax.Schedule
    """From a step to its learning rate."""
    steps_per_epoch: int
    steps_per_call: int
    """Steps in one call to the device; the last call of an epoch may have fewer."""
    total_steps: int


def make_program(
    config: Config,
    model: ImageClassifier,
    shapes: Shapes,
    mean: Float[np.ndarray, " 3"],
    std: Float[np.ndarray, " 3"],
    teacher: Teacher | None = None,
) -> Program:
    """Build the computation of a run.

    Args:
        config: the whole configuration.
        model: the network, whose weights may be abstract.
        shapes: of the data.
        mean, std: statistics that the images are normalized by, in units of 0 to 1.
        teacher: whose weights the data of the steps then have beside that of the feed; see `Taught`.

    Raises:
        UsageError: the batch is larger than the training set, an augmentation is as large as the images, or they are
            too small for the network.
    """
    steps_per_epoch = shapes.images // config.train.batch_size
    _check(config, shapes, model)
    total_steps = config.train.epochs * steps_per_epoch
    schedule, optimizer = _make_optimizer(config.optimizer, total_steps, model)
    train_step = _make_step(config, model, optimizer)
    make_batch, make_small = (
        _batch_maker(config, shapes, make_augmentations(config.augment, mean, std, small=small))
        for small in (False, True)
    )
    if teacher is not None:
        make_batch, make_small = teacher.join(make_batch), teacher.join(make_small)
    key = jax.random.key(config.train.seed)
    return Program(
        run_steps=make_run_steps(train_step, make_batch),
        run_small_steps=make_run_steps(train_step, make_small),
        train_step=train_step,
        make_batch=make_batch,
        create_state=partial(create_state, optimizer=optimizer, key=key, ema=config.train.ema_decay is not None),
        schedule=schedule,
        steps_per_epoch=steps_per_epoch,
        steps_per_call=1 if shapes.streamed or jax.default_backend() == "cpu" else steps_per_call(steps_per_epoch),
        total_steps=total_steps,
    )


def _check(config: Config, shapes: Shapes, model: ImageClassifier) -> None:
    """Raise a `UsageError` where the configuration does not fit the images."""
    batch_size, augment, side = config.train.batch_size, config.augment, min(shapes.image[:2])
    if batch_size > shapes.images:
        raise UsageError(f"--train.batch-size: got {batch_size}, expected at most the {shapes.images} training images")
    for name, pixels in (
        ("small-size", augment.small_size),
        ("crop-padding", augment.crop_padding),
        ("cutout", augment.cutout),
    ):
        if pixels is not None and pixels >= side:
            raise UsageError(
                f"--augment.{name}: got {pixels}, expected less than the images' {side} pixels, or None to leave it out"
            )
    _check_images(model, augment.small_size or side)


def _check_images(model: ImageClassifier, side: int) -> None:
    graphdef, state = nnx.split(model)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    try:
        jax.eval_shape(lambda state, images: nnx.merge(graphdef, state)(images, train=False), state, images)
    except ValueError as error:
        raise UsageError(f"--data.image-size: {error}") from error


def _make_step(config: Config, model: ImageClassifier, optimizer: optax.GradientTransformation) -> TrainStep:
    train = config.train
    criterion = make_criterion(
        loss=train.loss,
        distillation=train.distillation,
        distillation_weight=train.distillation_weight,
        temperature=train.temperature,
    )
    return make_train_step(
        nnx.graphdef(model),
        optimizer,
        criterion=criterion,
        ema_decay=train.ema_decay,
        frozen_statistics=config.optimizer.layer_factor == 0,
    )


def _make_optimizer(
    config: OptimizerConfig, total_steps: int, model: ImageClassifier
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    schedule = make_schedule(
        config.schedule,
        config.peak_learning_rate,
        total_steps,
        warmup_steps=round(config.warmup * total_steps),
        initial_factor=config.initial_factor,
    )
    muon, rate = None, config.muon_learning_rate
    if rate is not None:
        factor = rate / config.peak_learning_rate
        muon = make_muon(
            lambda step: factor * schedule(step), momentum=config.momentum, weight_decay=config.muon_weight_decay
        )
    return schedule, make_optimizer(
        schedule,
        method=config.method,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        muon=muon,
        clip_norm=config.clip_norm,
        layer_factor=config.layer_factor,
        depth=model.depth,
    )


def _batch_maker(config: Config, shapes: Shapes, augmentations: tuple[Augmentation, ...]) -> Callable[..., Batch]:
    """Make `make_batch(data, row, key, step)`; `key` is the root key of the run, `row` has indices or `Examples`."""
    steps_per_epoch = shapes.images // config.train.batch_size

    def make_batch(data: PyTree, row: PyTree, key: Key[Array, ""], step: Int[Array, ""]) -> Batch:
        keys = split_by_purpose(key)
        examples = row if isinstance(row, Examples) else gather(data, row, shapes.image)
        images = examples.images
        if config.augment.flip == "alternating":
            epoch = step // steps_per_epoch
            images = flip(images, alternating_mirror(keys.flip, examples.indices, epoch, shapes.images))
        labels = jax.nn.one_hot(examples.labels, shapes.classes, dtype=jnp.float32)
        soft_labels = optax.smooth_labels(labels, config.train.label_smoothing)
        return Batch(*augment(augmentations, jax.random.fold_in(keys.augmentation, step), images, soft_labels))

    return make_batch


def steps_per_call(steps_per_epoch: int) -> int:
    """Return how many steps one call to an accelerator takes: 25 to 100, and if possible a divisor of the epoch.

    With a divisor, no second program is compiled for the rest of each epoch. If there is none, 50.
    """
    if steps_per_epoch <= 25:
        return steps_per_epoch
    return max((size for size in range(25, 101) if steps_per_epoch % size == 0), default=50)
