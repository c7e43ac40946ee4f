"""One root key, split once by purpose, so that no two uses of randomness share a key."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Key


class Keys(NamedTuple):
    """A key for each purpose; a step folds its number into the last two."""

    params: Key[Array, ""]
    """Initial weights."""
    order: Key[Array, ""]
    """Order of the images; an epoch folds its number in."""
    flip: Key[Array, ""]
    """First direction of the alternating flip."""
    augmentation: Key[Array, ""]
    dropout: Key[Array, ""]


def split_by_purpose(root: Key[Array, ""]) -> Keys:
    """Derive the keys of a run from its root key, `jax.random.key(seed)`."""
    return Keys(*jax.random.split(root, len(Keys._fields)))
