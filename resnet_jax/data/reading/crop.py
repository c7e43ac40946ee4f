"""Random-resized crops of encoded images: the training images of ImageNet recipes."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from resnet_jax.data.reading.images import open_image, upright_rgb
from resnet_jax.data.reading.resizing import resize_part

RATIO = (3 / 4, 4 / 3)
"""Range of a crop's width over its height, as in torchvision and in Szegedy et al. 2015 (arXiv:1409.4842)."""
_TRIES = 10  # as in torchvision
_TURNED = (5, 6, 7, 8)  # values of EXIF's orientation that swap width and height


class Box(NamedTuple):
    """Part of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int


def draw_box(
    rng: np.random.Generator,
    width: int,
    height: int,
    scale: tuple[float, float],
    ratio: tuple[float, float] = RATIO,
) -> Box:
    """Draw the part of an image that a random-resized crop takes.

    Its share of the image's area is uniform, and so is the logarithm of its ratio, among parts that fit into the image.
    If ten draws do not fit, it is the largest part in the center whose ratio is in range. The distribution is that of
    torchvision's RandomResizedCrop.get_params
    (https://github.com/pytorch/vision/blob/v0.24.0/torchvision/transforms/transforms.py#L899).

    Args:
        rng: source of randomness.
        width, height: of the image, pixels.
        scale: range of the share of the area, in (0, 1].
        ratio: range of width over height.
    """
    for _ in range(_TRIES):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            left, top = rng.integers(0, (width - across + 1, height - down + 1))
            return Box(int(left), int(top), across, down)
    across = min(width, round(height * ratio[1]))
    down = min(height, round(width / ratio[0]))
    return Box((width - across) // 2, (height - down) // 2, across, down)


def random_resized_crop(
    encoded: bytes | Path, size: int, scale: tuple[float, float], rng: np.random.Generator
) -> UInt8[np.ndarray, "size size 3"]:
    """Decode one image, upright, and resize a random part of it to a square of `size` pixels; see `draw_box`.

    Raises:
        OSError, SyntaxError, ValueError, Image.DecompressionBombError: see `decode_rgb`.
    """
    with open_image(encoded) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
        width, height = reversed(image.size) if turned else image.size
        return resize_box(image, draw_box(rng, width, height, scale), size)


def resize_box(image: Image.Image, box: Box, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Resize a part of an image that is open but not yet decoded, with antialiasing.

    A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, if the part still has `size` pixels then.

    Args:
        image: of Pillow.
        box: the part, in pixels of the upright image.
        size: of the result, pixels.
    """
    stored = image.size
    shrink = min(box.width, box.height) / size
    if shrink > 1:
        image.draft("RGB", (math.ceil(stored[0] / shrink), math.ceil(stored[1] / shrink)))
    across, down = (decoded / full for decoded, full in zip(image.size, stored, strict=True))
    if image.getexif().get(ExifTags.Base.Orientation) in _TURNED:
        across, down = down, across
    image = upright_rgb(image)
    right, bottom = box.left + box.width, box.top + box.height
    part = (box.left * across, box.top * down, right * across, bottom * down)
    return resize_part(image, part, size)
