"""Augmentation of image batches on the device: pure, jittable, one random key each."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

Images = UInt8[Array, "batch height width channels"]


def random_crop(key: Key[Array, ""], images: Images, padding: int) -> Images:
    """Shifts each image by up to `padding` pixels in both directions, reflecting the edges.

    The same as reflect-padding by `padding` and cropping at random back to size.
    """
    rows, columns = jax.random.randint(key, (2, len(images)), -padding, padding + 1)
    return _shift(images, rows, columns)


def shift(images: Images, by: int) -> Images:
    """Shifts all images by `by` pixels down and right, reflecting the edges."""
    if by == 0:
        return images
    every = jnp.full(len(images), -by)
    return _shift(images, every, every)


def _shift(images: Images, rows: Int[Array, " batch"], columns: Int[Array, " batch"]) -> Images:
    height, width = images.shape[1:3]
    row = _reflect(jnp.arange(height) + rows[:, None], height)
    column = _reflect(jnp.arange(width) + columns[:, None], width)
    return images[jnp.arange(len(images))[:, None, None], row[:, :, None], column[:, None, :]]


def _reflect(index: Int[Array, "..."], size: int) -> Int[Array, "..."]:
    """Folds indices into 0..size-1, the edge pixel not repeated: -1 -> 1, size -> size - 2."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return jnp.minimum(index, period - index)


def flip(images: Images, where: Bool[Array, " batch"]) -> Images:
    """Mirrors the images at which `where` is True, left to right."""
    return jnp.where(where[:, None, None, None], images[:, :, ::-1], images)


def random_flip(key: Key[Array, ""], images: Images) -> Images:
    """Mirrors each image with probability 1/2."""
    return flip(images, jax.random.bernoulli(key, shape=(len(images),)))


def alternating_flip(
    key: Key[Array, ""], images: Images, indices: Int[Array, " batch"], epoch: Int[Array, ""], count: int
) -> Images:
    """Mirrors a random half of the data set in even epochs, and the other half in odd ones.

    Two epochs in a row thus see every image both ways (Jordan 2024, arXiv:2404.00498, section 3.6).

    Args:
        key: the same in every epoch.
        images: the images at `indices` of the data set.
        epoch: from 0.
        count: images in the data set.
    """
    first = jax.random.bernoulli(key, shape=(count,))[indices]
    return flip(images, first ^ (epoch % 2 == 1))


def cutout(
    key: Key[Array, ""], images: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch height width channels"]:
    """Sets a square of `size` pixels to 0 in each image (DeVries and Taylor 2017).

    Its centre is uniform over the pixels, so it may reach over the edge. On normalised images 0 is the mean colour.
    """
    height, width = images.shape[1:3]
    rows, columns = jax.random.randint(key, (2, len(images), 1), 0, jnp.array([[[height]], [[width]]]))
    low, high = size // 2, size - size // 2

    def inside(positions: Array, centre: Array) -> Array:
        return (positions >= centre - low) & (positions < centre + high)

    square = inside(jnp.arange(height), rows)[:, :, None] & inside(jnp.arange(width), columns)[:, None, :]
    return jnp.where(square[..., None], 0, images)


def shrink(images: Float[Array, "batch height width channels"], size: int) -> Float[Array, "batch size size channels"]:
    """Shrinks images to `size` pixels a side, each a weighted mean of those around it (a triangle filter).

    Training starts on such images and goes on to full size for speed ("progressive resizing"; Howard 2018, fastai's
    entry to DAWNBench, https://www.fast.ai/posts/2018-08-10-fastai-diu-imagenet.html).
    """
    shape = (len(images), size, size, images.shape[-1])
    return jax.image.resize(images, shape, "linear", antialias=True)


def normalize(
    images: Images, mean: Float[Array | np.ndarray, " channels"], std: Float[Array | np.ndarray, " channels"]
) -> Float[Array, "batch height width channels"]:
    """Maps uint8 images to float32 of mean 0 and deviation 1; `mean` and `std` are in units of 0 to 1."""
    return (images.astype(jnp.float32) / 255 - mean) / std
