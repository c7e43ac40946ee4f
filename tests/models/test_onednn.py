"""Convolutions by oneDNN with what follows them, and networks computed with them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from resnet_jax.hardware.inference import Inference, divided
from resnet_jax.models.cpu import grouped, onednn
from resnet_jax.models.cpu.by_onednn import training_by_onednn
from resnet_jax.models.cpu.fusion import fused
from resnet_jax.models.cpu.grouped import kernel_gradient
from resnet_jax.models.cpu.pooling import max_pool
from resnet_jax.models.cpu.processor import has_bfloat16, has_onednn
from resnet_jax.models.layers.convolution import convolve
from resnet_jax.models.network import Network

pytestmark = [
    pytest.mark.skipif(not has_onednn(), reason="jaxlib has no oneDNN here, or in an untested release"),
    pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache entry"),  # of jax.jit without ours
]
DTYPES = [
    jnp.float32,
    pytest.param(jnp.bfloat16, marks=pytest.mark.skipif(not has_bfloat16(), reason="the processor has no bfloat16")),
]
OTHERS = [  # each has parts that the others have not; compiling them takes minutes
    *("mobilenet_v3_large", "resnext50_32x4d", "densenet121", "squeezenet1_1", "shufflenet_v2_x1_0"),
    *("efficientnet_b0", "convnext_tiny", "alexnet"),
]
GAIN = 1.8  # of a kernel's variance, with which the differences between images neither vanish nor explode
ROUNDING = {jnp.float32: 1e-5, jnp.bfloat16: 2e-2}


def draw(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def network(arch: str, dtype=jnp.float32, **options):
    """Return the function of a network and drawn variables, by NumPy: JAX would compile a program for each shape."""
    rng = np.random.default_rng(1)
    graphdef, state = nnx.split(Network(arch, **options).abstract(dtype=dtype))

    def drawn(path, leaf) -> jax.Array:
        noise = rng.standard_normal(leaf.shape, np.float32)
        match path[-1].key:
            case "kernel":
                return jnp.asarray(noise * np.float32(np.sqrt(GAIN / np.prod(leaf.shape[:-1]))))
            case "scale" | "var":
                return jnp.asarray(1 + np.abs(0.1 * noise))
            case _:
                return jnp.asarray(0.1 * noise)

    variables = jax.tree.map_with_path(drawn, nnx.to_pure_dict(state))
    return (lambda variables, images: nnx.merge(graphdef, variables)(images)), variables


def operations(function, *args) -> list[str]:
    return [eqn.primitive.name for eqn in jax.make_jaxpr(function)(*args).eqns]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("size", "strides", "padding", "groups"),
    [
        (3, (1, 1), ((1, 1), (1, 1)), 1),
        (3, (2, 1), ((0, 1), (2, 0)), 1),
        (1, (2, 2), ((0, 0), (0, 0)), 1),
        (5, (1, 1), ((2, 2), (2, 2)), 32),
        (3, (2, 2), ((1, 1), (1, 1)), 4),
    ],
)
@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "silu"])
def test_a_convolution_and_what_follows_is_that_of_xla(dtype, size, strides, padding, groups, activation):
    images, kernel = draw(2, 9, 10, 32).astype(dtype), (draw(size, size, 32 // groups, 64) / size).astype(dtype)
    options = {"strides": strides, "padding": padding, "groups": groups}
    wide = lax.conv_general_dilated(
        images.astype(jnp.float32),
        kernel.astype(jnp.float32),
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    bias, addend = draw(64, seed=2), draw(*wide.shape, seed=3).astype(dtype)
    expected = onednn.ACTIVATIONS[activation](wide + bias + addend.astype(jnp.float32))
    got = jax.jit(lambda *args: onednn.convolve(*args, **options, activation=activation, dtype=dtype))(
        images, kernel, bias, addend
    )
    np.testing.assert_allclose(got.astype(jnp.float32), expected, atol=ROUNDING[dtype] * float(jnp.abs(wide).max()))


@pytest.mark.parametrize("arch", ["resnet18", *(pytest.param(arch, marks=pytest.mark.slow) for arch in OTHERS)])
def test_a_network_is_the_same_function(arch):
    plain, variables = network(arch)
    images = draw(2, 96, 96, 3)
    expected = jax.jit(plain)(variables, images)
    for dtype in (jnp.float32, *([jnp.bfloat16] if has_bfloat16() else [])):
        forward, _ = network(arch, dtype)
        atol = ROUNDING[dtype] * 5 * float(jnp.abs(expected).max())
        np.testing.assert_allclose(Inference(forward)(variables, images), expected, atol=atol)


def test_nothing_is_left_beside_the_convolutions():
    forward, variables = network("resnet18", num_classes=10)
    images = jnp.zeros((2, 64, 64, 3))
    parts = divided(fused(forward), variables, images)
    names = operations(parts.rest, jax.eval_shape(parts.prepare, variables), images)
    assert names.count("onednn_convolution") == 20
    assert not {"mul", "sub", "rsqrt", "conv_general_dilated"} & set(names)


def test_deep_float32_maps_of_many_pixels_take_winograds_method():
    forward, variables = network("resnet18", num_classes=10)
    images = draw(8, 224, 224, 3)
    parts = divided(fused(forward), variables, images)
    names = operations(parts.rest, jax.eval_shape(parts.prepare, variables), images)
    assert names.count("onednn_convolution") == 14
    np.testing.assert_allclose(Inference(forward)(variables, images), jax.jit(forward)(variables, images), rtol=1e-3)


def test_the_weights_of_the_call_are_used():
    forward, variables = network("resnet18", num_classes=10, width=8)
    infer, images = Inference(forward), draw(2, 64, 64, 3)
    before = infer(variables, images)
    other = jax.tree.map(lambda leaf: leaf * 1.1, variables)
    np.testing.assert_allclose(infer(other, images), jax.jit(forward)(other, images), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(infer(variables, images), before)


def test_packed_kernels_give_the_same_results():
    forward, variables = network("resnet18", num_classes=10)
    images = draw(2, 64, 64, 3)
    parts = divided(fused(forward), variables, images, packed=True)
    assert sum(operation[0] == "pack" and operation[1] != "None" for operation in parts.operations) >= 15
    ours, packed = (Inference(forward, packed=packed)(variables, images) for packed in (False, True))
    np.testing.assert_array_equal(ours, packed)


def test_weights_that_give_nan_give_nan():
    forward, variables = network("resnet18", num_classes=10, width=8)
    variables["bn1"]["var"] = variables["bn1"]["var"].at[3].set(-1)
    assert np.isnan(Inference(forward)(variables, draw(2, 64, 64, 3))).all()


def test_many_images_are_computed_a_few_at_a_time():
    forward, variables = network("resnet18", num_classes=10, width=8)
    images = draw(32, 224, 224, 3)
    np.testing.assert_allclose(
        Inference(forward)(variables, images), jax.jit(forward)(variables, images), rtol=1e-4, atol=1e-5
    )


def test_a_value_that_is_used_twice_is_computed_once():
    def twice(images, kernel):
        maps = lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.nn.relu(maps) + maps * 2

    args = draw(1, 8, 8, 4), draw(3, 3, 4, 4)
    assert operations(fused(twice), *args).count("onednn_convolution") == 1
    np.testing.assert_allclose(jax.jit(fused(twice))(*args), jax.jit(twice)(*args), atol=1e-4)


def test_a_sum_with_one_value_for_each_image_and_channel_is_not_left_to_the_convolution():
    def shifted(images, kernel, offsets):
        maps = lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.nn.relu(maps + offsets)

    args = draw(2, 8, 8, 4), draw(3, 3, 4, 4, seed=1), draw(2, 1, 1, 4, seed=2)
    np.testing.assert_allclose(jax.jit(fused(shifted))(*args), jax.jit(shifted)(*args), atol=1e-4)


def test_a_type_that_the_library_does_not_take_is_converted_to_by_xla():
    def rounded(images, kernel):
        maps = lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return maps.astype(jnp.int32)

    args = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
    np.testing.assert_array_equal(jax.jit(fused(rounded))(*args), rounded(*args))


def test_other_convolutions_stay_with_xla():
    def dilated(images, kernel):
        return lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", rhs_dilation=(2, 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    args = draw(1, 8, 8, 4), draw(3, 3, 4, 4)
    assert operations(fused(dilated), *args) == ["conv_general_dilated"]


def test_an_exported_program_has_no_call_of_the_library():
    forward, variables = network("resnet18", num_classes=10, width=8)
    images = draw(1, 32, 32, 3)
    exported = jax.export.export(jax.jit(fused(forward)))(variables, images)
    np.testing.assert_allclose(exported.call(variables, images), forward(variables, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(3, 2, (1, 1)), (2, 2, (0, 0)), (3, 2, (0, 1)), (3, 1, (1, 1))]
)
def test_maximum_pooling_is_that_of_xla(dtype, size, stride, padding):
    maps = draw(2, 11, 12, 5).astype(dtype).at[0, 3, 3].set(-jnp.inf).at[0, 5, 5, 0].set(0.0)
    params = {
        "window_dimensions": (1, size, size, 1),
        "window_strides": (1, stride, stride, 1),
        "padding": ((0, 0), padding, padding, (0, 0)),
    }
    expected = lax.reduce_window(
        maps,
        jnp.array(-jnp.inf, dtype),
        lax.max,
        params["window_dimensions"],
        params["window_strides"],
        params["padding"],
    )
    np.testing.assert_array_equal(max_pool(maps, params).astype(jnp.float32), expected.astype(jnp.float32))


@pytest.mark.skipif(not has_bfloat16(), reason="the processor has no bfloat16")
@pytest.mark.parametrize(
    ("size", "stride", "padding", "groups"),
    [(3, 1, 1, 1), (3, 2, 1, 1), (7, 2, 3, 1), (1, 2, 0, 1), (3, 1, 0, 1), (3, 1, 1, 32), (5, 2, 2, 32), (3, 2, 1, 4)],
)
def test_the_derivatives_of_a_training_convolution_are_those_of_xla(size, stride, padding, groups):
    images, kernel = draw(4, 9, 12, 32), draw(size, size, 32 // groups, 64 if groups < 32 else 32, seed=1) / size

    def outputs(images, kernel):
        return convolve(images, kernel, stride, padding, groups)

    @jax.jit
    def derived(images, kernel, cotangents):
        maps, transpose = jax.vjp(outputs, images, kernel)
        return maps, *transpose(cotangents)

    arguments = images, kernel, draw(*jax.eval_shape(outputs, images, kernel).shape, seed=2)
    expected = derived(*arguments)
    with training_by_onednn(True):
        got = derived(*(values.astype(jnp.bfloat16) for values in arguments))
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(ours.astype(jnp.float32), theirs, atol=0.02 * float(jnp.abs(theirs).max()))


@pytest.mark.skipif(not has_bfloat16(), reason="the processor has no bfloat16")
def test_a_training_convolution_can_be_batched_and_derived_twice():
    images, kernel = draw(2, 3, 6, 6, 8).astype(jnp.bfloat16), draw(3, 3, 8, 8, seed=1).astype(jnp.bfloat16) / 8

    def total(kernel, images):
        return jnp.square(convolve(images, kernel, 1, 1).astype(jnp.float32)).sum()

    def curvature(kernel):
        per_batch = jax.vmap(jax.grad(total), (None, 0))(kernel, images)
        along = jax.jvp(jax.grad(total), (kernel, images[0]), (kernel, images[0]))[1]
        return per_batch.astype(jnp.float32).sum(0), along.astype(jnp.float32)

    expected = jax.jit(curvature)(kernel)
    with training_by_onednn(True):
        got = jax.jit(curvature)(kernel)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.03 * float(jnp.abs(theirs).max()))


@pytest.mark.parametrize(
    ("count", "size", "stride", "padding", "groups"),
    [
        *[(4, 3, 1, 1, 8), (4, 3, 1, 1, 2), (3, 3, 2, 1, 8), (2, 3, 1, 0, 8), (2, 5, 1, 2, 4), (2, 1, 1, 0, 4)],
        *[(4, 3, 1, 1, 32), (3, 3, 2, 1, 32), (2, 5, 2, 2, 32), (2, 7, 1, 3, 32)],
    ],
)
def test_a_grouped_training_convolution_in_float32_is_that_of_xla_in_float64(count, size, stride, padding, groups):
    images = draw(count, 9, 12, 32)
    kernel = draw(size, size, 32 // groups, 64 if groups < 32 else 32, seed=1)

    def exact(images, kernel):
        return lax.conv_general_dilated(
            images,
            kernel,
            (stride, stride),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    @partial(jax.jit, static_argnums=0)
    def derived(outputs, images, kernel, cotangents):
        maps, transpose = jax.vjp(outputs, images, kernel)
        return maps, *transpose(cotangents)

    arguments = images, kernel, draw(*jax.eval_shape(exact, images, kernel).shape, seed=2)
    with jax.enable_x64(True):
        wide = [jnp.asarray(values, jnp.float64) for values in arguments]
        expected = [np.asarray(values) for values in derived(exact, *wide)]
    with training_by_onednn(True):
        got = derived(lambda *both: convolve(*both, stride, padding, groups), *arguments)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * np.abs(theirs).max())


def test_the_gradient_of_a_grouped_kernel_is_the_same_in_several_parts(monkeypatch):
    images, gradients = draw(4, 6, 5, 32), draw(4, 6, 5, 32, seed=1)
    options = {"size": (3, 3), "padding": [(1, 1), (1, 1)], "groups": 8}
    whole = kernel_gradient(images, gradients, **options)
    monkeypatch.setattr(grouped, "CHUNK", 2 * images[0].size)
    parts = kernel_gradient(images, gradients, **options)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-5 * float(jnp.abs(whole).max()))
