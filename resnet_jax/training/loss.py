"""The training loss."""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from resnet_jax.training.distillation import decorrelation, divergence

Criterion = Callable[
    [Float[Array, "batch classes"], Float[Array, "batch classes"], Float[Array, "batch classes"] | None],
    Float[Array, " batch"],
]
"""From logits, soft labels and the teacher's logits, if there are any, to the loss of each image."""


def make_criterion(
    *,
    distillation: Literal["logits", "dist"] = "logits",
    distillation_weight: float = 1.0,
    temperature: float = 1.0,
) -> Criterion:
    """Make the loss of a run: that of the labels, plus, with a teacher, that of the teacher's logits.

    Args:
        distillation: "logits" for `divergence`, "dist" for `decorrelation`.
        distillation_weight: factor of the teacher's part.
        temperature: divisor of the logits in the teacher's part.
    """
    taught = divergence if distillation == "logits" else decorrelation

    def criterion(
        logits: Float[Array, "batch classes"],
        soft_labels: Float[Array, "batch classes"],
        teacher_logits: Float[Array, "batch classes"] | None = None,
    ) -> Float[Array, " batch"]:
        losses = cross_entropy(logits, soft_labels)
        if teacher_logits is None:
            return losses
        return losses + distillation_weight * taught(logits, teacher_logits, temperature)

    return criterion


def cross_entropy(
    logits: Float[Array, "batch classes"], soft_labels: Float[Array, "batch classes"]
) -> Float[Array, " batch"]:
    """Compute the cross-entropy of each image in nats, in float32.

    Args:
        logits: unnormalized scores.
        soft_labels: target probabilities, which sum to 1 over the classes.
    """
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), soft_labels.astype(jnp.float32))


OF_LABELS = make_criterion()
"""The loss of a run without a teacher, the cross-entropy."""
