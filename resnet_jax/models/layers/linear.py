"""The linear classifier as PyTorch initializes it."""

import math

import jax
import jax.numpy as jnp
from flax import nnx


def make_classifier(in_features: int, num_classes: int, rngs: nnx.Rngs) -> nnx.Linear:
    """Make PyTorch's linear layer: weights and bias uniform between -1/sqrt(in_features) and 1/sqrt(in_features)."""
    bound = in_features**-0.5

    def uniform(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound).reshape(shape)

    return nnx.Linear(in_features, num_classes, kernel_init=uniform, bias_init=uniform, rngs=rngs)
