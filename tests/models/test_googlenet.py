"""What GoogLeNet does with its images."""

from inspect import unwrap

import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.googlenet import recentre


def test_black_and_white_become_minus_1_and_1():
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = jnp.float32((np.array([0.0, 1.0])[:, None] - mean) / std).reshape(1, 1, 2, 3)
    np.testing.assert_allclose(recentre(images)[0, 0], [[-1] * 3, [1] * 3], atol=1e-6)


def test_images_of_integers_are_refused():
    with pytest.raises(TypeError, match="normalized"):
        unwrap(recentre)(np.zeros((1, 8, 8, 3), np.uint8))  # without the type checks of the tests
