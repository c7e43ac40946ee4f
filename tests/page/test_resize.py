"""The page's script resizes and crops as Pillow does."""

from dataclasses import asdict
from pathlib import Path
from typing import get_args

import numpy as np
import PIL
import pytest
from browser import needs_chromium, started_chromium
from PIL import Image

import resnet_jax
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.data.reading.images import Interpolation

SCRIPT = Path(resnet_jax.__file__).parent / "page" / "template" / "resize.js"
CASES = {  # width, height, shorter side when resized, side of the square; and the largest difference
    "wide": (211, 140, 80, 64, 0),
    "high": (97, 120, 36, 32, 0),
    "enlarged": (30, 20, 64, 51, 0),
    "as large": (33, 32, 32, 32, 0),
    "smaller than the square": (50, 40, 20, 28, 0),
    "a line": (1500, 20, 36, 32, 1),
    "a column": (20, 211, 9, 8, 0 if PIL.__version__ >= "13" else 5),
    "a column that is hardly resized": (44, 110, 40, 32, 0 if PIL.__version__ >= "13" else 5),
}
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with started_chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def crop(chromium, pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    found = chromium.execute_script(
        f"{SCRIPT.read_text()}; const [data, width, height, preprocessing] = arguments;"
        "return [...cropOf({ data, width, height }, preprocessing)];",
        *(pixels.ravel().tolist(), pixels.shape[1], pixels.shape[0], asdict(preprocessing)),
    )
    return np.reshape(found, (preprocessing.image_size, preprocessing.image_size, 3))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_the_crop_has_the_pixels_of_pillow(chromium, interpolation, case):
    width, height, resize, size, tolerance = CASES[case]
    preprocessing = Preprocessing(image_size=size, resize=resize, interpolation=interpolation)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)
    expected = preprocessing.decode(Image.fromarray(pixels[..., :3]))
    np.testing.assert_allclose(crop(chromium, pixels, preprocessing), expected, rtol=0, atol=tolerance)
