"""The training loss."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"], *, label_smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """Computes the cross-entropy of each image in nats, in float32.

    Args:
        logits: unnormalised scores.
        labels: classes, from 0.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2015, section 7).
    """
    targets = jnp.eye(logits.shape[-1])[labels]
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), optax.smooth_labels(targets, label_smoothing))
