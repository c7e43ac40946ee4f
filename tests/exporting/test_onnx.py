"""Any network is written to ONNX with its own operations, and gives the same logits in onnxruntime."""

from collections import Counter
from collections.abc import Callable

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden.draw import draw_weights
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from resnet_jax.classifier.pretrained import load_torchvision
from resnet_jax.data.augment import normalize
from resnet_jax.errors import UserError
from resnet_jax.exporting.onnx_graph import onnx_graph
from resnet_jax.models.network import Network
from resnet_jax.weights.torchvision import to_torchvision, torchvision_shapes

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
numpy_helper = pytest.importorskip("onnx.numpy_helper")

SIZE = 14  # pixels: even, so that strides and poolings meet the borders unevenly
CHANNELS = 8


class Small(nnx.Module):
    """A convolution with bias, operations of a test, and the mean of what they return for each of its channels."""

    head = "conv"

    def __init__(self, operations: Callable = lambda maps: maps, **options):
        self.conv = nnx.Conv(3, CHANNELS, (3, 3), rngs=nnx.Rngs(0), **options)
        self.conv.bias[...] = jnp.linspace(-1, 1, CHANNELS)
        self.operations = operations

    def __call__(self, images, *, train=None, rngs=None):
        maps = self.operations(self.conv(images))
        return maps.mean((1, 2)) if maps.ndim == 4 else maps


def drawn(*shape: int, seed: int = 0, low: float = -1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, 1, shape).astype(np.float32)


def written(model: nnx.Module, size: int = SIZE):
    images = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("batch"), size, size, 3), jnp.float32)
    return onnx_graph(model, images)


def run(graph, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0]


def kinds(graph) -> Counter:
    return Counter(node.op_type for node in graph.graph.node)


def check(model: nnx.Module, size: int = SIZE):
    """Compare onnxruntime with JAX for 1 and 3 images; return the graph."""
    graph = written(model, size)
    for count in (1, 3):
        images = drawn(count, size, size, 3, seed=count)
        expected = np.asarray(jax.jit(lambda it: model(it, train=False))(images))
        np.testing.assert_allclose(run(graph, images), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    return graph


def same(operations: Callable):
    """Compare a small network with these operations; return the graph."""
    return check(Small(operations))


def windows(name: str, maps, padding=((0, 0), (0, 1), (0, 1), (0, 0)), size: int = 3):
    start, operation = {"max": (-jnp.inf, lax.max), "sum": (0.0, lax.add)}[name]
    return lax.reduce_window(maps, start, operation, (1, size, size, 1), (1, 2, 2, 1), padding)


def convolved(maps, kernel, groups=1, padding="SAME", **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        maps, kernel, (1, 1), padding, dimension_numbers=numbers, feature_group_count=groups, **options
    )


@pytest.mark.parametrize(
    "options",
    [
        {"padding": ((1, 1), (1, 1))},
        {"padding": ((0, 2), (1, 0)), "strides": 2},
        {"padding": "VALID", "kernel_dilation": 2},
    ],
)
def test_a_convolution_with_bias_is_one_node(options):
    assert kinds(check(Small(lambda maps: maps.mean((1, 2)), **options))) == Counter(
        {"Transpose": 1, "Conv": 1, "ReduceMean": 1}
    )


@pytest.mark.parametrize("groups", [2, CHANNELS])
def test_grouped_and_depthwise_convolutions_keep_their_kernels(groups):
    kernel = drawn(3, 3, CHANNELS // groups, CHANNELS)
    graph = same(lambda maps: convolved(nnx.relu(maps), kernel, groups))
    assert [node.attribute[1].i for node in graph.graph.node if node.op_type == "Conv"] == [1, groups]


@pytest.mark.parametrize("groups", [1, 4])
def test_the_normalization_after_a_convolution_becomes_its_weights(groups):
    kernel, norm = drawn(3, 3, CHANNELS // groups, CHANNELS), nnx.BatchNorm(CHANNELS, rngs=nnx.Rngs(0))
    norm.mean[...], norm.var[...] = drawn(CHANNELS), drawn(CHANNELS, low=0.1)
    graph = same(lambda maps: norm(convolved(nnx.relu(maps), kernel, groups), use_running_average=True))
    assert not kinds(graph).keys() & {"Mul", "Add", "BatchNormalization"}


def test_two_uses_of_a_convolution_compute_it_once():
    graph = same(lambda maps: nnx.relu(maps) + maps * 2)
    assert kinds(graph)["Conv"] == 1


def test_a_transposed_convolution_is_refused():
    kernel = drawn(3, 3, CHANNELS, CHANNELS)
    with pytest.raises(UserError, match=r"a convolution that is transposed.*--format stablehlo"):
        written(Small(lambda maps: convolved(maps, kernel, padding=((1, 1), (1, 1)), lhs_dilation=(2, 2))))


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (0, 1)])
@pytest.mark.parametrize("size", [2, 3])
def test_max_pooling_has_the_padding_of_jax(padding, size):
    graph = same(lambda maps: windows("max", maps, ((0, 0), padding, padding, (0, 0)), size))
    assert kinds(graph)["MaxPool"] == 1


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (0, 1)])
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_average_pooling_has_the_padding_of_jax(padding, count_include_pad):
    def pool(maps):
        return nnx.avg_pool(maps, (3, 3), (2, 2), (padding, padding), count_include_pad=count_include_pad)

    operations = kinds(same(pool))
    assert operations["AveragePool"] == 1
    assert operations["Mul"] == (padding != (0, 0) and not count_include_pad)


