"""Layer normalization over the channels."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class LayerNorm(nnx.Module):
    """Normalize the channels of each pixel by their own mean and biased variance.

    Ba et al. 2016, arXiv:1607.06450. The statistics are computed in float32.

    Attributes:
        scale, bias: `[channels]`, trained, float32, start at 1 and 0.
    """

    def __init__(self, channels: int, *, epsilon: float = 1e-6, dtype: DTypeLike = jnp.float32):
        self.scale = nnx.Param(jnp.ones(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.epsilon = epsilon
        self.dtype = dtype

    def __call__(self, maps: Float[Array, "*axes channels"]) -> Float[Array, "*axes channels"]:
        wide: jax.Array = maps.astype(jnp.promote_types(maps.dtype, jnp.float32))
        centered = wide - wide.mean(-1, keepdims=True)
        factor = lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + self.epsilon)
        return (centered * factor * self.scale[...] + self.bias[...]).astype(self.dtype)
