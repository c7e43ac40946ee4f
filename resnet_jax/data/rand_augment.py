"""RandAugment on the device: each image of a batch gets random operations of its own.

A `lax.switch` under `vmap` would compute all 14 operations for every image. Here they are three, each of which leaves
the images of other operations unchanged: five operations move pixels, by one gather; six change each value by itself,
by one table of 256 values for an image and channel; two blend the image with another form of it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from resnet_jax.data.operations import (
    Line,
    auto_contrast,
    blend,
    blurred,
    equalize,
    gray,
    histogram,
    look_up,
    resample,
)

Images = UInt8[Array, "batch height width 3"]
Operations = Int[Array, " batch"]
Strengths = Float[Array, " batch"]

NAMES = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast"),
    *("Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)
"""The operations by number, under torchvision's names."""
SIGNED = NAMES[1:10]
"""Operations whose strength is negative for half of the images."""
PER_IMAGE = 2
LARGEST = 30
"""The largest magnitude."""


def rand_augment(key: Key[Array, ""], images: Images, *, magnitude: int) -> Images:
    """Apply two random operations to each image (RandAugment; Cubuk et al. 2019, arXiv:1909.13719).

    Operations, strengths and nearest-neighbor sampling are those of torchvision's `RandAugment`. Each operation has the
    same probability, 1/14, and what moves in from outside an image is black.

    Args:
        key: of the draw.
        images: uint8.
        magnitude: from 0 to 30.
    """
    strengths = jnp.array([strength(name, magnitude, *images.shape[1:3]) for name in NAMES], jnp.float32)
    for number in range(PER_IMAGE):
        choice, sign = jax.random.split(jax.random.fold_in(key, number))
        operations = jax.random.randint(choice, (len(images),), 0, len(NAMES), jnp.int32)
        negative = jax.random.bernoulli(sign, jnp.float32(0.5), (len(images),)) & _is(operations, *SIGNED)
        images = apply(images, operations, jnp.where(negative, -1, 1) * strengths[operations])
    return images


def strength(name: str, magnitude: int, height: int, width: int) -> float:
    """Return the strength of an operation for images of this size, as torchvision defines it.

    It is the tangent of the angle for shears, pixels for translations, degrees for "Rotate", the number of bits that
    are kept for "Posterize", the smallest value that is inverted for "Solarize", and for blends the share that is added
    to the image's.
    """
    share = magnitude / LARGEST
    if name == "Posterize":
        return 8.0 - round(4 * share)
    if name == "Solarize":
        return 255 * (1 - share)
    shear, distance = dict.fromkeys(("ShearX", "ShearY"), 0.3), 150 / 331
    largest = shear | {"TranslateX": distance * width, "TranslateY": distance * height, "Rotate": 30.0}
    return share * largest.get(name, 0.9) if name in SIGNED else 0.0


def apply(images: Images, operations: Operations, strengths: Strengths) -> Images:
    """Apply one operation to each image.

    Args:
        images: uint8.
        operations: numbers in `NAMES`.
        strengths: see `strength`; negative for the other direction.
    """
    images = _finished(resample(images, *_places(operations, strengths, *images.shape[1:3])))
    brightness = _finished(gray(images))
    tables = _finished(_tables(images, brightness, operations, strengths))
    images = _finished(look_up(images, tables))
    color, sharpness = (_is(operations, name)[:, None, None, None] for name in ("Color", "Sharpness"))
    other = jnp.where(color, brightness, blurred(images))
    blended = blend(images, other, 1 + strengths[:, None, None, None]).astype(jnp.uint8)
    return jnp.where(color | sharpness, blended, images)


def _finished(array: jax.Array) -> jax.Array:
    """Return an array that is computed once: a CPU would take 10 times as long with what is fused without this."""
    return jax.lax.optimization_barrier(array)


def _is(operations: Operations, *names: str) -> Bool[Array, " batch"]:
    return jnp.isin(operations, jnp.array([NAMES.index(name) for name in names], jnp.int32))


def _places(operations: Operations, strengths: Strengths, height: int, width: int) -> tuple[Line, Line]:
    """Return from which row and from which column each pixel comes."""

    def of(name: str) -> Strengths:
        return jnp.where(_is(operations, name), strengths, 0)

    angle = jnp.deg2rad(of("Rotate"))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y, x = height / 2, width / 2
    return (
        Line(cos, sin + of("ShearY"), y - cos * y - sin * x - jnp.trunc(of("TranslateY"))),
        Line(of("ShearX") - sin, cos, x + sin * y - cos * x - jnp.trunc(of("TranslateX"))),
    )


def _tables(
    images: Images, brightness: UInt8[Array, "batch height width 1"], operations: Operations, strengths: Strengths
) -> UInt8[Array, "batch 256 3"]:
    """Return what becomes of each value in each channel, rounded down."""
    values, amount, counts = jnp.arange(256, dtype=jnp.float32)[:, None], strengths[:, None, None], histogram(images)
    mean = brightness.mean((1, 2), keepdims=True, dtype=jnp.float32)[..., 0]
    new = {
        "Brightness": blend(values, jnp.float32(0), 1 + amount),
        "Contrast": blend(values, mean, 1 + amount),
        "Posterize": values - values % 2 ** (8 - amount),
        "Solarize": jnp.where(values >= amount, 255 - values, values),
        "AutoContrast": auto_contrast(counts),
        "Equalize": equalize(counts),
    }
    chosen = [_is(operations, name)[:, None, None] for name in new]
    return jnp.broadcast_to(jnp.select(chosen, list(new.values()), values), counts.shape).astype(jnp.uint8)