def test_global_average_sum_and_maximum_are_a_node_each_and_a_factor():
    graph = same(lambda maps: jnp.concatenate([maps.mean((1, 2)), maps.max((1, 2)), maps.sum((1, 2)) / 10], -1))
    assert kinds(graph) == {"Transpose": 1, "Conv": 1, "ReduceMean": 2, "ReduceMax": 1, "Mul": 1, "Concat": 1}


def test_a_concatenation_and_a_channel_shuffle_keep_the_order_of_channels():
    def shuffled(maps):
        both = jnp.concatenate([nnx.relu(maps), maps], -1)
        return both.reshape(*both.shape[:3], 2, CHANNELS).swapaxes(3, 4).reshape(both.shape)

    assert kinds(same(shuffled))["Transpose"] == 2  # of the input, and of the groups of channels


def test_channels_are_split_stacked_and_taken_by_steps():
    def parts(maps):
        first, second = jnp.split(maps, [3], axis=-1)
        return jnp.stack([second[..., ::2], first, maps[..., 1:4]], -1).sum(-1)[:, 1:9:3, :-2]

    same(parts)


def test_rows_are_taken_by_known_indices():
    same(lambda maps: jnp.take(maps, jnp.array([3, 1, 1]), 1).max(1, keepdims=True) + maps[:, :, -1:])


def test_indices_that_are_not_along_one_axis_are_refused():
    with pytest.raises(UserError, match=r"by an index.*--format stablehlo"):
        written(Small(lambda maps: maps[:, jnp.array([0, 1]), jnp.array([0, 1])]))


def test_channels_are_interleaved_without_a_transpose():
    def interleaved(maps):
        mixed = jnp.stack((maps, nnx.relu(maps)), -1)
        return mixed.reshape(*mixed.shape[:-2], -1)

    assert kinds(same(interleaved))["Transpose"] == 1  # of the input


def test_pads_of_any_kind_are_kept():
    same(lambda maps: lax.pad(maps, 2.0, ((0, 0, 0), (1, 0, 0), (-1, 3, 0), (0, 2, 0))))


@pytest.mark.parametrize("gate", [nnx.sigmoid, nnx.hard_sigmoid])
def test_squeeze_and_excitation_transposes_nothing(gate):
    down, up = drawn(1, 1, CHANNELS, 4), drawn(1, 1, 4, CHANNELS)

    def excited(maps):
        squeezed = nnx.relu(convolved(maps.mean((1, 2), keepdims=True), down) + 0.5)
        return maps * gate(convolved(squeezed, up) + drawn(CHANNELS))

    assert kinds(same(excited))["Transpose"] == 1


def test_squeeze_and_excitation_by_linear_layers_transposes_nothing():
    down, up = drawn(CHANNELS, 4), drawn(4, CHANNELS)
    graph = same(lambda maps: maps * nnx.sigmoid(nnx.relu(maps.mean((1, 2)) @ down) @ up)[:, None, None])
    assert kinds(graph)["Transpose"] == 1


