"""The convolution against its closed form."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax import Conv


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def convolved(images: np.ndarray, kernel: np.ndarray, stride: int, groups: int) -> np.ndarray:
    """Sums products over windows that start `size // 2` pixels before the image, for each group of channels alone."""
    size = kernel.shape[0]
    padded = np.pad(images, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    results = [
        np.einsum("bhwcij,ijco->bhwo", window, part)
        for window, part in zip(np.split(windows, groups, 3), np.split(kernel, groups, 3), strict=True)
    ]
    return np.concatenate(results, -1)


@pytest.mark.parametrize(
    "image_size", [3, 4, 8, 9]
)  # at 3 and 4 the output is small enough for the CPU's matrix product
@pytest.mark.parametrize(
    "kernel_size, stride, groups", [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 2, 2), (7, 2, 1)]
)
def test_a_convolution_is_padded_alike_on_every_side(image_size, kernel_size, stride, groups):
    conv = Conv(4, 6, kernel_size, stride=stride, groups=groups, rngs=nnx.Rngs(0))
    images = draw(2, image_size, image_size, 4)
    wanted = convolved(images, np.asarray(conv.kernel[...]), stride, groups)
    np.testing.assert_allclose(conv(jnp.asarray(images)), wanted, rtol=1e-4, atol=1e-5)


def test_a_kernel_is_drawn_with_variance_two_over_fan_out():
    kernel = Conv(64, 128, 3, rngs=nnx.Rngs(0)).kernel[...]
    wanted = np.sqrt(2 / (3 * 3 * 128))
    assert abs(kernel.std() - wanted) < 5 * wanted / np.sqrt(2 * kernel.size)


def test_a_convolution_in_bfloat16_keeps_its_kernel_in_float32():
    conv = Conv(4, 6, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert conv(jnp.asarray(draw(1, 5, 5, 4))).dtype == jnp.bfloat16
    assert conv.kernel.dtype == jnp.float32
