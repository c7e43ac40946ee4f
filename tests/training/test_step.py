"""The training step gives the same result on any number of devices and in any number of calls."""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from resnet_jax import BatchNorm, ResNet
from resnet_jax.classifier.tta import averaged_logits
from resnet_jax.data.augment import shift
from resnet_jax.hardware import compilation
from resnet_jax.hardware.compilation import CompiledStep
from resnet_jax.hardware.sharding import make_mesh, place, replicated, sharded
from resnet_jax.training.metrics import TrainMetrics
from resnet_jax.training.optimizer import make_optimizer
from resnet_jax.training.program import steps_per_call
from resnet_jax.training.state import TrainState, create_state
from resnet_jax.training.step import Batch, make_run_steps, make_train_step

COUNT, BATCH, STEPS = 96, 32, 10
RNG = np.random.default_rng(0)
DATA = Batch(
    RNG.normal(size=(COUNT, 8, 8, 3)).astype(np.float32), np.eye(10, dtype=np.float32)[RNG.integers(0, 10, COUNT)]
)
FUSED = {"xla_cpu_use_fusion_emitters": True} if "fusion_emitters" in os.environ.get("XLA_FLAGS", "") else {}
ORDER = np.stack([RNG.permutation(COUNT)[:BATCH] for _ in range(STEPS)]).astype(np.int32)


def make_batch(data: Batch, indices: jax.Array, key: jax.Array, step: jax.Array) -> Batch:
    noise = 0.1 * jax.random.normal(jax.random.fold_in(key, step), (len(indices), 8, 8, 3))  # replaces augmentation
    return Batch(data.images[indices] + noise, data.soft_labels[indices])


class ResNet10(ResNet):
    """One block per stage, to compile fast."""

    stage_sizes = (1, 1, 1, 1)


@pytest.fixture(scope="module", autouse=True)
def as_users_compile():
    """Compile the steps as for users: without XLA's fusion emitters, devices with other shapes sum in another order."""
    with pytest.MonkeyPatch.context() as patch:
        options = {**compilation.compiler_options("cpu"), **FUSED}
        patch.setattr(compilation, "compiler_options", lambda platform: options)
        yield


@partial(jax.jit, compiler_options=FUSED, static_argnums=0)
def train_once(graphdef: nnx.GraphDef, state: nnx.State, images: jax.Array) -> nnx.State:
    """Return the state of a network after one call in training mode."""
    net = nnx.merge(graphdef, state)
    net(images, train=True)
    return nnx.state(net)


