"""The augmentations of a recipe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.config import AugmentConfig
from resnet_jax.data.augment import augment
from resnet_jax.training.augmentations import make_augmentations

MEAN, STD = np.zeros(3, np.float32), np.ones(3, np.float32)


def test_without_options_images_are_normalized_and_labels_kept():
    images = jax.random.bits(jax.random.key(1), (4, 8, 8, 3), jnp.uint8)
    augmentations = make_augmentations(AugmentConfig(), MEAN, STD, small=True)
    augmented, labels = augment(augmentations, jax.random.key(0), images, jnp.eye(4))
    np.testing.assert_allclose(augmented, np.asarray(images) / 255, rtol=1e-6)
    np.testing.assert_array_equal(labels, jnp.eye(4))


OPTIONS = {
    **{"crop_padding": 1, "flip": "random", "rand_augment": 9, "cutout": 2, "erasing": 0.2},
    **{"mixup": 0.2, "cutmix": 1.0, "small_size": 4},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_adds_an_augmentation(name):
    recipe = AugmentConfig(**{name: OPTIONS[name]})
    assert len(make_augmentations(recipe, MEAN, STD, small=True)) == 2


def test_images_are_of_full_size_unless_small_ones_are_asked_for():
    assert len(make_augmentations(AugmentConfig(small_size=4), MEAN, STD, small=False)) == 1
