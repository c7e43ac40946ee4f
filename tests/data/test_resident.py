"""The order of the images, batches for evaluation, the feed."""

import jax
import numpy as np
import pytest

from resnet_jax.data.resident import ResidentFeed, epoch_order, eval_batches, gather
from resnet_jax.hardware.sharding import make_mesh

KEY = jax.random.key(3)


def test_an_epoch_has_each_image_at_most_once_and_omits_less_than_a_batch():
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


def test_a_feed_returns_the_indices_of_the_images():
    feed, images = make_feed()
    examples = gather(feed.data, feed.take(3, 1)[0], (4, 5, 3))
    np.testing.assert_array_equal(examples.images, images[np.asarray(examples.indices)])
    np.testing.assert_array_equal(examples.labels, examples.indices)


def test_a_feed_has_every_image_once_per_epoch_however_many_steps_are_taken_at_once():
    feed, _ = make_feed()
    by_one = [np.asarray(feed.take(step, 1)) for step in range(5, 10)]
    np.testing.assert_array_equal(np.concatenate(by_one), feed.take(5, 5))
    assert sorted(np.concatenate(by_one).ravel().tolist()) == list(range(20))


def test_the_order_of_a_feed_does_not_depend_on_the_number_of_devices():
    np.testing.assert_array_equal(make_feed()[0].take(2, 3), make_feed(devices=4)[0].take(2, 3))
