"""Losses of a student network that learns from a teacher's logits."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

SMALLEST_SCALE = 1e-8
"""Product of the lengths of two centered vectors below which one of them counts as constant."""


def divergence(
    logits: Float[Array, "batch classes"], teacher_logits: Float[Array, "batch classes"], temperature: float
) -> Float[Array, " batch"]:
    """Compute the divergence of a student from its teacher (Hinton et al. 2015, arXiv:1503.02531, section 2).

    It is the Kullback-Leibler divergence of the probabilities of the logits divided by `temperature`, in nats, times
    the square of `temperature`, so that the gradients have the same size at any temperature.
    """
    student, teacher = (jax.nn.log_softmax(it.astype(jnp.float32) / temperature) for it in (logits, teacher_logits))
    return temperature**2 * optax.losses.kl_divergence_with_log_targets(student, teacher)


def decorrelation(
    logits: Float[Array, "batch classes"], teacher_logits: Float[Array, "batch classes"], temperature: float
) -> Float[Array, " batch"]:
    """Compute how far a student's probabilities are from being correlated with its teacher's (DIST).

    It is 1 minus Pearson's correlation over the classes of each image, plus 1 minus the mean correlation over the
    images for each class (Huang et al. 2022, arXiv:2205.10536), times the square of `temperature` as in `divergence`.
    It ranges from 0 to 4 at temperature 1. The second part is the same for every image.
    """
    student, teacher = (jax.nn.softmax(it.astype(jnp.float32) / temperature) for it in (logits, teacher_logits))
    inter, intra = correlation(student, teacher, axis=1), correlation(student, teacher, axis=0)
    return temperature**2 * ((1 - inter) + (1 - intra.mean()))


def correlation(a: Float[Array, "rows columns"], b: Float[Array, "rows columns"], axis: int) -> Float[Array, " _"]:
    """Compute Pearson's correlation of `a` and `b` along `axis`, from -1 to 1; 0 where one of them is constant."""
    a, b = (it - it.mean(axis, keepdims=True) for it in (a, b))
    scale = jnp.maximum((a**2).sum(axis) * (b**2).sum(axis), SMALLEST_SCALE**2)  # a square root of 0 has no gradient
    return (a * b).sum(axis) / jnp.sqrt(scale)