@pytest.mark.parametrize(
    "activation", [nnx.relu, nnx.relu6, nnx.hard_swish, nnx.hard_sigmoid, nnx.silu, nnx.tanh, nnx.leaky_relu, nnx.gelu]
)
def test_an_activation_has_the_values_of_jax(activation):
    same(lambda maps: activation(3 * maps))


def test_exact_gelu_is_erf_without_further_signs():
    graph = same(lambda maps: nnx.gelu(maps, approximate=False))
    assert {"Erf": 1, "Mul": 3, "Add": 1}.items() <= kinds(graph).items()


def test_relu6_is_one_node():
    assert kinds(same(nnx.relu6)).keys() == {"Transpose", "Conv", "Clip", "ReduceMean"}


@pytest.mark.parametrize(
    "operation",
    [
        lambda maps: jnp.exp(-jnp.abs(maps)) + jnp.log(maps**2 + 1),
        lambda maps: jnp.where((maps > 0.1) & ~(maps >= 0.9) | (maps < -0.5), maps**3, 2 - maps),
        lambda maps: jnp.sqrt(jnp.clip(maps, 0.1, 2)) / (1 + jnp.square(maps)) - 1 / (2 + jnp.sign(maps)),
        lambda maps: jax.nn.softmax(maps, -1) ** 0.5 * lax.rsqrt(maps**2 + 1),
        lambda maps: jnp.minimum(maps, maps[..., ::2].mean(-1, keepdims=True)) + lax.clamp(-0.5, maps, 0.5),
        lambda maps: jnp.where(maps == 0, 1.0, (maps != 0).astype(jnp.float32)) * jnp.floor(maps * 3) - jnp.ceil(maps),
    ],
)
def test_arithmetic_has_the_values_of_jax(operation):
    same(operation)


def test_layer_norm_over_the_channels_and_layer_scale_transpose_nothing():
    norm = nnx.LayerNorm(CHANNELS, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = drawn(CHANNELS), drawn(CHANNELS, seed=1)
    wide, narrow, scale = drawn(CHANNELS, 32), drawn(32, CHANNELS), drawn(1, 1, CHANNELS)

    def block(maps):
        inner = nnx.gelu(norm(maps) @ wide + 0.1, approximate=False)
        return maps + scale * (inner @ narrow + drawn(CHANNELS))

    operations = kinds(same(block))
    assert operations["Transpose"] == 1 and operations["Conv"] == 3


class Flattening(nnx.Module):
    """torchvision's order: channels, height, width; then a linear layer."""

    head = "linear"

    def __init__(self):
        self.conv = nnx.Conv(3, CHANNELS, (3, 3), rngs=nnx.Rngs(0))
        self.linear = nnx.Linear(CHANNELS * SIZE**2, 5, rngs=nnx.Rngs(1))
        self.linear.bias[...] = jnp.arange(5.0)

    def __call__(self, images, *, train=None, rngs=None):
        maps = nnx.relu(self.conv(images)).transpose(0, 3, 1, 2)
        return self.linear(maps.reshape(len(maps), -1))


def test_flattening_in_torchvisions_order_is_one_reshape():
    assert kinds(check(Flattening())) == {"Transpose": 1, "Conv": 1, "Relu": 1, "Reshape": 1, "Gemm": 1}


def test_unchanged_weights_have_torchvisions_names_and_layouts():
    model = Flattening()
    model.conv.bias[...] = jnp.ones(CHANNELS)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in written(model).graph.initializer}
    for key, tensor in to_torchvision(model).items():
        np.testing.assert_array_equal(found[key], tensor)


def test_a_classifier_of_a_1x1_convolution_ends_with_its_mean():
    kernel = drawn(1, 1, CHANNELS, 5)
    graph = same(lambda maps: nnx.relu(convolved(nnx.relu(maps), kernel) + 0.1).mean((1, 2)))
    assert kinds(graph) == {"Transpose": 1, "Conv": 2, "Relu": 2, "ReduceMean": 1}


def test_a_matrix_product_over_rows_is_kept():
    weights = drawn(SIZE, 3)
    same(lambda maps: jnp.einsum("bhwc,hi->biwc", maps, weights))
    same(lambda maps: jnp.einsum("hi,bhwc->biwc", weights, maps))
    same(lambda maps: (maps.reshape(len(maps), -1, CHANNELS) @ drawn(CHANNELS, 5)).max(1))


