"""Images from strangers: decoded in bounded memory, by the decoders of photographs alone; and pictures to send back."""

import base64
import io
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from resnet_jax.classifier.files import why_unreadable
from resnet_jax.classifier.gradcam import draw_overlay
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.data.reading.formats import FORMATS, image_suffixes
from resnet_jax.data.reading.images import encode_png
from resnet_jax.serving.uploads import Upload


def limit_pixels(limit: int) -> None:
    """Make Pillow refuse images with more pixels in this process, also those inside another format."""
    Image.MAX_IMAGE_PIXELS = limit
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def decode_upload(upload: Upload, preprocessing: Preprocessing) -> UInt8[np.ndarray, "size size 3"] | str:
    """Decode, resize and crop an image; return the reason if it can't be read.

    Only the decoders of `FORMATS` see it: Pillow has others, such as the one of PostScript, that start programs.
    """
    image_suffixes()  # which makes Pillow know all formats
    try:
        with Image.open(io.BytesIO(upload.content), formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            return preprocessing.decode(image)
    except Exception as error:  # Pillow's decoders raise a dozen kinds of errors
        return why_unreadable(error, Path(upload.name))


def encode_pictures(
    image: UInt8[np.ndarray, "size size 3"], heat: Float[np.ndarray, "height width"]
) -> tuple[str, str]:
    """Return an image, and the same with a heat map drawn over it, as PNG files in base64."""
    image_file, overlay = (base64.b64encode(encode_png(each)).decode() for each in (image, draw_overlay(image, heat)))
    return image_file, overlay
