"""The resident pipeline: the data set lies on the devices as uint8, and a batch is a function of (seed, step).

Order, crop, flip, cutout and normalisation run inside the jitted step, so nothing is copied from the host and a run
resumes without any loader state.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, Key, UInt8

from resnet_jax.data import augment


class Resident(NamedTuple):
    """A split on the devices, an image to a row.

    As `[n, height, width, 3]` a TPU would copy all of it at every dispatch, into tiles that make it 4 times as large.
    """

    rows: UInt8[Array, "n values"]
    labels: Int32[Array, " n"]


class EvalBatch(NamedTuple):
    """Images to evaluate; the last batch is filled up with copies, where `mask` is False."""

    images: UInt8[np.ndarray, "batch height width 3"]
    labels: Int32[np.ndarray, " batch"]
    mask: Bool[np.ndarray, " batch"]


def epoch_order(
    key: Key[Array, ""], epoch: int | Int[Array, ""], count: int, batch_size: int
) -> Int32[Array, "steps batch"]:
    """Draws the order of an epoch: rows are batches of indices; images beyond the last full batch are left out."""
    steps = count // batch_size
    order = jax.random.permutation(jax.random.fold_in(key, epoch), count)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(jnp.int32)


def augmented_images(
    data: Resident,
    indices: Int[Array, " batch"],
    key: Key[Array, ""],
    flip_key: Key[Array, ""],
    epoch: Int[Array, ""],
    *,
    shape: tuple[int, int, int],
    crop_padding: int | None,
    flip: Literal["none", "random", "alternating"],
    cutout: int | None,
    size: int | None,
    mean: Float[np.ndarray, " 3"],
    std: Float[np.ndarray, " 3"],
) -> Float[Array, "batch out_height out_width 3"]:
    """Takes the images at `indices`, augments and normalises them.

    Args:
        key: this step's.
        flip_key: the run's, for the alternating flip.
        epoch: from 0.
        shape: of an image in `data`: height, width, 3.
        crop_padding, flip, cutout: see `resnet_jax.data.augment`.
        size: pixels of a side that they are shrunk to; None for their own.
        mean, std: per channel, in units of 0 to 1.
    """
    crop_key, mirror_key, cutout_key = jax.random.split(key, 3)
    images = data.rows[indices].reshape(-1, *shape)
    if crop_padding is not None:
        images = augment.random_crop(crop_key, images, crop_padding)
    if flip == "random":
        images = augment.random_flip(mirror_key, images)
    elif flip == "alternating":
        images = augment.alternating_flip(flip_key, images, indices, epoch, len(data.labels))
    floats = augment.normalize(images, mean, std)
    if cutout is not None:
        floats = augment.cutout(cutout_key, floats, cutout)
    return floats if size is None else augment.shrink(floats, size)


def eval_batches(
    images: UInt8[np.ndarray, "n height width 3"], labels: Int32[np.ndarray, " n"], batch_size: int
) -> Iterator[EvalBatch]:
    """Cuts a split into batches of one size in which every image counts exactly once."""
    for start in range(0, len(images), batch_size):
        index = np.arange(start, start + batch_size)
        mask = index < len(images)
        index = np.minimum(index, len(images) - 1)
        yield EvalBatch(images[index], labels[index], mask)


def channel_statistics(
    images: UInt8[np.ndarray, "n height width 3"],
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
    """Computes mean and standard deviation of each channel over all pixels, in units of 0 to 1, exactly."""
    levels = np.arange(256) / 255
    counts = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)])
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt(shares @ levels**2 - mean**2)
    return mean.astype(np.float32), np.maximum(std, 1 / 255).astype(np.float32)
