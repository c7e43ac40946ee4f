"""Test-time augmentation: logits averaged over mirrored and shifted images."""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from resnet_jax.data.augment import shift
from resnet_jax.models.interface import ImageClassifier

Tta = Literal["none", "flip", "full"]


def averaged_logits(
    model: ImageClassifier,
    images: UInt8[Array, "batch height width 3"],
    normalize: Callable[[Array], Array],
    tta: Tta,
) -> Float[Array, "batch classes"]:
    """Compute logits in evaluation mode.

    Args:
        model: the network.
        images: uint8.
        normalize: from uint8 images to the input of the network.
        tta: "none"; "flip", the mean over the image and its mirror; "full", the mean over the center (weight 1/2) and
            two diagonal shifts by one pixel (1/4 each), mirrored too. Edges are reflected.
    """
    shifts = {0: 0.5, -1: 0.25, 1: 0.25} if tta == "full" else {0: 1.0}

    def logits_of(images: Array) -> Array:
        logits = model(normalize(images), train=False)
        if tta != "none":
            logits = (logits + model(normalize(images[:, :, ::-1]), train=False)) / 2
        return logits

    return jnp.sum(jnp.stack([weight * logits_of(shift(images, by)) for by, weight in shifts.items()]), 0)
