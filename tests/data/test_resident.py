"""Order of the images, batches for evaluation, statistics of a split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.data.resident import Resident, augmented_images, channel_statistics, epoch_order, eval_batches
from resnet_jax.data.split import stratified_holdout

KEY = jax.random.key(3)


def test_an_epoch_shows_each_image_at_most_once_and_leaves_out_less_than_a_batch():
    order = np.asarray(epoch_order(KEY, 0, 103, 10)).ravel()
    assert len(set(order.tolist())) == len(order) == 100 and order.min() >= 0 and order.max() < 103


def test_the_order_is_a_function_of_seed_and_epoch():
    same, other_epoch, other_seed = (
        np.asarray(epoch_order(key, epoch, 50, 10)) for key, epoch in ((KEY, 2), (KEY, 3), (jax.random.key(4), 2))
    )
    np.testing.assert_array_equal(same, epoch_order(KEY, 2, 50, 10))
    assert (same != other_epoch).any() and (same != other_seed).any()


@pytest.mark.parametrize("batch_size", [1, 7, 10, 64])
def test_eval_batches_count_every_image_once(batch_size):
    images = np.arange(23 * 3, dtype=np.uint8).reshape(23, 1, 1, 3)
    batches = list(eval_batches(images, np.arange(23, dtype=np.int32), batch_size))
    assert {len(batch.images) for batch in batches} == {batch_size}
    counted = np.concatenate([batch.labels[batch.mask] for batch in batches])
    np.testing.assert_array_equal(counted, np.arange(23))


def test_a_batch_holds_the_images_whose_rows_it_takes():
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), dtype=np.uint8)
    batch = augmented_images(
        Resident(jnp.asarray(images.reshape(9, -1)), jnp.arange(9, dtype=jnp.int32)),
        jnp.array([7, 0, 7]),
        KEY,
        KEY,
        jnp.int32(0),
        shape=(4, 5, 3),
        crop_padding=None,
        flip="none",
        cutout=None,
        size=None,
        mean=np.zeros(3, np.float32),
        std=np.ones(3, np.float32),
    )
    np.testing.assert_allclose(batch, images[[7, 0, 7]] / 255, rtol=1e-6)


def test_channel_statistics_are_those_of_all_pixels():
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 6, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-6)


def test_a_constant_channel_has_no_zero_deviation():
    _, std = channel_statistics(np.zeros((2, 4, 4, 3), np.uint8))
    assert (std > 0).all()


def test_a_holdout_has_the_same_share_of_each_class_to_within_one_image():
    labels = np.repeat(np.arange(4), [40, 80, 17, 3]).astype(np.int32)
    kept, held = stratified_holdout(labels, 0.2)
    assert sorted([*kept, *held]) == list(range(140))
    np.testing.assert_allclose(np.bincount(labels[held], minlength=4), np.bincount(labels) * 0.2, atol=1)


def test_a_holdout_is_drawn_from_the_whole_class():
    _, held = stratified_holdout(np.zeros(1000, np.int32), 0.1)
    assert 400 < held.mean() < 600 and len(set(np.diff(held).tolist())) > 5
