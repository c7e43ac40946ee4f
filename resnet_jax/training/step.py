"""The training step and the evaluation step: pure functions of the state and a batch."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from resnet_jax.data.augment import shift
from resnet_jax.hardware.compilation import compiler_options
from resnet_jax.training.loss import cross_entropy
from resnet_jax.training.metrics import EvalMetrics, TrainMetrics
from resnet_jax.training.state import TrainState


class Batch(NamedTuple):
    """Training images, augmented and normalised, and their classes."""

    images: Float[Array, "batch height width 3"]
    labels: Int[Array, " batch"]


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, TrainMetrics]]


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    *,
    label_smoothing: float = 0.0,
    ema_decay: float | None = None,
    accumulate: int = 1,
    frozen_statistics: bool = False,
) -> TrainStep:
    """Makes `train_step(state, batch) -> (state, metrics)`.

    Args:
        graphdef: the model's structure.
        optimizer: turns gradients into updates.
        label_smoothing: see `cross_entropy`.
        ema_decay: share of the averages kept at each step; fewer at first, min(decay, (1 + step) / (10 + step)).
        accumulate: parts of the batch whose gradients are computed one after another and averaged.
        frozen_statistics: normalise by the running statistics, as in evaluation, and leave them as they are.
    """

    def loss(params: PyTree, batch_stats: PyTree, batch: Batch, step: Array):
        # A copy: BatchNorm writes to the merged model, and the state outside this trace must not change.
        model = nnx.merge(graphdef, params, batch_stats, copy=True)
        logits = model(batch.images, train=not frozen_statistics)
        losses = cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
        new_stats = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        return losses.mean(), (new_stats, TrainMetrics.of_batch(losses, logits, batch.labels, step))

    gradient = jax.grad(loss, has_aux=True)

    def accumulated_gradient(params: PyTree, batch_stats: PyTree, batch: Batch, step: Array):
        def body(carry, part):
            grads, stats, metrics = carry
            new_grads, (stats, new_metrics) = gradient(params, stats, part, step)
            return (jax.tree.map(jnp.add, grads, new_grads), stats, metrics + new_metrics), None

        # Part i takes every accumulate-th image, so that each part is spread over all devices as the batch is.
        parts = jax.tree.map(lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch)
        start = (jax.tree.map(jnp.zeros_like, params), batch_stats, TrainMetrics.zero())
        (grads, batch_stats, metrics), _ = lax.scan(body, start, parts)
        return jax.tree.map(lambda grad: grad / accumulate, grads), (batch_stats, metrics)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, TrainMetrics]:
        compute = gradient if accumulate == 1 else accumulated_gradient
        grads, (batch_stats, metrics) = compute(state.params, state.batch_stats, batch, state.step)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        averages = state.ema_params, state.ema_batch_stats
        if ema_decay is not None:
            keep = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
            averages = optax.incremental_update((params, batch_stats), averages, 1 - keep)
        new = replace(
            state,
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema_params=averages[0],
            ema_batch_stats=averages[1],
        )
        return new, metrics

    return train_step


def make_dispatch(train_step: TrainStep, make_batch: Callable[..., Batch]) -> Callable:
    """Makes the jitted function that runs several steps in one call to the device.

    `dispatch(state, metrics, data, order) -> (state, metrics)` takes one step for each row of `order` and adds up their
    metrics. `make_batch(data, indices, key, step)` builds each batch on the device. State and metrics are donated.
    """

    def one(carry, indices: Int[Array, " batch"], data):
        state, metrics = carry
        batch = make_batch(data, indices, jax.random.fold_in(state.key, state.step), state.step)
        state, new_metrics = train_step(state, batch)
        return state, metrics + new_metrics

    @partial(jax.jit, donate_argnums=(0, 1))
    def dispatch(state: TrainState, metrics: TrainMetrics, data: PyTree, order: Int[Array, "steps batch"]):
        if len(order) == 1:  # XLA's CPU compiler is 20 times slower on a convolution's gradient inside a loop
            return one((state, metrics), order[0], data)
        return lax.scan(lambda carry, indices: (one(carry, indices, data), None), (state, metrics), order)[0]

    return dispatch


def dispatch_size(steps_per_epoch: int) -> int:
    """How many steps one call to an accelerator should take: 25 to 100, such that the epoch divides evenly.

    Then no second program is compiled for what remains of each epoch. If nothing divides it, 50.
    """
    if steps_per_epoch <= 25:
        return steps_per_epoch
    return max((size for size in range(25, 101) if steps_per_epoch % size == 0), default=50)


def make_eval_step(
    graphdef: nnx.GraphDef, normalize: Callable[[Array], Array], *, tta: Literal["none", "flip", "full"] = "none"
) -> Callable[..., tuple[EvalMetrics, Array]]:
    """Makes the jitted `eval_step(params, batch_stats, images, labels, mask) -> (metrics, logits)`.

    `images` are uint8. With `tta`, logits are the mean over the image and its mirror ("flip"), and over the centre
    (weight 1/2) and two diagonal shifts by one pixel (1/4 each), mirrored too ("full"); edges are reflected.
    """
    shifts = {0: 0.5, -1: 0.25, 1: 0.25} if tta == "full" else {0: 1.0}

    def predict(model: nnx.Module, images: Array) -> Array:
        logits = model(normalize(images), train=False)
        if tta != "none":
            logits = (logits + model(normalize(images[:, :, ::-1]), train=False)) / 2
        return logits

    @partial(jax.jit, compiler_options=compiler_options(jax.default_backend()))
    def eval_step(
        params: PyTree, batch_stats: PyTree, images: Array, labels: Int[Array, " batch"], mask: Bool[Array, " batch"]
    ) -> tuple[EvalMetrics, Array]:
        model = nnx.merge(graphdef, params, batch_stats, copy=True)
        logits = jnp.sum(jnp.stack([weight * predict(model, shift(images, by)) for by, weight in shifts.items()]), 0)
        return EvalMetrics.of_batch(logits, labels, mask), logits

    return eval_step
