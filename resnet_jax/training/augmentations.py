"""The augmentations of a recipe, in their order."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import Float

from resnet_jax.config import AugmentConfig
from resnet_jax.data.augment import AnyImages, Augmentation, cut_out, normalize, random_crop, random_flip, shrink
from resnet_jax.data.erase import random_erase
from resnet_jax.data.mix import mix_at_random
from resnet_jax.data.rand_augment import rand_augment


def make_augmentations(
    recipe: AugmentConfig, mean: Float[np.ndarray, " 3"], std: Float[np.ndarray, " 3"], *, small: bool
) -> tuple[Augmentation, ...]:
    """Make the functions that turn uint8 images into training input, in their order.

    The alternating flip is not among them, since it depends on an image's place in the data set: see
    `resnet_jax.data.augment.alternating_mirror`.

    Args:
        recipe: the options.
        mean, std: statistics that the images are normalized by, in units of 0 to 1.
        small: whether images are shrunk to the recipe's small size, as in its first epochs.
    """
    found: list[Augmentation] = []
    if recipe.crop_padding is not None:
        found.append(_of_images(partial(random_crop, padding=recipe.crop_padding)))
    if recipe.flip == "random":
        found.append(_of_images(random_flip))
    if recipe.rand_augment is not None:
        found.append(_of_images(partial(rand_augment, magnitude=recipe.rand_augment)))
    found.append(_of_images(lambda key, images: normalize(images, mean, std)))
    if recipe.cutout is not None:
        found.append(_of_images(partial(cut_out, size=recipe.cutout)))
    if recipe.erasing is not None:
        found.append(_of_images(partial(random_erase, probability=recipe.erasing)))
    if small and (size := recipe.small_size) is not None:
        found.append(_of_images(lambda key, images: shrink(images, size)))
    if recipe.mixup is not None or recipe.cutmix is not None:
        found.append(partial(mix_at_random, mixup=recipe.mixup, cutmix=recipe.cutmix))
    return tuple(found)


def _of_images(function: Callable[..., AnyImages]) -> Augmentation:
    """Make an augmentation of a function of key and images, which leaves the labels as they are."""
    return lambda key, images, soft_labels: (function(key, images), soft_labels)
