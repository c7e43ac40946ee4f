"""From an image file to the input of a network."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import msgspec
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from resnet_jax.data.augment import normalize
from resnet_jax.data.reading.images import Interpolation, decode_rgb, to_rgb
from resnet_jax.json_files import Finite, Pixels, Positive

Share = Annotated[float, msgspec.Meta(gt=0.1, le=1)]


@dataclass(frozen=True)
class Preprocessing:
    """From an image file to the input of a network; the defaults are ImageNet's."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Mean of the channels, in units of 0 to 1."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Standard deviation of the channels, likewise."""
    image_size: int = 224
    """Side of the square that the network sees, pixels."""
    resize: int = 256
    """Length to which the shorter side is resized before the square is cropped from the center, pixels."""
    interpolation: Interpolation = "bilinear"
    """How the image is resized."""

    def decode(self, image: bytes | Path | Image.Image) -> UInt8[np.ndarray, "size size 3"]:
        """Decode, resize and crop an image: a file, its content, or an image of Pillow."""
        if isinstance(image, Image.Image):
            return to_rgb(image, self.image_size, resize=self.resize, interpolation=self.interpolation)
        return decode_rgb(image, self.image_size, resize=self.resize, interpolation=self.interpolation)

    def at_size(self, image_size: int) -> "Preprocessing":
        """Return the same preprocessing for a crop of another size, from images that are resized in proportion."""
        return replace(self, image_size=image_size, resize=round(self.resize * image_size / self.image_size))

    def normalize(
        self, images: UInt8[Array | np.ndarray, "batch height width 3"]
    ) -> Float[Array, "batch height width 3"]:
        """Map decoded images to the input of the network; on the device, inside `jit` or not.

        Raises:
            TypeError: `images` are not uint8, so that their range is not known.
        """
        images = jnp.asarray(images)
        if images.dtype != jnp.uint8:
            raise TypeError(
                f"normalize got {images.dtype} images, expected uint8, from 0 to 255: convert them with "
                "images.astype('uint8'), after images * 255 if they are from 0 to 1"
            )
        return normalize(images, np.array(self.mean, np.float32), np.array(self.std, np.float32))


class TimmSettings(msgspec.Struct):
    """The entries of timm's `pretrained_cfg` that are used here."""

    input_size: tuple[Literal[3], Pixels, Pixels]
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]
    test_input_size: tuple[Literal[3], Pixels, Pixels] | None = None
    crop_pct: Share | None = None
    test_crop_pct: Share | None = None
    crop_mode: Literal["center"] = "center"
    interpolation: Interpolation = "bilinear"
    label_names: list[str] | None = None


def from_timm(settings: TimmSettings, resize: int | None = None) -> Preprocessing:
    """Return the preprocessing for evaluation that a `pretrained_cfg` of timm describes.

    `test_input_size` and `test_crop_pct` come before `input_size` and `crop_pct`, which may be those of the training
    (timm.data.resolve_data_config with use_test_size=True).

    Args:
        settings: the configuration.
        resize: length of the shorter side, if it is known exactly.
    """
    size = (settings.test_input_size or settings.input_size)[1]
    share = settings.test_crop_pct or settings.crop_pct or 0.875
    return Preprocessing(settings.mean, settings.std, size, resize or int(size / share), settings.interpolation)


def to_timm(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return the entries of a `pretrained_cfg` of timm that describe the preprocessing."""
    size = preprocessing.image_size
    return {
        "input_size": [3, size, size],
        "interpolation": preprocessing.interpolation,
        "crop_pct": size / preprocessing.resize,
        "crop_mode": "center",
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }
