"""Assembles a run from its configuration: data, network, compiled functions, starting state."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Key

from resnet_jax.config import Config, DataConfig, as_dict
from resnet_jax.data.augment import normalize
from resnet_jax.data.choice import choose_feed, encoded
from resnet_jax.data.dataset import AnySplit, Dataset, Split
from resnet_jax.data.encoded import EncodedSplit
from resnet_jax.data.feed import EvalBatch, Feed
from resnet_jax.data.reading.folder import has_class_folders
from resnet_jax.data.resident import ResidentFeed, eval_batches
from resnet_jax.data.source import Source, open_folder, open_tfds
from resnet_jax.data.stream import StreamedBatches, StreamFeed
from resnet_jax.data.workers import MOST, Workers, cores
from resnet_jax.errors import UserError
from resnet_jax.hardware.compilation import CompiledStep
from resnet_jax.hardware.sharding import place, replicated, sharded
from resnet_jax.training.model import draw_model, start_from
from resnet_jax.training.program import Program, RunSteps, Shapes, make_program
from resnet_jax.training.randomness import split_by_purpose
from resnet_jax.training.state import TrainState
from resnet_jax.training.step import make_eval_step


@dataclass(frozen=True)
class Run:
    """A run that is ready to start."""

    config: Config
    dataset: Dataset
    mesh: Mesh
    feed: Feed
    """The training images."""
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


def open_source(config: DataConfig, *, hold_out: bool = True) -> Source:
    """Open the images that `config` describes; see `resnet_jax.data.source`.

    A `dir` that holds images in class folders is read as a folder: it is not one in which TFDS has prepared anything.
    """
    if config.dir is not None and (config.source == "folder" or has_class_folders(config.dir.expanduser())):
        return open_folder(config.dir, hold_out=hold_out)
    return open_tfds(config.name, config.dir)


def read_images(config: Config, device: jax.Device, *, hold_out: bool = True) -> Dataset:
    """Read the images of a run into memory, or only list them if they are to be streamed; see `choose_feed`."""
    data = config.data
    source = open_source(data, hold_out=hold_out)
    dataset = encoded(source, data.image_size, resize=data.resize)
    feed, reason = choose_feed(dataset, data.feed, device, crops=config.augment.crop_scale is not None)
    if feed == "resident":
        dataset = load(source, data.image_size, resize=data.resize)
    return replace(dataset, remarks=(*dataset.remarks, reason))


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
    remarks: tuple[str, ...] = ()
    if config.model.pretrained is None:
        mean, std = dataset.statistics()
    else:
        trained = start_from(model, config.model.pretrained, config.model)
        mean, std = (np.array(it, np.float32) for it in (trained.preprocessing.mean, trained.preprocessing.std))
        remarks += tuple(f"{config.model.pretrained}: {note}" for note in trained.info.get("notes", ()))
    streamed = isinstance(train, EncodedSplit)
    shapes = Shapes(train.num_images, train.image_shape, len(dataset.class_names), streamed)
    program = make_program(chosen, model, shapes, mean, std)
    state = jax.device_put(program.create_state(model), replicated(mesh))
    graphdef, keys = nnx.graphdef(model), split_by_purpose(jax.random.key(config.train.seed))
    run = Run(
        config=config,
        dataset=dataset,
        mesh=mesh,
        feed=_make_feed(config, train, keys.order, mesh),
        program=program,
        steps=CompiledStep(program.run_steps),
        small_steps=CompiledStep(program.run_small_steps),
        evaluations={
            name: evaluation_batches(split, config.evaluate.batch_size, mesh, config.data.workers)
            for name, split in (("val", dataset.val), ("test", dataset.test))
            if split is not None
        },
        eval_steps={
            tta: make_eval_step(graphdef, partial(normalize, mean=mean, std=std), tta=tta)
            for tta in dict.fromkeys(("none", config.evaluate.tta))
        },
        info=_checkpoint_info(config, dataset, mean, std),
        remarks=remarks,
    )
    return run, state


def _make_feed(config: Config, train: AnySplit, order: Key[Array, ""], mesh: Mesh) -> Feed:
    batch_size, least = config.train.batch_size, config.augment.crop_scale
    if isinstance(train, Split):
        return ResidentFeed(*train, batch_size=batch_size, key=order, mesh=mesh)
    return StreamFeed(
        train,
        batch_size=batch_size,
        seed=config.train.seed,
        crop_scale=None if least is None else (least, 1.0),
        mesh=mesh,
        workers=workers_for(config.data.workers, mesh),
    )


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


def evaluation_batches(split: AnySplit, batch_size: int, mesh: Mesh, workers: int | None) -> Iterable[EvalBatch]:
    """Return the batches of a split, on the devices or streamed to them.

    Their size is rounded up to divide evenly, and no larger than the split.
    """
    batch_size = min(batch_size, split.num_images)
    batch_size = -(-batch_size // mesh.size) * mesh.size
    if isinstance(split, EncodedSplit):
        return StreamedBatches(split, batch_size=batch_size, mesh=mesh, workers=workers_for(workers, mesh))
    return [place(batch, sharded(mesh)) for batch in eval_batches(*split, batch_size)]


def workers_for(processes: int | None, mesh: Mesh) -> Workers:
    """Return who decodes; by default one process for each core but one, and threads if the devices are these cores."""
    if processes is None:
        processes = 0 if mesh.devices.flat[0].platform == "cpu" else min(cores() - 1, MOST)
    return Workers(processes)
