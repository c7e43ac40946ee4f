"""Random erasing on the device."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

AREA = (0.02, 0.33)
"""Range of the rectangle's share of the image; uniform, as in torchvision."""
ASPECT = (0.3, 3.3)
"""Range of its height divided by its width; the logarithm is uniform."""
TRIES = 10
"""Draws of area and aspect; an image that none of them fits into stays as it is."""


def random_erase(
    key: Key[Array, ""], images: Float[Array, "batch height width channels"], *, probability: float
) -> Float[Array, "batch height width channels"]:
    """Set a random rectangle to 0 in each image, with a probability (Zhong et al. 2017, arXiv:1708.04896).

    The distribution is that of torchvision's `RandomErasing`. In normalized images 0 is the mean color.
    """
    count, height, width, _ = images.shape
    keys = jax.random.split(key, 5)

    def uniform(number: int, low: float, high: float) -> Float[Array, "batch tries"]:
        return jax.random.uniform(keys[number], (count, TRIES), jnp.float32, low, high)

    area = height * width * uniform(0, *AREA)
    aspect = jnp.exp(uniform(1, *map(math.log, ASPECT)))
    heights, widths = jnp.round(jnp.sqrt(area * aspect)), jnp.round(jnp.sqrt(area / aspect))
    fits = (heights < height) & (widths < width)
    first = jnp.argmax(fits, axis=1, keepdims=True)
    chosen = jax.random.bernoulli(keys[2], jnp.float32(probability), (count, 1)) & fits.any(1, keepdims=True)

    def inside(number: int, sizes: Float[Array, "batch tries"], whole: int) -> Array:
        size = jnp.where(chosen, jnp.take_along_axis(sizes, first, axis=1), 0).astype(jnp.int32)
        start = jax.random.randint(keys[number], (count, 1), 0, whole - size + 1, jnp.int32)
        positions = jnp.arange(whole)
        return (positions >= start) & (positions < start + size)

    rectangle = inside(3, heights, height)[:, :, None] & inside(4, widths, width)[:, None, :]
    return jnp.where(rectangle[..., None], 0, images)