def model(norm: str = "sync") -> ResNet:
    """Return a narrow network whose BatchNorm biases start at 5 and whose running statistics are those of a batch.

    Then hardly any input of a ReLU is within a rounding error of 0, where the gradient passes on one side only and a
    difference of 1e-7 grows to 1e-3. The biases move the means far from 0; the running means, close to them, keep the
    variances exact.
    """
    net = ResNet10(num_classes=10, stem="cifar", width=4, norm=norm, ghost_size=BATCH // 4, rngs=nnx.Rngs(0))
    norms = [module for _, module in nnx.iter_modules(net) if isinstance(module, BatchNorm)]
    for module in norms:
        module.bias[...] = jnp.full_like(module.bias[...], 5.0)
        module.momentum = 0.0
    nnx.update(net, train_once(*nnx.split(net), DATA.images[:BATCH]))
    for module in norms:
        module.momentum = 0.9
    return net


def run(
    *, devices: int = 1, steps: int = STEPS, per_call: int = 1, norm: str = "sync", **options
) -> tuple[TrainState, TrainMetrics]:
    mesh = make_mesh(BATCH, jax.devices()[:devices])
    optimizer = make_optimizer(optax.constant_schedule(0.02), momentum=0.9, weight_decay=1e-3)
    network = model(norm)
    graphdef = nnx.graphdef(network)
    state = create_state(network, optimizer, jax.random.key(0), ema="ema_decay" in options)
    run_steps = CompiledStep(make_run_steps(make_train_step(graphdef, optimizer, **options), make_batch))
    state, metrics = jax.device_put((state, TrainMetrics.zero()), replicated(mesh))
    data = place(DATA, replicated(mesh))
    for start in range(0, steps, per_call):
        rows = np.arange(start, min(start + per_call, steps)) % STEPS
        order = place(ORDER[rows], sharded(mesh, axis=1))
        state, metrics = jax.block_until_ready(run_steps(state, metrics, data, order))
    return state, metrics


ROUNDING = 5e-5
"""Largest difference after ten steps that rounding may make: up to 2.0e-5, and less than 1e-5 on most processors."""


def largest_relative_error(got, expected) -> float:
    """Return the largest |got - expected| / |expected| (Euclidean norms) of all arrays."""
    errors = [
        np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(b)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    ]
    return max(errors)


@pytest.fixture(scope="module")
def reference() -> tuple[TrainState, TrainMetrics]:
    return run()


@pytest.fixture(scope="module", params=[pytest.param(2, marks=pytest.mark.slow), 8])  # another step to compile
def several(request) -> TrainState:
    """Return the state after training on several devices."""
    return run(devices=request.param)[0]


def test_several_devices_give_the_parameters_of_one(reference, several):
    assert largest_relative_error(several.params, reference[0].params) < ROUNDING


def test_several_devices_give_the_statistics_of_one(reference, several):
    assert largest_relative_error(several.batch_stats, reference[0].batch_stats) < ROUNDING


@pytest.mark.slow  # compiles two more steps
def test_ghost_groups_do_not_depend_on_the_devices():
    one, four = run(norm="ghost"), run(norm="ghost", devices=4)
    assert largest_relative_error(four[0].params, one[0].params) < ROUNDING


@pytest.mark.slow  # compiles a loop
def test_eight_steps_in_one_call_equal_eight_calls(reference):
    state, _ = run(per_call=8)
    assert largest_relative_error(state.params, reference[0].params) < ROUNDING


@pytest.mark.parametrize(("steps_per_epoch", "size"), [(1, 1), (22, 22), (97, 97), (195, 65), (390, 78), (1171, 50)])
def test_the_steps_of_a_call_divide_the_epoch_if_possible(steps_per_epoch, size):
    assert steps_per_call(steps_per_epoch) == size


def test_metrics_count_each_image_of_each_step(reference):
    assert reference[1].count == STEPS * BATCH and reference[0].step == STEPS


def test_a_run_is_bit_exact_when_repeated(reference):
    again, _ = run()
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a == b).all(), again.params, reference[0].params)))


def test_averages_follow_their_recurrence():
    mesh = make_mesh(BATCH, jax.devices()[:1])
    optimizer = make_optimizer(optax.constant_schedule(0.1), momentum=0.0, weight_decay=0.0)
    network = model()
    graphdef, state = nnx.graphdef(network), create_state(network, optimizer, jax.random.key(0), ema=True)
    step = jax.jit(make_train_step(graphdef, optimizer, ema_decay=0.5))
    batch = place(Batch(DATA.images[:BATCH], DATA.soft_labels[:BATCH]), replicated(mesh))
    expected = jax.tree.map(np.asarray, (state.params, state.batch_stats))
    for index in range(3):
        state, _ = step(state, batch)
        keep = min(0.5, (1 + index) / (10 + index))
        current = jax.tree.map(np.asarray, (state.params, state.batch_stats))
        expected = jax.tree.map(lambda old, new, keep=keep: keep * old + (1 - keep) * new, expected, current)
    assert largest_relative_error(state.evaluated, expected) < 1e-5


@pytest.mark.slow  # compiles another step
def test_evaluation_uses_the_averages_only_if_they_are_kept(reference):
    averaged, _ = run(ema_decay=0.9)
    assert reference[0].evaluated[0] is reference[0].params
    assert averaged.evaluated[0] is averaged.ema_params


def logits_of(images: jax.Array, tta: str) -> jax.Array:
    return nnx.jit(averaged_logits, static_argnums=(2, 3))(model(), images, lambda images: images / 255.0, tta)


IMAGES = jnp.asarray(RNG.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8))


def test_flip_tta_is_the_mean_over_the_image_and_its_mirror():
    expected = (logits_of(IMAGES, "none") + logits_of(IMAGES[:, :, ::-1], "none")) / 2
    np.testing.assert_allclose(logits_of(IMAGES, "flip"), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow  # compiles two more evaluations
def test_full_tta_gives_half_the_weight_to_the_center_and_a_quarter_to_each_diagonal_shift():
    terms = ((0.5, 0), (0.25, -1), (0.25, 1))
    expected = sum(weight * logits_of(shift(IMAGES, by), "flip") for weight, by in terms)
    np.testing.assert_allclose(logits_of(IMAGES, "full"), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow  # takes a minute: a few steps would not show a deadlock
def test_a_thousand_steps_on_two_cpu_devices_do_not_deadlock():
    state, _ = run(devices=2, steps=1000)
    assert state.step == 1000
