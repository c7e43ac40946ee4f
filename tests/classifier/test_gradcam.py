"""Grad-CAM: its definition and its overlays."""

import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.classifier.gradcam import draw_overlay, grad_cam, write_overlay
from resnet_jax.errors import UserError


def test_the_heat_map_is_the_positive_part_of_the_maps_weighted_by_their_mean_gradients():
    rng = np.random.default_rng(0)
    maps, gradients = (jnp.asarray(rng.normal(size=(3, 7, 5, 8)), jnp.float32) for _ in range(2))
    weights = gradients.mean((1, 2), keepdims=True)  # equation 1 of the paper
    expected = np.maximum((weights * maps).sum(-1), 0)  # equation 2
    np.testing.assert_allclose(grad_cam(maps, gradients), expected, rtol=1e-4, atol=1e-6)


def test_an_overlay_changes_the_image_most_where_the_heat_is_highest():
    image, heat = np.full((224, 224, 3), 90, np.uint8), np.zeros((7, 7), np.float32)
    heat[0, 6] = 3.0
    drawn = draw_overlay(image, heat)
    np.testing.assert_array_equal(drawn[64:], image[64:])
    difference = np.abs(drawn.astype(int) - 90).sum(-1)
    assert difference[:16, -16:].min() == difference.max() > 100


def test_an_image_without_heat_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    np.testing.assert_array_equal(draw_overlay(image, np.zeros((7, 7), np.float32)), image)


def test_the_overlay_of_a_small_image_is_enlarged():
    assert draw_overlay(np.zeros((32, 32, 3), np.uint8), np.ones((4, 4), np.float32)).shape == (224, 224, 3)


def test_an_overlay_that_cannot_be_written_names_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--explain-dir"):
        write_overlay(tmp_path / "file" / "a.png", np.zeros((32, 32, 3), np.uint8), np.ones((4, 4), np.float32))
