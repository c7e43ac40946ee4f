"""Puts a run together from its configuration: data, network, compiled functions, starting state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from resnet_jax.classifier.pretrained import load_classifier, load_torchvision
from resnet_jax.config import Config, DataConfig, OptimizerConfig, as_dict
from resnet_jax.data.augment import normalize
from resnet_jax.data.resident import (
    EvalBatch,
    Resident,
    augmented_images,
    channel_statistics,
    epoch_order,
    eval_batches,
)
from resnet_jax.data.source import Dataset, Split, load_folder, load_tfds
from resnet_jax.data.split import stratified_holdout
from resnet_jax.errors import UsageError
from resnet_jax.hardware.compilation import LaidOut
from resnet_jax.hardware.sharding import place, replicated, sharded
from resnet_jax.models.registry import Network
from resnet_jax.models.resnet import ResNet
from resnet_jax.training.metrics import TrainMetrics
from resnet_jax.training.optimizer import make_optimizer, make_schedule
from resnet_jax.training.state import TrainState, create_state
from resnet_jax.training.step import Batch, TrainStep, dispatch_size, make_dispatch, make_eval_step, make_train_step
from resnet_jax.weights.torchvision import to_torchvision


@dataclass(frozen=True)
class Program:
    """What a run computes, apart from its arrays."""

    dispatch: Callable[..., tuple[TrainState, TrainMetrics]]
    """Jitted: state, metrics, data set and rows of indices to state and metrics; see `make_dispatch`."""
    small_dispatch: Callable[..., tuple[TrainState, TrainMetrics]]
    """The same on shrunk images, for the first epochs of a recipe that has such."""
    train_step: TrainStep
    """One step of it, from a batch that is ready."""
    make_batch: Callable[..., Batch]
    """What makes that batch: data set, indices, key and step to augmented images and their labels."""
    create_state: Callable[[ResNet], TrainState]
    """From a network to the state at step 0."""
    schedule: optax.Schedule
    """From a step to its learning rate."""
    steps_per_epoch: int
    steps_per_dispatch: int
    """Steps in one call to the device; the last of an epoch may have fewer."""
    total_steps: int


@dataclass(frozen=True)
class Run:
    """A run, ready to go."""

    dataset: Dataset
    train_data: Resident
    """The training images, on the devices."""
    program: Program
    evaluations: dict[str, Sequence[EvalBatch]]
    """Batches on the devices by split: "test", and "val" where one is held out."""
    dispatch: Callable[[TrainState, TrainMetrics, np.ndarray, int], tuple[TrainState, TrainMetrics]]
    """Takes a step for each row of indices, as its epoch has it."""
    order: Callable[[int], np.ndarray]
    """From an epoch to the indices of its batches, `[steps_per_epoch, batch_size]`."""
    eval_steps: dict[str, Callable]
    """By test-time augmentation: "none", and the configured one."""
    info: dict[str, Any]
    """What a checkpoint says of itself beside its arrays."""


def load_dataset(config: DataConfig, *, resize: int | None = None) -> Dataset:
    """Loads the images that `config` asks for; see `resnet_jax.data.source`."""
    if config.source == "folder":
        assert config.dir is not None
        return load_folder(config.dir, config.image_size, resize=resize)
    return load_tfds(config.name, config.dir, config.image_size, resize=resize)


def make_program(
    config: Config, graphdef: nnx.GraphDef, shape: tuple[int, int, int, int], mean: np.ndarray, std: np.ndarray
) -> Program:
    """Builds the computation of a run.

    Args:
        config: the whole configuration.
        graphdef: the network's structure, of `make_model`.
        shape: of the training images: their number, height, width, 3.
        mean, std: what the images are normalised by, in units of 0 to 1.

    Raises:
        UsageError: the batch is larger than the training set.
    """
    count, image_shape = shape[0], shape[1:]
    steps_per_epoch = count // config.train.batch_size
    if steps_per_epoch == 0:
        raise UsageError(
            f"--train.batch-size: got {config.train.batch_size}, wanted at most the {count} training images"
        )
    total_steps = config.train.epochs * steps_per_epoch
    schedule, optimizer = _make_optimizer(config.optimizer, total_steps)
    train_step = make_train_step(
        graphdef,
        optimizer,
        label_smoothing=config.train.label_smoothing,
        ema_decay=config.train.ema_decay,
        frozen_statistics=config.optimizer.layer_factor == 0,
    )

    def start(model: ResNet) -> TrainState:
        key = jax.random.key(config.train.seed)
        return create_state(model, optimizer, key, ema=config.train.ema_decay is not None)

    make_batch, make_small = (
        _batch_maker(config, steps_per_epoch, image_shape, mean, std, size)
        for size in (None, config.augment.small_size)
    )
    suitable = 1 if jax.default_backend() == "cpu" else dispatch_size(steps_per_epoch)
    return Program(
        dispatch=make_dispatch(train_step, make_batch),
        small_dispatch=make_dispatch(train_step, make_small),
        train_step=train_step,
        make_batch=make_batch,
        create_state=start,
        schedule=schedule,
        steps_per_epoch=steps_per_epoch,
        steps_per_dispatch=suitable,
        total_steps=total_steps,
    )


def assemble(config: Config, dataset: Dataset, mesh: Mesh) -> tuple[Run, TrainState]:
    """Builds the run and its state at step 0, all on the devices of `mesh`.

    Raises:
        UsageError: the batch is larger than the training set, or images are to be "shrunk" to more than their size.
    """
    small_size, sides = config.augment.small_size, dataset.train.images.shape[1:3]
    if small_size is not None and small_size >= min(sides):
        raise UsageError(f"--augment.small-size: got {small_size}, wanted fewer than the images' {min(sides)} pixels")
    splits = splits_of(dataset, config.data.val_fraction)
    images, labels = splits["train"]
    count, (mean, std) = len(labels), channel_statistics(images)
    model = nnx.jit(partial(make_model, config, len(dataset.class_names)))()  # one program: 62 draws compile for 7 s
    if config.model.pretrained is not None:
        mean, std = _start_from(model, config.model.pretrained)
    graphdef = nnx.graphdef(model)
    program = make_program(config, graphdef, images.shape, mean, std)
    full, small = LaidOut(program.dispatch), LaidOut(program.small_dispatch)
    train_data = Resident(*place((images.reshape(count, -1), labels), replicated(mesh)))
    draw = jax.jit(partial(epoch_order, count=count, batch_size=config.train.batch_size))
    key = jax.random.key(config.train.seed + 1)  # apart from the one that draws the augmentation

    run = Run(
        dataset=dataset,
        train_data=train_data,
        program=program,
        evaluations={
            name: on_devices(splits[name], config.evaluate.batch_size, mesh) for name in splits if name != "train"
        },
        dispatch=lambda state, metrics, order, epoch: (small if epoch < config.small_epochs else full)(
            state, metrics, train_data, place(order, sharded(mesh, axis=1))
        ),
        order=lru_cache(maxsize=1)(lambda epoch: np.asarray(draw(key, epoch))),
        eval_steps={
            tta: make_eval_step(graphdef, partial(normalize, mean=mean, std=std), tta=tta)
            for tta in dict.fromkeys(("none", config.evaluate.tta))
        },
        info=_checkpoint_info(config, dataset, mean, std),
    )
    return run, jax.device_put(program.create_state(model), replicated(mesh))


def _make_optimizer(config: OptimizerConfig, total_steps: int) -> tuple[optax.Schedule, optax.GradientTransformation]:
    schedule = make_schedule(
        config.schedule,
        config.peak_learning_rate,
        total_steps,
        warmup_steps=round(config.warmup * total_steps),
        initial_factor=config.initial_factor,
    )
    muon = config.muon_learning_rate
    return schedule, make_optimizer(
        schedule,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        muon_factor=None if muon is None else muon / config.peak_learning_rate,
        muon_weight_decay=config.muon_weight_decay,
        clip_norm=config.clip_norm,
        layer_factor=config.layer_factor,
    )


def _checkpoint_info(config: Config, dataset: Dataset, mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    """What the network's user needs beside its weights: images are normalised by the mean and deviation of [0, 1]."""
    return {
        "config": as_dict(config),
        "class_names": list(dataset.class_names),
        "image_shape": list(dataset.train.images.shape[1:]),
        "mean": mean.tolist(),
        "std": std.tolist(),
    }


