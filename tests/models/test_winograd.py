"""Winograd's convolution against XLA's own."""

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.models.cpu.convolution import convolution, convolve_on_cpu
from resnet_jax.models.cpu.winograd import winograd


def plain(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return convolution(images, kernel, stride=1, padding=1, groups=1)


def draw(
    height: int, width: int, channels: tuple[int, int], dtype: type = np.float64, batch: int = 3
) -> tuple[jax.Array, ...]:
    """Draw images, a kernel and a gradient of the outputs."""
    random, (before, after) = np.random.default_rng(0), channels
    shapes = (batch, height, width, before), (3, 3, before, after), (batch, height, width, after)
    return tuple(jnp.asarray(random.normal(size=shape), dtype) for shape in shapes)


@pytest.mark.parametrize("size", [(4, 4), (8, 4), (5, 7), (14, 3), (1, 9)])
def test_winograd_equals_the_convolution_and_its_gradients(size):
    with jax.enable_x64(True):
        images, kernel, outputs_grad = draw(*size, (5, 6))

        def values_and_gradients(convolution, images, kernel):
            outputs, pull_back = jax.vjp(convolution, images, kernel)
            return outputs, *pull_back(outputs_grad)

        ours, theirs = (jax.jit(partial(values_and_gradients, it))(images, kernel) for it in (winograd, plain))
        for our, their in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(our, their, rtol=1e-11, atol=1e-11)


def test_winograd_supports_forward_mode_differentiation():
    with jax.enable_x64(True):
        images, kernel, _ = draw(6, 6, (5, 6))

        def derivative(convolution, images, kernel):
            return jax.jvp(convolution, (images, kernel), (images * 2, kernel + 1))[1]

        ours, theirs = (jax.jit(partial(derivative, it))(images, kernel) for it in (winograd, plain))
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


def test_float32_errors_are_below_2e_5_of_the_standard_deviation_of_the_outputs():
    with jax.enable_x64(True):
        images, kernel, _ = draw(16, 16, (256, 32))
        exact = plain(images, kernel)
        rounded = winograd(images.astype(jnp.float32), kernel.astype(jnp.float32))
        assert rounded.dtype == jnp.float32
        assert jnp.abs(rounded - exact).max() < 2e-5 * exact.std()


def test_winograd_takes_less_than_half_the_operations():
    images, kernel, _ = draw(16, 16, (256, 256), np.float32)
    ours, theirs = (jax.jit(f).lower(images, kernel).compile().cost_analysis()["flops"] for f in (winograd, plain))
    assert ours < theirs / 2


@pytest.mark.parametrize(
    "batch, channels, dtype, is_plain",
    [
        (32, 64, jnp.float32, False),
        (31, 64, jnp.float32, True),
        (32, 32, jnp.float32, True),
        (32, 64, jnp.bfloat16, True),
    ],
)
def test_a_cpu_uses_winograd_only_where_it_is_faster(batch, channels, dtype, is_plain):
    images, kernel, _ = draw(8, 8, (channels, channels), dtype, batch=batch)
    ours, theirs = convolve_on_cpu(images, kernel, stride=1, padding=1, groups=1), plain(images, kernel)
    assert bool((ours == theirs).all()) == is_plain


def test_a_batch_of_symbolic_size_uses_the_plain_convolution():
    images = jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, 8, 8, 64"), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
    exported = jax.export.export(jax.jit(lambda x, k: convolve_on_cpu(x, k, stride=1, padding=1, groups=1)))(
        images, kernel
    )
    some, weights, _ = draw(8, 8, (64, 64), np.float32)
    np.testing.assert_allclose(exported.call(some, weights), plain(some, weights), rtol=1e-4, atol=1e-3)
