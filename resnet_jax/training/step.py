"""The training step and the evaluation step: pure functions of the state and a batch."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from resnet_jax.classifier.precision import computes_on_cpu
from resnet_jax.classifier.tta import Tta, averaged_logits
from resnet_jax.hardware.compilation import compiler_options
from resnet_jax.hardware.inference import Inference
from resnet_jax.training.loss import OF_LABELS, Criterion
from resnet_jax.training.metrics import EvalMetrics, TopGuess, TrainMetrics
from resnet_jax.training.randomness import split_by_purpose
from resnet_jax.training.state import TrainState


class Batch(NamedTuple):
    """Training images, augmented and normalized, and their target probabilities."""

    images: Float[Array, "batch height width 3"]
    soft_labels: Float[Array, "batch classes"]
    teacher_logits: Float[Array, "batch classes"] | None = None
    """What a teacher, if there is one, makes of the images."""


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, TrainMetrics]]


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    *,
    criterion: Criterion = OF_LABELS,
    ema_decay: float | None = None,
    frozen_statistics: bool = False,
) -> TrainStep:
    """Make `train_step(state, batch) -> (state, metrics)`.

    Args:
        graphdef: structure of the network.
        optimizer: from gradients to updates.
        criterion: from logits and a batch's labels to the loss of each image; by default the cross-entropy.
        ema_decay: share of the averages kept at each step; less at first, min(decay, (1 + step) / (10 + step)).
        frozen_statistics: normalize by the running statistics, as in evaluation, and do not change them.
    """

    def loss(params: PyTree, state: TrainState, batch: Batch):
        # A copy: BatchNorm writes to the merged model, and the state outside this trace must not change.
        model = nnx.merge(graphdef, params, state.batch_stats, copy=True)
        dropout = jax.random.fold_in(split_by_purpose(state.key).dropout, state.step)
        logits = model(batch.images, train=not frozen_statistics, rngs=nnx.Rngs(dropout=dropout))
        losses = criterion(logits, batch.soft_labels, batch.teacher_logits)
        new_stats = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        return losses.mean(), (new_stats, TrainMetrics.of_batch(losses, logits, batch.soft_labels, state.step))

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, TrainMetrics]:
        grads, (batch_stats, metrics) = jax.grad(loss, has_aux=True)(state.params, state, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        averages = state.ema_params, state.ema_batch_stats
        if ema_decay is not None:
            step = state.step.astype(jnp.float32)
            keep = jnp.minimum(ema_decay, (1 + step) / (10 + step))
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


def make_run_steps(train_step: TrainStep, make_batch: Callable[..., Batch]) -> Callable:
    """Make the function that takes several training steps in one call to the device.

    It is `run_steps(state, metrics, data, taken) -> (state, metrics)`: it takes one step for each row of `taken`, the
    input that a feed returns, and adds their metrics to `metrics`. `make_batch(data, row, key, step)` builds each batch
    on the device.
    """

    def one(carry: tuple[TrainState, TrainMetrics], row: PyTree, data: PyTree) -> tuple[TrainState, TrainMetrics]:
        state, metrics = carry
        state, new_metrics = train_step(state, make_batch(data, row, state.key, state.step))
        return state, metrics + new_metrics

    def run_steps(state: TrainState, metrics: TrainMetrics, data: PyTree, taken: PyTree):
        if len(jax.tree.leaves(taken)[0]) == 1:  # XLA's CPU compiler is 20 times slower on gradients inside a loop
            return one((state, metrics), jax.tree.map(lambda leaf: leaf[0], taken), data)
        return lax.scan(lambda carry, row: (one(carry, row, data), None), (state, metrics), taken)[0]

    return run_steps


def make_eval_step(
    graphdef: nnx.GraphDef, normalize: Callable[[Array], Array], *, devices: int, tta: Tta = "none"
) -> Callable[..., tuple[EvalMetrics, TopGuess]]:
    """Make the jitted `eval_step(params, batch_stats, images, labels, mask) -> (metrics, top_guess)`.

    Args:
        graphdef: structure of the network.
        normalize: from uint8 images to the input of the network.
        devices: over which the batches are distributed.
        tta: test-time augmentation; see `averaged_logits`.
    """
    options = compiler_options(jax.default_backend())

    def logits_of(weights: tuple[PyTree, PyTree], images: Array) -> Array:
        return averaged_logits(nnx.merge(graphdef, *weights, copy=True), images, normalize, tta)

    def measured(
        logits: Array, labels: Int[Array, " batch"], mask: Bool[Array, " batch"]
    ) -> tuple[EvalMetrics, TopGuess]:
        return EvalMetrics.of_batch(logits, labels, mask), TopGuess.of_batch(logits)

    if computes_on_cpu(devices):
        infer, measure = Inference(logits_of, options), jax.jit(measured)
        return lambda params, batch_stats, images, *rest: measure(infer((params, batch_stats), images), *rest)

    @partial(jax.jit, compiler_options=options)
    def eval_step(params: PyTree, batch_stats: PyTree, images: Array, *rest: Array) -> tuple[EvalMetrics, TopGuess]:
        return measured(logits_of((params, batch_stats), images), *rest)

    return eval_step