def make_model(config: Config, num_classes: int) -> ResNet:
    """Draws the network's weights, for the default device where `config` leaves the type open."""
    dtype = config.model.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    try:
        network = Network(config.model.arch, num_classes, config.model.stem, config.model.width)
        return network.build(
            recompute=config.model.recompute,
            dtype=jnp.dtype(dtype),
            rngs=nnx.Rngs(config.train.seed),
        )
    except ValueError as error:
        raise UsageError(f"--model.width: got {config.model.width} with {config.model.arch}: {error}") from error


def _start_from(model: ResNet, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Gives the network pretrained weights under its fresh classifier; the mean and deviation that they know."""
    classifier = load_classifier(source)
    load_torchvision(model, to_torchvision(classifier.model), head="fresh")
    return np.array(classifier.preprocessing.mean, np.float32), np.array(classifier.preprocessing.std, np.float32)


def splits_of(dataset: Dataset, val_fraction: float | None) -> dict[str, Split]:
    """The data set's splits by name, with a held-out part of train, "val", where one is wanted."""
    if val_fraction is None:
        return {"train": dataset.train, "test": dataset.test}
    parts = [
        Split(dataset.train.images[i], dataset.train.labels[i])
        for i in stratified_holdout(dataset.train.labels, val_fraction)
    ]
    return {"train": parts[0], "val": parts[1], "test": dataset.test}


def _batch_maker(
    config: Config,
    steps_per_epoch: int,
    shape: tuple[int, int, int],
    mean: np.ndarray,
    std: np.ndarray,
    size: int | None,
) -> Callable[..., Batch]:
    flip_key = jax.random.key(config.train.seed + 2)

    def make_batch(data: Resident, indices: jax.Array, key: jax.Array, step: jax.Array) -> Batch:
        images = augmented_images(
            data,
            indices,
            key,
            flip_key,
            step // steps_per_epoch,
            shape=shape,
            crop_padding=config.augment.crop_padding,
            flip=config.augment.flip,
            cutout=config.augment.cutout,
            size=size,
            mean=mean,
            std=std,
        )
        return Batch(images, data.labels[indices])

    return make_batch


def on_devices(split: Split, batch_size: int, mesh: Mesh) -> list[EvalBatch]:
    """The split in batches on the devices, their size rounded up to divide evenly and no larger than the split."""
    batch_size = min(batch_size, len(split.labels))
    batch_size = -(-batch_size // mesh.size) * mesh.size
    return [place(batch, sharded(mesh)) for batch in eval_batches(*split, batch_size)]
