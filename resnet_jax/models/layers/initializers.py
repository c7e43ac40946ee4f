"""How PyTorch's networks draw their weights.

They are drawn as vectors: XLA takes up to seven times as long to compile the same bits with four axes. Kernels are
`[height, width, in_channels / groups, out_channels]` or `[in_features, out_features]`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

Initializer = Callable[..., Any]
"""A function of key, shape and type, as in `jax.nn.initializers`."""


def next_key(rngs: nnx.Rngs) -> Key[Array, ""]:
    """Return what `rngs.params()` returns, with the same effect on `rngs`.

    That call sets its counter by index, for which Flax asks for its sharding. A tracer has none, and JAX's error says
    where the tracer comes from, which takes the longer the more layers have been traced.
    """
    stream = rngs.params
    count = stream.count.get_value()
    stream.count.set_value(count + 1)
    return jax.random.fold_in(stream.key.get_value(), count)


def kaiming_normal(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, "..."]:
    """Draw with variance 2 / (size * size * out_channels) (He et al. 2015, arXiv:1502.01852, eq. 14)."""
    return _normal(key, shape, jnp.sqrt(jnp.float32(2 / fan_out(shape))))


def kaiming_normal_fan_in(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, "..."]:
    """Draw with variance 2 / (size * size * in_channels) (He et al. 2015, arXiv:1502.01852, eq. 10)."""
    return _normal(key, shape, jnp.sqrt(jnp.float32(2 / fan_in(shape))))


def normal(deviation: float) -> Initializer:
    """Return an initializer that draws with this standard deviation."""
    return lambda key, shape, dtype=jnp.float32: _normal(key, shape, deviation)


def truncated_normal(deviation: float, limit: float = 2.0) -> Initializer:
    """Return an initializer that draws normal values of this deviation, again if they are beyond `limit` (absolute).

    They are also within 5 deviations. With wider ends, whose probability is 0 in float32, one draw of `jax.random` in
    8 million would be the end itself.
    """
    ends = min(limit / deviation, 5.0)

    def draw(key, shape, dtype=jnp.float32):
        values = jax.random.truncated_normal(key, -ends, ends, (math.prod(shape),), jnp.float32)
        return values.reshape(shape) * deviation

    return draw


def uniform(bound: float) -> Initializer:
    """Return an initializer that draws between -`bound` and `bound`."""

    def draw(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, (math.prod(shape),), jnp.float32, -bound, bound).reshape(shape)

    return draw


def kaiming_uniform(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, "..."]:
    """Draw between -b and b with variance 2 / fan in, b = sqrt(6 / fan in) (He et al. 2015, arXiv:1502.01852)."""
    return uniform(math.sqrt(6 / fan_in(shape)))(key, shape)


def pytorch_kernel(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, "..."]:
    """Draw as PyTorch's layers do by themselves: between -b and b, b = 1 / sqrt(fan in)."""
    return uniform(fan_in(shape) ** -0.5)(key, shape)


def fan_in(shape: tuple[int, ...]) -> int:
    """Return the number of inputs of an output."""
    return math.prod(shape[:-1])


def fan_out(shape: tuple[int, ...]) -> int:
    """Return kernel size * kernel size * output channels, PyTorch's fan out, also with groups."""
    return math.prod(shape[:-2]) * shape[-1]


def _normal(key: Key[Array, ""], shape: tuple[int, ...], deviation: Any) -> Float[Array, "..."]:
    return jax.random.normal(key, (math.prod(shape),), jnp.float32).reshape(shape) * deviation
