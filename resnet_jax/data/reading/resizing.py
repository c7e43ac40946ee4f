"""Bilinear resizing with antialiasing: by Pillow, or three times as fast where the extra `fast` is installed."""

from functools import cache
from types import ModuleType

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Part = tuple[float, float, float, float]
"""Left, top, right and bottom edge, pixels."""


def resize_part(image: Image.Image, part: Part, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Resize a part of an RGB image to a square of `size` pixels.

    The extra's cykooz-resizer computes what Pillow does, with a processor's vector instructions; a pixel differs by at
    most 1 of 255.
    """
    fast = _vectorized()
    if fast is None:
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=part))
    left, top, right, bottom = part
    options = fast.ResizeOptions(
        resize_alg=fast.ResizeAlg.convolution(fast.FilterType.bilinear),
        crop_box=fast.CropBox(left, top, right - left, bottom - top),
    )
    square = Image.new("RGB", (size, size))
    fast.Resizer().resize_pil(image, square, options)
    return np.asarray(square)


@cache
def _vectorized() -> ModuleType | None:
    try:
        import cykooz_resizer
    except ImportError:
        return None
    return cykooz_resizer
