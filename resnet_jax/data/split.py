"""Holds out a part of a data set, the same part every time."""

import numpy as np
from jaxtyping import Int, Int32


def stratified_holdout(
    labels: Int32[np.ndarray, " n"], fraction: float
) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, " held"]]:
    """Divide images into kept and held-out ones, with the same share of every class up to one image.

    Args:
        labels: classes, from 0.
        fraction: share held out, in (0, 1).

    Returns:
        Indices of both, ascending. They depend only on the arguments.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    # The held-out images are evenly spaced along the images sorted by class.
    position = np.arange(len(labels) + 1) * fraction
    held = np.floor(position[1:]) > np.floor(position[:-1])
    return np.sort(order[~held]), np.sort(order[held])
