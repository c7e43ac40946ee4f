"""The images of a run: where they come from, and how they reach the devices."""

from collections.abc import Iterable
from dataclasses import replace

import jax
from jax.sharding import Mesh
from jaxtyping import Array, Key

from resnet_jax.config import Config, DataConfig
from resnet_jax.data.choice import choose_feed, encoded
from resnet_jax.data.dataset import AnySplit, Dataset, Split
from resnet_jax.data.encoded import EncodedSplit
from resnet_jax.data.feed import EvalBatch, Feed
from resnet_jax.data.memory import load
from resnet_jax.data.reading.folder import has_class_folders
from resnet_jax.data.reading.images import Interpolation
from resnet_jax.data.resident import ResidentFeed, eval_batches
from resnet_jax.data.source import Source, open_folder, open_tfds
from resnet_jax.data.stream import StreamedBatches, StreamFeed
from resnet_jax.data.workers import MOST, Workers, cores
from resnet_jax.hardware.sharding import place, sharded


def open_source(config: DataConfig, *, hold_out: bool = True) -> Source:
    """Open the images that `config` describes; see `resnet_jax.data.source`.

    A `dir` that holds images in class folders is read as a folder: it is not one in which TFDS has prepared anything.
    """
    if config.dir is not None and (config.source == "folder" or has_class_folders(config.dir.expanduser())):
        return open_folder(config.dir, hold_out=hold_out)
    return open_tfds(config.name, config.dir)


def read_images(config: Config, device: jax.Device) -> Dataset:
    """Read the images of a run, for devices of this kind; see `read_source`."""
    return read_source(open_source(config.data), config.data, device, crops=config.augment.crop_scale is not None)


def read_source(
    source: Source,
    config: DataConfig,
    device: jax.Device,
    *,
    crops: bool = False,
    interpolation: Interpolation = "bilinear",
) -> Dataset:
    """Decode the images of a source into memory, or leave them encoded, to be streamed; see `choose_feed`.

    Args:
        source: the images.
        config: their size, and the feed if the user has chosen one.
        device: one of the devices.
        crops: whether the stored images are cropped at random in the training.
        interpolation: how images are resized.
    """
    size, resize = config.image_size, config.resize
    dataset = encoded(source, size, resize=resize, interpolation=interpolation)
    feed, reason = choose_feed(dataset, config.feed, device, crops=crops)
    if feed == "resident":
        dataset = load(source, size, resize=resize, interpolation=interpolation)
    return replace(dataset, remarks=(*dataset.remarks, reason))


def make_feed(config: Config, train: AnySplit, order: Key[Array, ""], mesh: Mesh) -> Feed:
    """Make the feed of the training images; `order` decides that of a resident one."""
    batch_size, least = config.train.batch_size, config.augment.crop_scale
    if isinstance(train, Split):
        return ResidentFeed(*train, batch_size=batch_size, key=order, mesh=mesh)
    return StreamFeed(
        train,
        batch_size=batch_size,
        seed=config.train.seed,
        crop_scale=None if least is None else (least, 1.0),
        mesh=mesh,
        workers=workers_for(config.data.workers, mesh.devices.flat[0]),
    )


def evaluation_batches(split: AnySplit, batch_size: int, mesh: Mesh, workers: int | None) -> Iterable[EvalBatch]:
    """Return the batches of a split, on the devices or streamed to them.

    Their size is rounded up to divide evenly, and no larger than the split.
    """
    batch_size = min(batch_size, split.num_images)
    batch_size = -(-batch_size // mesh.size) * mesh.size
    if isinstance(split, EncodedSplit):
        return StreamedBatches(
            split, batch_size=batch_size, mesh=mesh, workers=workers_for(workers, mesh.devices.flat[0])
        )
    return [place(batch, sharded(mesh)) for batch in eval_batches(*split, batch_size)]


def batches_on_host(split: AnySplit, batch_size: int, device: jax.Device) -> Iterable[EvalBatch]:
    """Return the batches of a split on the host, for a `Predictor`."""
    if isinstance(split, EncodedSplit):
        return StreamedBatches(split, batch_size=batch_size, workers=workers_for(None, device))
    return eval_batches(*split, batch_size)


def workers_for(processes: int | None, device: jax.Device) -> Workers:
    """Return who decodes; by default one process for each core but one, and threads if the devices are the cores."""
    if processes is None:
        processes = 0 if device.platform == "cpu" else min(cores() - 1, MOST)
    return Workers(processes)
