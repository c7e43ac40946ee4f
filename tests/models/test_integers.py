"""Convolutions of 8-bit integers, the steps that a plan chooses, and networks computed with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax.hardware.calibration import calibrate
from resnet_jax.hardware.inference import Inference, divided
from resnet_jax.models.cpu import onednn
from resnet_jax.models.cpu.fusion import fused
from resnet_jax.models.cpu.int8 import Integers
from resnet_jax.models.cpu.processor import has_int8, has_onednn
from resnet_jax.models.cpu.quantization import Plan, Seen, make_plan
from resnet_jax.models.layers.residual import BottleneckBlock
from resnet_jax.models.network import Network
from resnet_jax.models.resnet import ResNet

pytestmark = [
    pytest.mark.skipif(not has_onednn() or not has_int8(), reason="needs oneDNN in jaxlib and instructions for int8"),
    pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache entry"),  # of jax.jit without ours
]
RNG = np.random.default_rng(0)


def integers(kind, *shape: int) -> jax.Array:
    limits = jnp.iinfo(kind)
    return jnp.asarray(RNG.integers(max(limits.min, -127), limits.max, shape, endpoint=True), kind)


@pytest.mark.parametrize("inputs", [jnp.uint8, jnp.int8])
@pytest.mark.parametrize("outputs", [jnp.uint8, jnp.float32])
@pytest.mark.parametrize("addend", [None, jnp.uint8, jnp.float32])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_the_rounded_product_of_integers(inputs, outputs, addend, stride):
    images, kernel = integers(inputs, 2, 8, 8, 32), integers(jnp.int8, 3, 3, 32, 48)
    bias = jnp.asarray(RNG.normal(0, 1e4, 48), jnp.float32)
    added = None if addend is None else integers(jnp.uint8, 2, 8 // stride, 8 // stride, 48).astype(addend)
    factor, options = 2e-4, {"strides": (stride, stride), "padding": ((1, 1), (1, 1))}
    sums = jax.lax.conv_general_dilated(
        images.astype(jnp.int32),
        kernel.astype(jnp.int32),
        options["strides"],
        options["padding"],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    exact = factor * (np.asarray(sums, np.float64) + np.asarray(bias)) + (0 if added is None else np.asarray(added))
    expected = np.maximum(exact, 0) if outputs == jnp.float32 else np.clip(np.rint(exact), 0, 255)
    got = jax.jit(
        lambda *args: onednn.convolve(*args, **options, groups=1, factor=factor, activation="relu", dtype=outputs)
    )(images, kernel, bias, added)
    # Half a unit may be rounded either way, since the library computes in float32.
    np.testing.assert_allclose(got.astype(jnp.float32), expected, atol=1e-2 if outputs == jnp.float32 else 1)
    assert outputs == jnp.float32 or np.mean(np.asarray(got) != expected) < 1e-3


def test_an_exported_convolution_is_the_same():
    images, kernel = integers(jnp.uint8, 1, 4, 4, 16), integers(jnp.int8, 3, 3, 16, 16)
    bias, addend = jnp.ones(16), integers(jnp.uint8, 1, 4, 4, 16)

    def convolve(*args):
        options = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "groups": 1, "factor": 1e-4}
        return onednn.convolve(*args, **options, activation="relu", dtype=jnp.uint8)

    exported = jax.export.export(jax.jit(convolve))(images, kernel, bias, addend)
    assert "__onednn" not in exported.mlir_module()
    expected = jax.jit(convolve)(images, kernel, bias, addend)
    np.testing.assert_allclose(exported.call(images, kernel, bias, addend), expected, atol=1)


def chain(seed: int) -> tuple[list[Seen], list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Return two convolutions of a residual block, its ranges and largest weights, both of very different sizes."""
    rng = np.random.default_rng(seed)
    highest = [np.exp(rng.normal(0, 2, 32)).astype(np.float32) for _ in range(3)]
    highest[1][:3] = 0  # channels whose ReLU lets nothing pass
    kernels = [np.exp(rng.normal(0, 1, (32, 32))).astype(np.float32) for _ in range(2)]
    return [Seen(0, None, 1), Seen(1, 0, 2)], [np.zeros(32, np.float32)] * 3, highest, kernels


