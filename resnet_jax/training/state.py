"""The state of a training run: one frozen pytree with everything needed to resume."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Int32, Key, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """What a training step reads and writes."""

    step: Int32[Array, ""]
    """Completed updates."""
    params: PyTree
    """Trained weights, float32."""
    batch_stats: PyTree
    """Running statistics of BatchNorm, float32."""
    opt_state: PyTree
    """The optimizer's state: momentum and the schedule's count."""
    ema_params: PyTree
    """Exponential moving average of `params`; None if it is off."""
    ema_batch_stats: PyTree
    """The same average of `batch_stats`."""
    key: Key[Array, ""]
    """Root of all randomness; see `resnet_jax.training.randomness`."""

    @property
    def evaluated(self) -> tuple[PyTree, PyTree]:
        """Weights and statistics to evaluate: the averages if they are kept."""
        if self.ema_params is None:
            return self.params, self.batch_stats
        return self.ema_params, self.ema_batch_stats


def create_state(
    model: nnx.Module, optimizer: optax.GradientTransformation, key: Key[Array, ""], *, ema: bool
) -> TrainState:
    """Create the state of `model` at step 0; with `ema`, the averages start as copies."""
    params, batch_stats = (nnx.to_pure_dict(nnx.state(model, kind)) for kind in (nnx.Param, nnx.BatchStat))
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        ema_params=jax.tree.map(jnp.copy, params) if ema else None,
        ema_batch_stats=jax.tree.map(jnp.copy, batch_stats) if ema else None,
        key=key,
    )
