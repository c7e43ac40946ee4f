"""Mean and standard deviation of the channels."""

import numpy as np

from resnet_jax.data.statistics import channel_statistics


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


def test_the_deviation_of_a_constant_channel_is_not_zero():
    _, std = channel_statistics(np.zeros((2, 4, 4, 3), np.uint8))
    assert (std > 0).all()
