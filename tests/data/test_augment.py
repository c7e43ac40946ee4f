"""Augmentations against their definitions in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.data import augment

KEY = jax.random.key(0)


def random_images(count: int = 64, size: int = 8) -> jax.Array:
    return jax.random.randint(jax.random.key(7), (count, size, size, 3), 0, 256).astype(jnp.uint8)


def test_random_crop_is_a_crop_of_the_reflect_padded_image():
    images = random_images()
    padded = np.pad(np.asarray(images), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    for image, source in zip(np.asarray(augment.random_crop(KEY, images, 2)), padded, strict=True):
        windows = [source[row : row + 8, column : column + 8] for row in range(5) for column in range(5)]
        assert any((image == window).all() for window in windows)


def test_random_crop_uses_every_offset():
    position = jnp.arange(8, dtype=jnp.uint8)
    images = jnp.broadcast_to((position[:, None] * 8 + position)[None, :, :, None], (2000, 8, 8, 3))
    centers = np.asarray(augment.random_crop(KEY, images, 2))[:, 4, 4, 0]
    expected = {row * 8 + column for row in range(2, 7) for column in range(2, 7)}
    assert set(centers.tolist()) == expected


@pytest.mark.parametrize("by", [-1, 0, 1])
def test_shift_moves_down_and_right(by):
    images = random_images(2)
    moved = np.asarray(augment.shift(images, by))
    inner = slice(2, 6)
    source = slice(2 - by, 6 - by)
    np.testing.assert_array_equal(moved[:, inner, inner], np.asarray(images)[:, source, source])


def test_random_flip_mirrors_about_half_of_the_images():
    images = random_images(1000)
    flipped = np.asarray(augment.random_flip(KEY, images))
    same = (flipped == np.asarray(images)).all((1, 2, 3))
    mirrored = (flipped == np.asarray(images)[:, :, ::-1]).all((1, 2, 3))
    assert (same | mirrored).all() and 440 < same.sum() < 560


def test_alternating_flip_mirrors_each_image_in_one_of_two_epochs():
    indices = jnp.arange(64)
    even, odd = (augment.alternating_mirror(KEY, indices, jnp.int32(epoch), 64) for epoch in (4, 5))
    np.testing.assert_array_equal(even, ~odd)


def test_alternating_flip_depends_on_the_image_and_not_on_its_position_in_the_batch():
    indices = jax.random.permutation(KEY, 64)
    straight, shuffled = (augment.alternating_mirror(KEY, it, jnp.int32(0), 64) for it in (jnp.arange(64), indices))
    np.testing.assert_array_equal(straight[indices], shuffled)


@pytest.mark.parametrize("size", [3, 4])
def test_cutout_removes_one_square_of_its_size_around_a_uniform_center(size):
    cut = np.asarray(augment.cut_out(KEY, jnp.ones((2000, 9, 9, 3)), size)) == 0
    heights, widths = cut.any((2, 3)).sum(1), cut.any((1, 3)).sum(1)
    assert heights.max() == widths.max() == size
    assert (cut.sum((1, 2, 3)) == 3 * heights * widths).all()
    expected = (np.minimum(np.arange(9) + size - size // 2, 9) - np.maximum(np.arange(9) - size // 2, 0)).mean()
    assert heights.mean() == pytest.approx(expected, rel=0.02)


def test_normalize_gives_mean_0_and_deviation_1():
    images = random_images()
    floats = np.asarray(images, np.float64) / 255
    normal = augment.normalize(images, jnp.float32(floats.mean((0, 1, 2))), jnp.float32(floats.std((0, 1, 2))))
    np.testing.assert_allclose(normal.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(normal.std((0, 1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize("size", [4, 6])
def test_shrinking_is_a_triangle_filter_scaled_to_the_new_pixels(size):
    images = jax.random.normal(KEY, (3, 8, 8, 2))
    step = 8 / size
    distances = (np.arange(8) + 0.5)[None] - step * (np.arange(size) + 0.5)[:, None]
    weights = np.maximum(1 - abs(distances) / step, 0)
    weights /= weights.sum(1, keepdims=True)
    expected = np.einsum("yh,bhwc,xw->byxc", weights, images, weights)
    np.testing.assert_allclose(augment.shrink(images, size), expected, atol=1e-5)


def test_each_augmentation_has_its_own_key():
    seen = []
    note = lambda key, images, soft_labels: (seen.append(jax.random.key_data(key)), (images, soft_labels))[1]  # noqa: E731
    augment.augment((note, note), KEY, random_images(2), jnp.eye(2))
    assert (seen[0] != seen[1]).any()