@pytest.mark.parametrize("seed", range(5))
def test_no_value_of_the_calibration_leaves_the_range(seed):
    _, _, highest, _ = chain(seed)
    plan = make_plan(*chain(seed))
    for largest, steps in zip(highest, plan.steps, strict=True):
        assert (largest / steps).max() <= 255 * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_no_weight_leaves_the_range_and_the_largest_one_fills_it(seed):
    convolutions, _, _, kernels = chain(seed)
    plan = make_plan(*chain(seed))
    for seen, kernel, factor in zip(convolutions, kernels, plan.factors, strict=True):
        whole = kernel * plan.steps[seen.source][:, None] / (factor * plan.steps[seen.node])
        assert whole.max() == pytest.approx(127, rel=1e-5)


def test_maps_that_are_added_have_the_same_steps():
    plan = make_plan(*chain(0))
    np.testing.assert_array_equal(plan.steps[0], plan.steps[2])


class SmallResNet(ResNet):
    """One block in each of the stages, the first of which has no projection."""

    stage_sizes = (1, 1, 1, 1)


class SmallBottleneck(SmallResNet):
    """The same of bottlenecks in groups, which keep the network's type."""

    block, block_options = BottleneckBlock, {"groups": 2, "inner_factor": 2}


@functools.cache
def trained(network: type[ResNet], stem: str) -> tuple:
    """Return the function of a network whose statistics are those of its images, its variables and the images."""
    model, images = network(8, stem=stem, width=16, rngs=nnx.Rngs(0)), jnp.asarray(RNG.normal(size=(8, 32, 32, 3)))

    @nnx.jit
    def see(model):
        model(images, train=True)

    for _ in range(60):
        see(model)
    graphdef, variables = nnx.split(model)
    return (lambda variables, images: nnx.merge(graphdef, variables)(images, train=False)), variables, images


@functools.cache
def planned(network: type[ResNet], stem: str) -> Plan:
    forward, variables, images = trained(network, stem)
    return calibrate(forward, variables, [images]).plan


@pytest.mark.parametrize(
    ("network", "stem"),
    [pytest.param(SmallResNet, "imagenet", marks=pytest.mark.slow), (SmallResNet, "cifar"), (SmallBottleneck, "cifar")],
)
def test_a_network_of_integers_has_nearly_the_same_logits(network, stem):
    forward, variables, images = trained(network, stem)
    logits = Inference(forward)(variables, images)
    got = Inference(forward, plan=planned(network, stem))(variables, images)
    assert float(jnp.linalg.norm(got - logits) / jnp.linalg.norm(logits - logits.mean(0))) < 0.2


def test_all_convolutions_but_the_first_are_of_integers():
    forward, variables, images = trained(SmallResNet, "cifar")
    integers = lambda: Integers(plan=planned(SmallResNet, "cifar"))  # noqa: E731
    program = jax.make_jaxpr(fused(forward, integers))(variables, images)
    kinds = [str(eqn.invars[0].aval.dtype) for eqn in program.eqns if eqn.primitive is onednn.convolution_p]
    assert kinds == ["float32"] + ["uint8"] * (len(kinds) - 1) and len(kinds) == 12


def test_the_integers_of_the_kernels_are_computed_once():
    forward, variables, images = trained(SmallResNet, "cifar")
    integers = lambda: Integers(plan=planned(SmallResNet, "cifar"))  # noqa: E731
    parts = divided(fused(forward, integers), variables, images)
    prepared = parts.prepare(variables)
    assert sum(array.dtype == jnp.int8 for array in prepared) == 11


def test_ranges_are_those_of_all_batches():
    forward, variables, images = trained(SmallResNet, "cifar")
    parts = calibrate(forward, variables, [images[:4], images[4:]]).plan
    for steps, expected in zip(parts.steps, planned(SmallResNet, "cifar").steps, strict=True):
        np.testing.assert_allclose(steps, expected, rtol=1e-5)


@pytest.mark.slow  # compiles two networks
@pytest.mark.parametrize(("arch", "low", "high"), [("resnet18", 0.9, 1.0), ("mobilenet_v2", 0.0, 0.5)])
def test_the_share_of_integers(arch, low, high):
    model = Network(arch, 10, "cifar").build(rngs=nnx.Rngs(0))
    graphdef, variables = nnx.split(model)
    forward = lambda variables, images: nnx.merge(graphdef, variables)(images, train=False)  # noqa: E731
    assert low <= calibrate(forward, variables, [RNG.normal(size=(2, 32, 32, 3)).astype(np.float32)]).share <= high
