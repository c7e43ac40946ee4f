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
PRESENT = 0.2
"""Share of a mixed label above which `binary_cross_entropy` counts a class as present (timm's recipes A2 and A3)."""


def make_criterion(
    *,
    loss: Literal["cross_entropy", "bce"] = "cross_entropy",
    distillation: Literal["logits", "dist"] = "logits",
    distillation_weight: float = 1.0,
    temperature: float = 1.0,
) -> Criterion:
    """Make the loss of a run: that of the labels, plus, with a teacher, that of the teacher's logits.

    Args:
        loss: of the labels, `cross_entropy` or `binary_cross_entropy`.
        distillation: "logits" for `divergence`, "dist" for `decorrelation`.
        distillation_weight: factor of the teacher's part.
        temperature: divisor of the logits in the teacher's part.
    """
    labeled = cross_entropy if loss == "cross_entropy" else binary_cross_entropy
    taught = divergence if distillation == "logits" else decorrelation

    def criterion(
        logits: Float[Array, "batch classes"],
        soft_labels: Float[Array, "batch classes"],
        teacher_logits: Float[Array, "batch classes"] | None = None,
    ) -> Float[Array, " batch"]:
        losses = labeled(logits, soft_labels)
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


def binary_cross_entropy(
    logits: Float[Array, "batch classes"], soft_labels: Float[Array, "batch classes"]
) -> Float[Array, " batch"]:
    """Compute the mean over the classes of the binary cross-entropy of each image in nats, in float32.

    Every class is present or not: both classes of a mixed image are, if each has more than a share of `PRESENT`
    (Wightman et al. 2021, arXiv:2110.00476). Label smoothing adds less than that, and has no effect.

    Args:
        logits: unnormalized scores, whose sigmoid is the probability of each class.
        soft_labels: target probabilities, which sum to 1 over the classes.
    """
    present = (soft_labels > PRESENT).astype(jnp.float32)
    return optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), present).mean(-1)


OF_LABELS = make_criterion()
"""The loss of a run without a teacher, the cross-entropy."""
