"""Hold out a part of a data set, the same part every time."""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int32

from resnet_jax.errors import UserError


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


def hold_out_fifth(classes: dict[str, list[Path]]) -> dict[str, dict[str, list[Path]]]:
    """Divide files by class into "train" and "test": every fifth of a class, in the order of the hashes of their names.

    Raises:
        UserError: a class has a single file.
    """
    if single := [name for name, paths in classes.items() if len(paths) < 2]:
        raise UserError(
            f"The classes {', '.join(single)} have 1 image each, expected at least 2, to train and to test: add images."
        )
    hashed = {
        name: sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).digest())
        for name, paths in classes.items()
    }
    test = {name: sorted(paths[::5]) for name, paths in hashed.items()}
    held = {path for paths in test.values() for path in paths}
    return {
        "train": {name: [path for path in paths if path not in held] for name, paths in classes.items()},
        "test": test,
    }
