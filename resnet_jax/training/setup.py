"""Assembles a run from its configuration: data, network, compiled functions, starting state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import PyTree

from resnet_jax.config import Config, DataConfig, as_dict
from resnet_jax.data.augment import normalize
from resnet_jax.data.feed import Feed
from resnet_jax.data.memory import Dataset, Split
from resnet_jax.data.reading.folder import has_class_folders
from resnet_jax.data.resident import EvalBatch, ResidentFeed, eval_batches
from resnet_jax.data.source import Source, open_folder, open_tfds
from resnet_jax.errors import UserError
from resnet_jax.hardware.compilation import CompiledStep
from resnet_jax.hardware.sharding import place, replicated, sharded
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
    evaluations: dict[str, Sequence[EvalBatch]]
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


def open_source(config: DataConfig, *, hold_out: bool = True) -> Source:
    """Open the images that `config` describes; see `resnet_jax.data.source`.

    A `dir` that holds images in class folders is read as a folder: it is not one in which TFDS has prepared anything.
    """
    if config.dir is not None and (config.source == "folder" or has_class_folders(config.dir.expanduser())):
        return open_folder(config.dir, hold_out=hold_out)
    return open_tfds(config.name, config.dir)


def assemble(config: Config, dataset: Dataset, mesh: Mesh) -> tuple[Run, TrainState]:
    """Build the run and its state at step 0, all on the devices of `mesh`.

    Raises:
        UsageError: the configuration does not fit the data; see `make_program`.
        UserError: there are no images to train on.
    """
    if not len(dataset.train.labels):
        raise UserError(f"{dataset.name} has only a test split: add {dataset.name}/train to train on")
    chosen = resolve(config, mesh.devices.flat[0].platform)
    dataset = dataset.hold_out(config.data.val_fraction)
    train = dataset.train
    model = draw_model(chosen, len(dataset.class_names))
    remarks: tuple[str, ...] = ()
    if config.model.pretrained is None:
        mean, std = dataset.statistics()
    else:
        trained = start_from(model, config.model.pretrained, config.model)
        mean, std = (np.array(it, np.float32) for it in (trained.preprocessing.mean, trained.preprocessing.std))
        remarks += tuple(f"{config.model.pretrained}: {note}" for note in trained.info.get("notes", ()))
    shapes = Shapes(len(train.labels), train.images.shape[1:], len(dataset.class_names))
    teacher = None
    if config.train.teacher is not None:
        teacher = load_teacher(config.train.teacher, dataset.class_names, mean, std, chosen.model.dtype or np.float32)
        remarks += (f"taught by {config.train.teacher}, {teacher.info['arch']} of width {teacher.info['width']}",)
    program = make_program(chosen, model, shapes, mean, std, teacher)
    state = jax.device_put(program.create_state(model), replicated(mesh))
    graphdef, keys = nnx.graphdef(model), split_by_purpose(jax.random.key(config.train.seed))
    feed = ResidentFeed(*train, batch_size=config.train.batch_size, key=keys.order, mesh=mesh)
    info = _checkpoint_info(config, dataset, mean, std)
    run = Run(
        config=config,
        dataset=dataset,
        mesh=mesh,
        feed=feed,
        data=feed.data if teacher is None else Taught(feed.data, jax.device_put(teacher.weights, replicated(mesh))),
        program=program,
        steps=CompiledStep(program.run_steps),
        small_steps=CompiledStep(program.run_small_steps),
        evaluations={
            name: on_devices(split, config.evaluate.batch_size, mesh)
            for name, split in (("val", dataset.val), ("test", dataset.test))
            if split is not None
        },
        eval_steps={
            tta: make_eval_step(graphdef, partial(normalize, mean=mean, std=std), tta=tta)
            for tta in dict.fromkeys(("none", config.evaluate.tta))
        },
        info=info if teacher is None else info | {"teacher": teacher.info},
        remarks=remarks,
    )
    return run, state


def _checkpoint_info(config: Config, dataset: Dataset, mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    """Describe what a network's user needs beside its weights; mean and std are in units of 0 to 1."""
    return {
        "config": as_dict(config),
        "class_names": list(dataset.class_names),
        "image_shape": list(dataset.train.images.shape[1:]),
        "train_images": len(dataset.train.labels),
        "test_images": len(dataset.test.labels),
        "data": dataset.contents,
        "mean": mean.tolist(),
        "std": std.tolist(),
    }


def on_devices(split: Split, batch_size: int, mesh: Mesh) -> list[EvalBatch]:
    """Put a split on the devices in batches, their size rounded up to divide evenly and no larger than the split."""
    batch_size = min(batch_size, len(split.labels))
    batch_size = -(-batch_size // mesh.size) * mesh.size
    return [place(batch, sharded(mesh)) for batch in eval_batches(*split, batch_size)]
