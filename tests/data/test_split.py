"""Images held out of the training split."""

import numpy as np

from resnet_jax.data.split import stratified_holdout


def test_a_holdout_has_the_same_share_of_each_class_to_within_one_image():
    labels = np.repeat(np.arange(4), [40, 80, 17, 3]).astype(np.int32)
    kept, held = stratified_holdout(labels, 0.2)
    assert sorted([*kept, *held]) == list(range(140))
    np.testing.assert_allclose(np.bincount(labels[held], minlength=4), np.bincount(labels) * 0.2, atol=1)


def test_a_holdout_is_drawn_from_the_whole_class():
    _, held = stratified_holdout(np.zeros(1000, np.int32), 0.1)
    assert 400 < held.mean() < 600 and len(set(np.diff(held).tolist())) > 5
