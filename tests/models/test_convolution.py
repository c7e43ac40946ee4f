"""The convolution against its closed form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from resnet_jax import Conv
from resnet_jax.models.cpu import depthwise, grouped
from resnet_jax.models.cpu.convolution import convolve_on_cpu


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolved(images: np.ndarray, kernel: np.ndarray, stride: int, padding: int, groups: int) -> np.ndarray:
    """Convolve by the definition: sums over windows that start `padding` pixels before the image, for each group."""
    size = kernel.shape[0]
    padded = np.pad(images, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    results = [
        np.einsum("bhwcij,ijco->bhwo", window, part)
        for window, part in zip(np.split(windows, groups, 3), np.split(kernel, groups, 3), strict=True)
    ]
    return np.concatenate(results, -1)


def plain_convolution(images: jax.Array, kernel: jax.Array, stride: int, padding: int, groups: int) -> jax.Array:
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def values_and_gradients(convolution, images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, ...]:
    """Return the outputs, and the gradients of their product with drawn numbers, from one program."""
    seed = draw(*jax.eval_shape(convolution, images, kernel).shape, seed=2).astype(images.dtype)

    @jax.jit
    def compute(images, kernel):
        outputs, pull_back = jax.vjp(convolution, images, kernel)
        return outputs, *pull_back(seed)

    return compute(images, kernel)


@pytest.mark.parametrize(
    "image_size", [3, 4, 8, 9]
)  # at 3 and 4 the output is small enough for the CPU's matrix product
@pytest.mark.parametrize(
    "kernel_size, stride, groups", [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 2, 2), (7, 2, 1)]
)
def test_a_convolution_is_padded_equally_on_every_side(image_size, kernel_size, stride, groups):
    conv = Conv(4, 6, kernel_size, stride=stride, groups=groups, rngs=nnx.Rngs(0))
    images = draw(2, image_size, image_size, 4)
    expected = convolved(images, np.asarray(conv.kernel[...]), stride, kernel_size // 2, groups)
    np.testing.assert_allclose(nnx.jit(conv)(jnp.asarray(images)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel_size, stride, padding", [(11, 4, 2), (3, 2, 0), (4, 4, 0), (2, 2, 0), (3, 1, 0)])
def test_padding_and_bias_can_be_given(kernel_size, stride, padding):
    bias = nnx.initializers.constant(0.5)
    conv = Conv(4, 6, kernel_size, stride=stride, padding=padding, bias=True, bias_init=bias, rngs=nnx.Rngs(0))
    images = draw(2, 13, 13, 4)
    expected = convolved(images, np.asarray(conv.kernel[...]), stride, padding, 1) + 0.5
    np.testing.assert_allclose(nnx.jit(conv)(jnp.asarray(images)), expected, rtol=1e-4, atol=1e-5)


def test_a_kernel_is_drawn_with_variance_two_over_fan_out():
    kernel = Conv(64, 128, 3, rngs=nnx.Rngs(0)).kernel[...]
    expected = np.sqrt(2 / (3 * 3 * 128))
    assert abs(kernel.std() - expected) < 5 * expected / np.sqrt(2 * kernel.size)


def test_a_convolution_in_bfloat16_keeps_its_kernel_in_float32():
    conv = Conv(4, 6, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert conv(jnp.asarray(draw(1, 5, 5, 4))).dtype == jnp.bfloat16
    assert conv.kernel.dtype == jnp.float32


DENSE = [(1, 1, 0, 1), (1, 2, 0, 1), (3, 2, 1, 1), (7, 2, 3, 1), (3, 3, 1, 1), (3, 2, 0, 1), (5, 4, 2, 1), (2, 2, 0, 1)]
GROUPED = [(3, 1, 1, 2), (3, 2, 1, 2), (1, 1, 0, 4), (3, 1, 1, 4)]
DEPTHWISE = [(3, 1, 1, 12), (3, 2, 1, 12), (5, 2, 2, 12), (7, 1, 3, 12)]


@pytest.mark.parametrize("kernel_size, stride, padding, groups", [*DENSE, *GROUPED, *DEPTHWISE])
@pytest.mark.parametrize("image_size", [8, 9])
def test_the_convolution_for_cpus_has_the_values_and_gradients_of_xlas(
    monkeypatch, image_size, kernel_size, stride, padding, groups
):
    """In float64, against XLA's own convolution; groups in several blocks."""
    monkeypatch.setattr(grouped, "BLOCK", 6)
    compare_with_xla(image_size, kernel_size, stride, padding, groups, batch=2 * depthwise.NEIGHBORS)


def test_the_gradient_of_a_depthwise_kernel_is_the_same_for_a_batch_in_parts(monkeypatch):
    monkeypatch.setattr(depthwise, "LARGE", 0)
    compare_with_xla(8, 3, 2, 1, 12, batch=depthwise.PARTS * depthwise.NEIGHBORS)


@pytest.mark.parametrize("kernel_size, stride, padding, groups", [*DENSE[2:5], *DEPTHWISE])
@pytest.mark.parametrize("image_size", [1, 2])
def test_taps_that_lie_on_padding_for_all_outputs_change_nothing(image_size, kernel_size, stride, padding, groups):
    compare_with_xla(image_size, kernel_size, stride, padding, groups)


@pytest.mark.parametrize("groups", [1, 12])
def test_images_smaller_than_the_kernel_give_no_pixels(groups):
    kernel = jnp.ones((3, 3, 12 // groups, 12))
    assert convolve_on_cpu(jnp.ones((2, 2, 5, 12)), kernel, stride=2, padding=0, groups=groups).shape == (2, 0, 2, 12)


def compare_with_xla(image_size: int, kernel_size: int, stride: int, padding: int, groups: int, batch: int = 2) -> None:
    options = {"stride": stride, "padding": padding, "groups": groups}
    with jax.enable_x64(True):
        images = jnp.asarray(draw(batch, image_size, image_size + 1, 12), jnp.float64)
        kernel = jnp.asarray(draw(kernel_size, kernel_size, 12 // groups, 12, seed=1), jnp.float64)
        ours, theirs = (
            values_and_gradients(partial(convolution, **options), images, kernel)
            for convolution in (convolve_on_cpu, plain_convolution)
        )
        for our, their in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(our, their, rtol=1e-12, atol=1e-12)


def test_a_strided_convolution_on_a_cpu_supports_forward_mode_differentiation():
    images, kernel = jnp.asarray(draw(2, 8, 8, 4)), jnp.asarray(draw(3, 3, 4, 6, seed=1))
    dots = jnp.asarray(draw(*images.shape, seed=2)), jnp.asarray(draw(*kernel.shape, seed=3))
    ours, theirs = (
        jax.jvp(partial(convolution, stride=2, padding=1, groups=1), (images, kernel), dots)[1]
        for convolution in (convolve_on_cpu, plain_convolution)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_kernels_are_those_of_the_kaiming_normal_initializer_up_to_rounding():
    """JAX 0.12 multiplies the deviation by erf_inv's factor first and JAX 0.10 last, so that they round differently."""
    kernel = Conv(16, 32, 3, groups=4, rngs=nnx.Rngs(7)).kernel[...]
    key = nnx.Rngs(7).params()
    expected = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")(key, (3, 3, 4, 32))
    np.testing.assert_array_max_ulp(kernel, expected, maxulp=2)


def test_kernels_are_float32_even_if_jax_computes_in_float64():
    with jax.enable_x64(True):
        assert Conv(2, 3, 3, rngs=nnx.Rngs(0)).kernel.dtype == jnp.float32
