"""Stochastic gradient descent, LAMB, Muon and their schedules, as optax transformations."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree
from optax.contrib import MuonDimensionNumbers, scale_by_muon

# As in airbench94_muon.py (github.com/KellerJordan/cifar10-airbench). The coefficients' type is also the iterations'.
NEWTON_SCHULZ_STEPS = 3
NEWTON_SCHULZ_COEFFICIENTS = np.array([3.4445, -4.7750, 2.0315], np.float32)


def make_schedule(
    kind: Literal["triangular", "cosine"],
    peak_learning_rate: float,
    total_steps: int,
    *,
    warmup_steps: int,
    initial_factor: float,
) -> optax.Schedule:
    """Make the function from a step to its learning rate.

    The rate rises linearly from `initial_factor * peak_learning_rate` at step 0 to its peak at `warmup_steps`. Then it
    falls to 0 at `total_steps`, linearly ("triangular") or along half a cosine (Loshchilov and Hutter 2016,
    arXiv:1608.03983).
    """
    rest = total_steps - warmup_steps
    warmup = optax.linear_schedule(initial_factor * peak_learning_rate, peak_learning_rate, warmup_steps)
    if kind == "cosine":
        decay = optax.cosine_decay_schedule(peak_learning_rate, rest)
    else:
        decay = optax.linear_schedule(peak_learning_rate, 0.0, rest)
    whole = optax.join_schedules([warmup, decay], [warmup_steps])
    return lambda step: jnp.asarray(whole(step), jnp.float32)  # of an integer step JAX may compute it in float64


def make_optimizer(
    schedule: optax.Schedule,
    *,
    method: Literal["sgd", "lamb"] = "sgd",
    momentum: float,
    weight_decay: float,
    muon: optax.GradientTransformation | None = None,
    clip_norm: float | None = None,
    layer_factor: float = 1.0,
    depth: Callable[[tuple], int] = lambda path: 1,
) -> optax.GradientTransformation:
    """Make SGD with Nesterov momentum (Sutskever et al. 2013) in PyTorch's form, or LAMB; on request, Muon too.

    Args:
        schedule: step -> learning rate.
        method: "sgd", or "lamb" for `make_lamb`.
        momentum: share of the last update kept.
        weight_decay: factor of the kernels in what is added to their gradients, before the momentum; biases and
            BatchNorm have none. With LAMB, of the kernels in their updates.
        muon: what trains the convolutions, from `make_muon`; None for training them as the rest.
        clip_norm: largest global norm of the gradients, before the decay; None for no clipping.
        layer_factor: rate of a layer as a share of that of the next one; 0 trains only the classifier. See
            `scale_layers`.
        depth: how far a weight is below the classifier, from its path; by default none is in the classifier.
    """
    update = (make_lamb if method == "lamb" else _make_sgd)(schedule, momentum=momentum, weight_decay=weight_decay)
    if muon is not None:
        update = optax.partition({True: muon, False: update}, partial(convolutions, depth=depth))
    return optax.chain(
        optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm),
        update,
        optax.identity() if layer_factor == 1 else scale_layers(layer_factor, depth),
    )


def _make_sgd(schedule: optax.Schedule, *, momentum: float, weight_decay: float) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=kernels), optax.sgd(schedule, momentum, nesterov=True)
    )


def make_lamb(schedule: optax.Schedule, *, momentum: float, weight_decay: float) -> optax.GradientTransformation:
    """Make LAMB (You et al. 2019, arXiv:1904.00962): Adam whose update of a kernel is as long as the kernel itself.

    As in timm, biases and BatchNorm have neither weight decay nor that scaling.

    Args:
        schedule: step -> learning rate, the length of an update as a share of the kernel's.
        momentum: share of the last mean gradient kept; of the mean square, 0.999 is.
        weight_decay: factor of a kernel in what is added to its update before the scaling.
    """
    return optax.chain(
        optax.scale_by_adam(momentum, eps=1e-6),
        optax.add_decayed_weights(weight_decay, mask=kernels),
        optax.masked(optax.scale_by_trust_ratio(), kernels),
        optax.scale_by_learning_rate(schedule),
    )


def make_muon(schedule: optax.Schedule, *, momentum: float, weight_decay: float) -> optax.GradientTransformation:
    """Make Muon (github.com/KellerJordan/Muon) for kernels of convolutions, `[height, width, in, out]`.

    A kernel is treated as the matrix `[height * width * in, out]`. Its update is the learning rate times a matrix with
    the singular vectors of the Nesterov momentum and with singular values that Newton-Schulz iterations have brought
    close to 1. The weight decay is decoupled: learning rate times decay times kernel is subtracted.
    """
    matrix = MuonDimensionNumbers((0, 1, 2), 3)
    return optax.chain(
        scale_by_muon(
            NEWTON_SCHULZ_COEFFICIENTS,
            NEWTON_SCHULZ_STEPS,
            beta=momentum,
            weight_dimension_numbers=lambda params: jax.tree.map(lambda _: matrix, params),
        ),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(schedule),
    )


def scale_layers(factor: float, depth: Callable[[tuple], int]) -> optax.GradientTransformation:
    """Multiply the updates by `factor` to the power of their depth below the classifier.

    Layer-wise learning rates for fine-tuning (Howard and Ruder 2018, arXiv:1801.06146, section 3.2).

    Args:
        factor: from 0 to 1.
        depth: from the names and indices on the way to a weight to its depth, 0 in the classifier.
    """

    def scale(updates: PyTree, params: PyTree | None = None) -> PyTree:
        return jax.tree.map_with_path(
            lambda path, update: update * factor ** depth(tuple(entry.key for entry in path)), updates
        )

    return optax.stateless(scale)


def convolutions(params: PyTree, *, depth: Callable[[tuple], int] = lambda path: 1) -> PyTree:
    """Return True at each kernel of `params` that is a matrix of an inner convolution, False elsewhere.

    A depthwise kernel is a vector for each channel, and a classifier may be a convolution: both are left to SGD.
    """
    return jax.tree.map_with_path(
        lambda path, param: param.ndim == 4 and param.shape[2] > 1 and depth(tuple(it.key for it in path)) > 0, params
    )


def kernels(params: PyTree) -> PyTree:
    """Return True at each kernel of `params`, False at each bias and scale."""
    return jax.tree.map(lambda param: param.ndim in (2, 4), params)
