"""Mixing of images with others of their batch, on the device: mixup and cutmix."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


def mix_at_random(
    key: Key[Array, ""],
    images: Float[Array, "batch height width channels"],
    soft_labels: Float[Array, "batch classes"],
    *,
    mixup: float | None,
    cutmix: float | None,
) -> tuple[Float[Array, "batch height width channels"], Float[Array, "batch classes"]]:
    """Mix a batch by mixup or by cutmix; with both, each batch by one of them, with probability 1/2.

    A batch has one set of shares, as in torchvision and by default in timm.

    Args:
        key: of the draw.
        images: normalized.
        soft_labels: target probabilities, which are mixed like the images.
        mixup, cutmix: alpha of each, whose shares have the distribution Beta(alpha, alpha); None for not this one.
    """
    choice, key = jax.random.split(key)
    height, width = images.shape[1:3]
    possible = []
    if mixup is not None:
        possible.append(mixup_shares(_share(key, mixup), height, width))
    if cutmix is not None:
        row, column = jax.random.randint(jax.random.fold_in(key, 1), (2,), 0, jnp.array([height, width]), jnp.int32)
        possible.append(cutmix_shares(_share(key, cutmix), row, column, height, width))
    chosen = jax.random.randint(choice, (), 0, len(possible), jnp.int32)
    return mix(images, soft_labels, jnp.stack(possible)[chosen])


def _share(key: Key[Array, ""], alpha: float) -> Float[Array, ""]:
    return jax.random.beta(key, jnp.float32(alpha), jnp.float32(alpha), dtype=jnp.float32)


def mix(
    images: Float[Array, "batch height width channels"],
    soft_labels: Float[Array, "batch classes"],
    shares: Float[Array, "height width"],
) -> tuple[Float[Array, "batch height width channels"], Float[Array, "batch classes"]]:
    """Mix each image with the one before it in the batch.

    Args:
        images: normalized.
        soft_labels: target probabilities; an image's own label keeps the mean of the shares.
        shares: of an image in the pixels of the mixture, from 0 to 1.
    """
    own = shares.mean()
    shares = shares[..., None]
    return (
        shares * images + (1 - shares) * jnp.roll(images, 1, 0),
        own * soft_labels + (1 - own) * jnp.roll(soft_labels, 1, 0),
    )


def mixup_shares(share: Float[Array, ""], height: int, width: int) -> Float[Array, "height width"]:
    """Return the same share for every pixel (mixup; Zhang et al. 2017, arXiv:1710.09412)."""
    return jnp.full((height, width), share)


def cutmix_shares(
    share: Float[Array, ""], row: Int[Array, ""], column: Int[Array, ""], height: int, width: int
) -> Float[Array, "height width"]:
    """Return 0 in a rectangle and 1 around it (cutmix; Yun et al. 2019, arXiv:1905.04899, section 3.1).

    The rectangle has the image's proportions and, up to rounding, 1 - `share` of its area. Its center is at `row` and
    `column`, and what reaches over the edge is cut off.
    """
    side = jnp.sqrt(1 - share) / 2

    def inside(center: Int[Array, ""], size: int) -> Array:
        half, positions = (side * size).astype(jnp.int32), jnp.arange(size)
        return (positions >= center - half) & (positions < center + half)

    rectangle = inside(row, height)[:, None] & inside(column, width)
    return 1 - rectangle.astype(jnp.float32)
