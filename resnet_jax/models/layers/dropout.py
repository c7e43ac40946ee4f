"""Dropout and stochastic depth, whose random state comes with each call."""

import jax
import jax.numpy as jnp
from flax import nnx


class Dropout(nnx.Module):
    """In training, set values to 0 with probability `rate` and scale the others by 1 / (1 - rate).

    Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html

    Args:
        rate: from 0 up to, but not including, 1.
    """

    def __init__(self, rate: float):
        self.rate = rate
        self.deterministic = True  # the name by which NNX's own train() and eval() find it

    def __call__(self, maps: jax.Array, *, train: bool | None = None, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Apply it in training.

        Raises:
            ValueError: in training, without `rngs`.
        """
        if self.rate == 0 or not (train if train is not None else not self.deterministic):
            return maps
        return self._drop(maps, maps.shape, rngs)

    def _drop(self, maps: jax.Array, shape: tuple[int, ...], rngs: nnx.Rngs | None) -> jax.Array:
        if rngs is None:
            raise ValueError(
                f"{type(self).__name__} got no rngs in training; expected the random state of the call: "
                "model(images, train=True, rngs=nnx.Rngs(dropout=key))"
            )
        kept = jax.random.bernoulli(rngs.dropout(), 1 - self.rate, shape)
        return jnp.where(kept, maps / (1 - self.rate), 0)


class StochasticDepth(Dropout):
    """In training, set a residual branch to 0 for whole images with probability `rate`, and scale the others.

    Huang et al. 2016, arXiv:1603.09382; PyTorch's mode "row".
    """

    def _drop(self, maps: jax.Array, shape: tuple[int, ...], rngs: nnx.Rngs | None) -> jax.Array:
        return super()._drop(maps, (shape[0],) + (1,) * (len(shape) - 1), rngs)
