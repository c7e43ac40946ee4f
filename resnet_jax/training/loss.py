"""The training loss."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


def cross_entropy(
    logits: Float[Array, "batch classes"], soft_labels: Float[Array, "batch classes"]
) -> Float[Array, " batch"]:
    """Compute the cross-entropy of each image in nats, in float32.

    Args:
        logits: unnormalized scores.
        soft_labels: target probabilities, which sum to 1 over the classes.
    """
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), soft_labels.astype(jnp.float32))
