"""Order of the images, batches for evaluation, statistics of a split."""

import jax
import numpy as np
import pytest

from resnet_jax.data.resident import ResidentFeed, epoch_order, eval_batches, gather
from resnet_jax.data.split import stratified_holdout
from resnet_jax.data.statistics import channel_statistics
from resnet_jax.hardware.sharding import make_mesh

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


def make_feed(devices: int = 1) -> tuple[ResidentFeed, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), dtype=np.uint8)
    mesh = make_mesh(4, jax.devices()[:devices])
    return ResidentFeed(images, np.arange(20, dtype=np.int32), batch_size=4, key=KEY, mesh=mesh), images


def test_what_a_feed_returns_stands_for_the_images_at_its_indices():
    feed, images = make_feed()
    examples = gather(feed.data, feed.take(3, 1)[0], (4, 5, 3))
    np.testing.assert_array_equal(examples.images, images[np.asarray(examples.indices)])
    np.testing.assert_array_equal(examples.labels, examples.indices)


def test_a_feed_shows_every_image_once_an_epoch_however_its_steps_are_taken():
    feed, _ = make_feed()
    by_one = [np.asarray(feed.take(step, 1)) for step in range(5, 10)]
    np.testing.assert_array_equal(np.concatenate(by_one), feed.take(5, 5))
    assert sorted(np.concatenate(by_one).ravel().tolist()) == list(range(20))


def test_the_order_of_a_feed_does_not_depend_on_the_devices():
    np.testing.assert_array_equal(make_feed()[0].take(2, 3), make_feed(devices=4)[0].take(2, 3))


def test_channel_statistics_are_those_of_all_pixels():
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 6, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-6)


def test_channel_statistics_are_the_same_in_chunks(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 6, 3), dtype=np.uint8)
    whole = channel_statistics(images)
    monkeypatch.setattr("resnet_jax.data.statistics._CHUNK_VALUES", 300)
    np.testing.assert_array_equal(channel_statistics(images), whole)


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