def test_calls_inside_calls_are_followed():
    @jax.custom_vjp
    def doubled(maps):
        return jax.jit(lambda it: 2 * it)(maps)

    doubled.defvjp(lambda maps: (doubled(maps), ()), lambda _, grads: (2 * grads,))
    named = jax.checkpoint(lambda maps: checkpoint_name(lax.optimization_barrier(doubled(maps)), "maps"))
    graph = same(lambda maps: lax.stop_gradient(nnx.relu(named(maps))))
    assert kinds(graph) == {"Transpose": 1, "Conv": 1, "Relu": 1, "ReduceMean": 1}


def test_the_branch_of_the_cpu_is_not_written():
    def on(factor):
        return lambda maps: maps * factor

    graph = written(Small(lambda maps: lax.platform_dependent(maps, cpu=on(2.0), default=on(0.0))))
    np.testing.assert_array_equal(run(graph, drawn(1, SIZE, SIZE, 3)), 0)


def test_a_value_that_would_have_to_be_repeated_for_each_image_is_refused():
    with pytest.raises(UserError, match=r"repeats a value for each image.*--format stablehlo"):
        written(Small(lambda maps: jnp.concatenate([maps, jnp.broadcast_to(drawn(CHANNELS), maps.shape)], -1)))


def test_an_operation_without_a_form_in_onnx_is_named():
    with pytest.raises(UserError, match=r"uses JAX's operation cumsum.*--format stablehlo"):
        written(Small(lambda maps: jnp.cumsum(maps, 1)))


@pytest.mark.parametrize("operation", [lambda maps: maps - maps.mean(0), lambda maps: maps[:1] + 0 * maps])
def test_images_that_depend_on_each_other_are_refused(operation):
    with pytest.raises(UserError, match="images of a batch"):
        written(Small(operation))


def test_the_preparation_of_images_in_onnxs_order_is_a_cast_a_factor_and_an_offset():
    def prepare(images):
        return normalize(images.transpose(0, 2, 3, 1), np.float32((0.4, 0.5, 0.6)), np.float32((0.2, 0.3, 0.25)))

    images = np.random.default_rng(0).integers(0, 256, (2, 3, SIZE, SIZE), np.uint8)
    shape = jax.ShapeDtypeStruct(images.shape, images.dtype)
    graph = onnx_graph(model := Small(), shape, lambda model, images: (model(prepare(images)),))
    assert kinds(graph) == {"Cast": 1, "Mul": 1, "Add": 1, "Conv": 1, "ReduceMean": 1}
    np.testing.assert_allclose(run(graph, images), model(prepare(jnp.asarray(images))), rtol=1e-5, atol=1e-5)


def test_the_computation_is_in_float32_whatever_the_type_of_the_network():
    graph, reference = (written(Small(nnx.silu, dtype=dtype)) for dtype in (jnp.bfloat16, jnp.float32))
    images = drawn(2, SIZE, SIZE, 3)
    np.testing.assert_allclose(run(graph, images), run(reference, images), rtol=1e-6)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize(
    "arch", ["resnet18", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50", "resnext50_32x4d"))]
)
def test_a_resnet_is_convolutions_and_sums(arch, stem):
    model = Network(arch, num_classes=5, stem=stem, width=8 if arch != "resnext50_32x4d" else 32).abstract()
    load_torchvision(model, draw_weights(torchvision_shapes(model)))
    operations = kinds(check(model, size=32))
    assert operations.pop("MaxPool", 0) == (stem == "imagenet") and operations["Transpose"] == 1
    assert operations.keys() == {"Transpose", "Conv", "Relu", "Add", "ReduceMean", "Gemm"}


@pytest.mark.slow  # compiles them
@pytest.mark.parametrize("arch", ["squeezenet1_1", "shufflenet_v2_x1_0", "convnext_tiny", "mobilenet_v3_large"])
def test_a_network_of_each_kind_gives_its_logits_with_one_transposition_of_the_images(arch):
    model = nnx.jit(Network(arch, num_classes=5, stem="cifar").build)()
    assert kinds(check(model, size=32))["Transpose"] == 1
