"""No two uses of randomness share a key."""

import jax
import numpy as np
import pytest

from resnet_jax.training.randomness import Keys, split_by_purpose


def test_the_keys_of_all_purposes_differ_also_between_neighboring_seeds():
    keys = [
        tuple(np.asarray(jax.random.key_data(key)))
        for seed in (0, 1, 2)
        for key in (jax.random.key(seed), *split_by_purpose(jax.random.key(seed)))
    ]
    assert len(set(keys)) == len(keys) == 3 * (1 + len(Keys._fields))


@pytest.mark.parametrize("first, second", [("augmentation", "dropout"), ("order", "augmentation")])
def test_the_keys_of_steps_and_epochs_differ_between_purposes(first, second):
    keys = split_by_purpose(jax.random.key(0))
    folded = [
        tuple(np.asarray(jax.random.key_data(jax.random.fold_in(getattr(keys, purpose), index))))
        for purpose in (first, second)
        for index in range(20)
    ]
    assert len(set(folded)) == 40


def test_the_same_seed_gives_the_same_keys():
    one, two = (jax.random.key_data(jax.numpy.stack(split_by_purpose(jax.random.key(3)))) for _ in range(2))
    np.testing.assert_array_equal(one, two)
