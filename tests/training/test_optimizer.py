"""The optimizer and its schedules against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from resnet_jax import ResNet18
from resnet_jax.training.optimizer import kernels, make_muon, make_optimizer, make_schedule


def test_triangular_rises_from_a_fifth_to_the_peak_and_falls_to_zero():
    schedule = make_schedule("triangular", 0.1, 100, warmup_steps=20, initial_factor=0.2)
    np.testing.assert_allclose([schedule(step) for step in (0, 10, 20, 60, 100)], [0.02, 0.06, 0.1, 0.05, 0], atol=1e-8)


def test_cosine_is_at_half_its_peak_halfway_after_the_warmup():
    schedule = make_schedule("cosine", 0.1, 110, warmup_steps=10, initial_factor=0.0)
    np.testing.assert_allclose([schedule(step) for step in (0, 5, 10, 60, 110)], [0, 0.05, 0.1, 0.05, 0], atol=1e-8)


def test_two_steps_equal_pytorchs_nesterov_momentum_with_decay_in_the_gradient():
    optimizer = make_optimizer(optax.constant_schedule(0.1), momentum=0.9, weight_decay=0.01)
    params = {"kernel": jnp.array([[2.0]]), "bias": jnp.array([2.0])}
    state, buffer, expected = optimizer.init(params), np.zeros(2), np.array([2.0, 2.0])
    decay = np.array([0.01, 0.0])
    for grad in (1.0, -0.5):
        grads = jax.tree.map(lambda param, grad=grad: jnp.full_like(param, grad), params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        total = grad + decay * expected
        buffer = 0.9 * buffer + total
        expected = expected - 0.1 * (total + 0.9 * buffer)
    np.testing.assert_allclose([params["kernel"][0, 0], params["bias"][0]], expected, rtol=1e-6)


def test_muon_keeps_the_singular_vectors_of_a_gradient_and_brings_its_singular_values_near_one():
    rng = np.random.default_rng(0)
    kernel, grad = (jnp.asarray(rng.standard_normal((3, 3, 8, 16)), jnp.float32) for _ in range(2))
    optimizer = make_muon(optax.constant_schedule(0.1), momentum=0.9, weight_decay=0.5)
    updates, _ = optimizer.update({"kernel": grad}, optimizer.init({"kernel": kernel}), {"kernel": kernel})
    left, values, right = np.linalg.svd(grad.reshape(-1, 16), full_matrices=False)
    values = values / np.linalg.norm(values)
    for _ in range(3):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    expected = -0.1 * ((left * values) @ right + 0.5 * kernel.reshape(-1, 16))
    np.testing.assert_allclose(updates["kernel"].reshape(-1, 16), expected, atol=1e-5)


def test_muon_updates_convolutions_and_sgd_updates_everything_else():
    params = {name: {"kernel": jnp.ones(shape)} for name, shape in (("conv1", (3, 3, 3, 4)), ("fc", (4, 2)))}
    params["bn1"] = {"scale": jnp.ones(4)}
    grads = jax.tree.map(lambda param: jnp.full_like(param, 2.0), params)
    muon = make_muon(optax.constant_schedule(0.1), momentum=0.0, weight_decay=0.0)
    optimizer = make_optimizer(optax.constant_schedule(1.0), momentum=0.0, weight_decay=0.0, muon=muon)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    assert jnp.all(updates["fc"]["kernel"] == -2) and jnp.all(updates["bn1"]["scale"] == -2)
    assert 0.05 < jnp.linalg.norm(updates["conv1"]["kernel"].reshape(-1, 4), ord=2) < 0.15


def test_two_steps_of_lamb_equal_its_definition():
    """Algorithm 2 of arXiv:1904.00962, with bias correction, and without scaling and decay of a bias."""
    rng, decay, rate = np.random.default_rng(0), 0.02, 0.1
    expected = {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)}
    params = jax.tree.map(jnp.float32, expected)
    optimizer = make_optimizer(optax.constant_schedule(rate), method="lamb", momentum=0.9, weight_decay=decay)
    state, mean, square = optimizer.init(params), {"kernel": 0.0, "bias": 0.0}, {"kernel": 0.0, "bias": 0.0}
    for step in (1, 2):
        grads = {name: rng.normal(size=value.shape) for name, value in expected.items()}
        updates, state = optimizer.update(jax.tree.map(jnp.float32, grads), state, params)
        params = optax.apply_updates(params, updates)
        for name, grad in grads.items():
            mean[name] = 0.9 * mean[name] + 0.1 * grad
            square[name] = 0.999 * square[name] + 0.001 * grad**2
            update = (mean[name] / (1 - 0.9**step)) / (np.sqrt(square[name] / (1 - 0.999**step)) + 1e-6)
            if name == "kernel":
                update += decay * expected[name]
                update *= np.linalg.norm(expected[name]) / np.linalg.norm(update)
            expected[name] = expected[name] - rate * update
    jax.tree.map(lambda got, it: np.testing.assert_allclose(got, it, rtol=1e-4, atol=1e-5), params, expected)


def test_decay_applies_to_every_kernel_and_to_nothing_else():
    params = nnx.state(nnx.eval_shape(lambda: ResNet18(width=4)), nnx.Param)
    mask = nnx.to_pure_dict(kernels(params))
    assert mask["conv1"]["kernel"] and mask["fc"]["kernel"] and mask["layer1"][0]["conv1"]["kernel"]
    assert not (mask["bn1"]["scale"] or mask["bn1"]["bias"] or mask["fc"]["bias"])


@pytest.mark.parametrize(("clip_norm", "expected"), [(1.0, 1.0), (10.0, 5.0), (None, 5.0)])
def test_clipping_scales_large_gradients_down_to_the_given_norm(clip_norm, expected):
    optimizer = make_optimizer(optax.constant_schedule(1.0), momentum=0.0, weight_decay=0.0, clip_norm=clip_norm)
    params = {"bias": jnp.zeros(2)}
    updates, _ = optimizer.update({"bias": jnp.array([3.0, 4.0])}, optimizer.init(params), params)
    assert jnp.linalg.norm(updates["bias"]) == pytest.approx(expected, rel=1e-5)


def test_each_stage_moves_less_than_the_next_by_the_layer_factor():
    params = {name: {"kernel": jnp.ones(1)} for name in ("conv1", "bn1", "layer1", "layer4", "fc")}
    optimizer = make_optimizer(
        optax.constant_schedule(1.0),
        momentum=0.0,
        weight_decay=0.0,
        layer_factor=0.5,
        depth=nnx.eval_shape(ResNet18).depth,
    )
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    moved = {name: -float(update["kernel"][0]) for name, update in updates.items()}
    assert moved == {"conv1": 1 / 32, "bn1": 1 / 32, "layer1": 1 / 16, "layer4": 1 / 2, "fc": 1}


def test_a_layer_factor_of_zero_moves_only_the_classifier():
    params = {name: {"kernel": jnp.ones(1)} for name in ("conv1", "layer4", "fc")}
    optimizer = make_optimizer(
        optax.constant_schedule(1.0),
        momentum=0.9,
        weight_decay=0.1,
        layer_factor=0.0,
        depth=nnx.eval_shape(ResNet18).depth,
    )
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert updates["fc"]["kernel"] != 0 and updates["conv1"]["kernel"] == updates["layer4"]["kernel"] == 0
