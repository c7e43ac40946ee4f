"""Assembles a run from its configuration: data, network, compiled functions, starting state."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import PyTree

from resnet_jax.config import Config, ModelConfig, as_dict
from resnet_jax.data.augment import normalize
from resnet_jax.data.dataset import Dataset
from resnet_jax.data.encoded import SAMPLE, EncodedSplit
from resnet_jax.data.feed import EvalBatch, Feed
from resnet_jax.errors import UserError
from resnet_jax.hardware.compilation import CompiledStep
from resnet_jax.hardware.sharding import replicate
from resnet_jax.models.convnet import ConvNet
from resnet_jax.training.images import evaluation_batches, make_feed
from resnet_jax.training.model import draw_model, start_from
from resnet_jax.training.program import Program, RunSteps, Shapes, make_program
from resnet_jax.training.randomness import split_by_purpose
from resnet_jax.training.state import TrainState
from resnet_jax.training.step import make_eval_step
from resnet_jax.training.teacher import Taught, load_teacher


@dataclass(frozen=True)
class Run:
    """A run that is ready to start."""

    config: Config
    dataset: Dataset
    mesh: Mesh
    feed: Feed
    """The training images."""
    data: PyTree
    """Arrays that stay on the devices: those of the feed, and a teacher's weights."""
    program: Program
    steps: RunSteps
    """`program.run_steps`, compiled when first called."""
    small_steps: RunSteps
    """`program.run_small_steps`, likewise."""
    evaluations: dict[str, Iterable[EvalBatch]]
    """Batches on the devices by split: "test", and "val" if images are held out."""
    eval_steps: dict[str, Callable]
    """By test-time augmentation: "none", and the configured one."""
    info: dict[str, Any]
    """Metadata stored with each checkpoint."""
    remarks: tuple[str, ...]
    """What was renamed and left out of the pretrained weights, one phrase each."""


def resolve(config: Config, platform: str) -> Config:
    """Replace each `None` of a configuration that stands for a choice by that choice.

    Args:
        config: as the user wrote it.
        platform: JAX's name of the devices, "cpu", "gpu" or "tpu".
    """
    dtype = config.model.dtype or ("float32" if platform == "cpu" else "bfloat16")
    return replace(config, model=replace(config.model, dtype=dtype))


def assemble(config: Config, dataset: Dataset, mesh: Mesh) -> tuple[Run, TrainState]:
    """Build the run and its state at step 0, all on the devices of `mesh`.

    Raises:
        UsageError: the configuration does not fit the data; see `make_program`.
        UserError: there are no images to train on.
    """
    if not dataset.train.num_images:
        raise UserError(f"{dataset.name} has only a test split: add {dataset.name}/train to train on")
    chosen = resolve(config, mesh.devices.flat[0].platform)
    dataset = dataset.hold_out(config.data.val_fraction)
    train = dataset.train
    model = draw_model(chosen, len(dataset.class_names))
    mean, std, *remarks = _start(config.model, model, dataset)
    shapes = Shapes(
        train.num_images, train.image_shape, len(dataset.class_names), streamed=isinstance(train, EncodedSplit)
    )
    teacher = None
    if config.train.teacher is not None:
        teacher = load_teacher(config.train.teacher, dataset.class_names, mean, std, chosen.model.dtype or np.float32)
        remarks.append(f"taught by {config.train.teacher}, {teacher.info['arch']} of width {teacher.info['width']}")
    program = make_program(chosen, model, shapes, mean, std, teacher)
    state = replicate(program.create_state(model), mesh)
    graphdef, keys = nnx.graphdef(model), split_by_purpose(jax.random.key(config.train.seed))
    feed = make_feed(config, train, keys.order, mesh)
    info = _checkpoint_info(config, dataset, mean, std)
    run = Run(
        config=config,
        dataset=dataset,
        mesh=mesh,
        feed=feed,
        data=feed.data if teacher is None else Taught(feed.data, replicate(teacher.weights, mesh)),
        program=program,
        steps=CompiledStep(program.run_steps),
        small_steps=CompiledStep(program.run_small_steps),
        evaluations=_evaluations(config, dataset, mesh),
        eval_steps={
            tta: make_eval_step(graphdef, partial(normalize, mean=mean, std=std), devices=mesh.size, tta=tta)
            for tta in dict.fromkeys(("none", config.evaluate.tta))
        },
        info=info if teacher is None else info | {"teacher": teacher.info},
        remarks=tuple(remarks),
    )
    return run, state


def _start(config: ModelConfig, model: ConvNet, dataset: Dataset) -> tuple[Any, ...]:
    """Set pretrained weights, if there are any; return mean and standard deviation of the images, then remarks."""
    if config.pretrained is not None:
        trained = start_from(model, config.pretrained, config)
        notes = (f"{config.pretrained}: {note}" for note in trained.info.get("notes", ()))
        mean, std = (np.array(it, np.float32) for it in (trained.preprocessing.mean, trained.preprocessing.std))
        return mean, std, *notes
    if isinstance(dataset.train, EncodedSplit) and dataset.train.num_images > SAMPLE:
        remark = f"images are normalized by mean and standard deviation of {SAMPLE:,} training images"
        return *dataset.statistics(), remark
    return dataset.statistics()


def _evaluations(config: Config, dataset: Dataset, mesh: Mesh) -> dict[str, Iterable[EvalBatch]]:
    return {
        name: evaluation_batches(split, config.evaluate.batch_size, mesh, config.data.workers)
        for name, split in (("val", dataset.val), ("test", dataset.test))
        if split is not None
    }


def _checkpoint_info(config: Config, dataset: Dataset, mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    """Describe what a network's user needs beside its weights; mean and std are in units of 0 to 1."""
    return {
        "config": as_dict(config),
        "class_names": list(dataset.class_names),
        "image_shape": list(dataset.train.image_shape),
        "resize": config.data.resize,
        "train_images": dataset.train.num_images,
        "test_images": dataset.test.num_images,
        "data": dataset.contents,
        "mean": mean.tolist(),
        "std": std.tolist(),
    }
