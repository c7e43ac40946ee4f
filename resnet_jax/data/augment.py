"""Augmentation of image batches on the device, inside the compiled step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num, UInt8

Images = UInt8[Array, "batch height width channels"]
AnyImages = Num[Array, "batch _ _ channels"]
SoftLabels = Float[Array, "batch classes"]
Augmentation = Callable[[Key[Array, ""], AnyImages, SoftLabels], tuple[AnyImages, SoftLabels]]


def augment(
    augmentations: tuple[Augmentation, ...], key: Key[Array, ""], images: Images, soft_labels: SoftLabels
) -> tuple[AnyImages, SoftLabels]:
    """Apply augmentations one after another, each with a key of its own."""
    augmented: AnyImages = images
    for number, augmentation in enumerate(augmentations):
        augmented, soft_labels = augmentation(jax.random.fold_in(key, number), augmented, soft_labels)
    return augmented, soft_labels


def random_crop(key: Key[Array, ""], images: Images, padding: int) -> Images:
    """Shift each image by up to `padding` pixels in both directions, reflecting the edges.

    This is the same as reflect-padding by `padding` and cropping at random back to size.
    """
    rows, columns = jax.random.randint(key, (2, len(images)), -padding, padding + 1, jnp.int32)
    return _shift(images, rows, columns)


def shift(images: Images, by: int) -> Images:
    """Shift all images by `by` pixels down and right, reflecting the edges."""
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
    """Fold indices into 0..size-1, without repeating the edge pixel: -1 -> 1, size -> size - 2."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return jnp.minimum(index, period - index)


def flip(images: Images, where: Bool[Array, " batch"]) -> Images:
    """Mirror the images at which `where` is True, left to right."""
    return jnp.where(where[:, None, None, None], images[:, :, ::-1], images)


def random_flip(key: Key[Array, ""], images: Images) -> Images:
    """Mirror each image with probability 1/2."""
    return flip(images, _coin(key, len(images)))


def alternating_mirror(
    key: Key[Array, ""], indices: Int[Array, " batch"], epoch: Int[Array, ""], count: int
) -> Bool[Array, " batch"]:
    """Tell which images to mirror: a random half of the data set in even epochs, the other half in odd ones.

    Two epochs in a row thus show every image both ways (Jordan 2024, arXiv:2404.00498, section 3.6).

    Args:
        key: the same in every epoch.
        indices: places of the images in the data set.
        epoch: from 0.
        count: images in the data set.
    """
    return _coin(key, count)[indices] ^ (epoch % 2 == 1)


def _coin(key: Key[Array, ""], count: int) -> Bool[Array, " count"]:
    """Draw True or False, each with probability 1/2; the same where JAX computes in float64."""
    return jax.random.bernoulli(key, jnp.float32(0.5), (count,))


def cut_out(
    key: Key[Array, ""], images: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch height width channels"]:
    """Set a square of `size` pixels to 0 in each image (cutout; DeVries and Taylor 2017, arXiv:1708.04552).

    Its center is uniform over the pixels, so it may reach over the edge. In normalized images 0 is the mean color.
    """
    height, width = images.shape[1:3]
    rows, columns = jax.random.randint(key, (2, len(images), 1), 0, jnp.array([[[height]], [[width]]]), jnp.int32)
    low, high = size // 2, size - size // 2

    def inside(positions: Array, center: Array) -> Array:
        return (positions >= center - low) & (positions < center + high)

    square = inside(jnp.arange(height), rows)[:, :, None] & inside(jnp.arange(width), columns)[:, None, :]
    return jnp.where(square[..., None], 0, images)


def shrink(images: Float[Array, "batch height width channels"], size: int) -> Float[Array, "batch size size channels"]:
    """Shrink images to `size` pixels a side, with a triangle filter.

    Training that starts on small images and continues at full size takes less time ("progressive resizing"; Howard
    2018, https://www.fast.ai/posts/2018-08-10-fastai-diu-imagenet.html).
    """
    shape = (len(images), size, size, images.shape[-1])
    return jax.image.resize(images, shape, "linear", antialias=True)


def normalize(
    images: Images, mean: Float[Array | np.ndarray, " channels"], std: Float[Array | np.ndarray, " channels"]
) -> Float[Array, "batch height width channels"]:
    """Map uint8 images to float32 of mean 0 and standard deviation 1; `mean` and `std` are in units of 0 to 1."""
    return (images.astype(jnp.float32) / 255 - mean) / std
