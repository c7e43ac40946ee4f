"""Preprocessing against torchvision's for the same weights: `pytest -m parity`, with the parity extra."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from resnet_jax.classifier.preprocessing import Preprocessing, TimmSettings, from_timm

pytestmark = pytest.mark.parity

torchvision = pytest.importorskip("torchvision")

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bilinear"}
TAGS = {  # torchvision's weights, and the entries of the configuration that timm publishes with them
    "IMAGENET1K_V1": {"input_size": [3, 224, 224], "crop_pct": 0.875},  # timm/resnet50.tv_in1k
    "IMAGENET1K_V2": {  # timm/resnet50.tv2_in1k
        "input_size": [3, 176, 176],
        "crop_pct": 0.875,
        "test_input_size": [3, 224, 224],
        "test_crop_pct": 0.965,
    },
}
SIZES = [(500, 375), (375, 500), (224, 224), (231, 257), (1201, 803), (61, 97), (640, 201)]
THIN = (9000, 30)  # resized whole, it would have 20 million pixels, for a square of 50,000


def photograph(path: Path, width: int, height: int) -> Path:
    """Save a JPEG of smooth waves of every color, with an edge."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = [np.sin(9 * x + 5 * y), np.cos(14 * x * y + 2), np.sin(7 * (x - 0.4) ** 2 - 11 * y)]
    pixels = 127 + 100 * np.stack(waves, -1) + 25 * (x > 0.55)[..., None]
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=92)
    return path


def both(path: Path, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the network's input in channels of 0 to 255, from this package and from torchvision."""
    preprocessing: Preprocessing = from_timm(msgspec.convert(IMAGENET | TAGS[tag], TimmSettings))
    ours = np.asarray(preprocessing.normalize(preprocessing.decode(path)[None])[0])
    with Image.open(path) as image:
        theirs = torchvision.models.ResNet50_Weights[tag].transforms()(image.convert("RGB"))
    std = 255 * np.array(IMAGENET["std"])
    return ours * std, theirs.numpy().transpose(1, 2, 0) * std


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_photograph_becomes_the_pixels_that_torchvision_makes_of_it(tmp_path, tag, width, height):
    ours, theirs = both(photograph(tmp_path / "photo.jpg", width, height), tag)
    assert ours.shape == (224, 224, 3)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)  # rounding of float32: the pixels are the same


@pytest.mark.parametrize("tag", TAGS)
def test_a_thin_photograph_becomes_torchvisions_pixels_up_to_rounding(tmp_path, tag):
    ours, theirs = both(photograph(tmp_path / "photo.jpg", *THIN), tag)
    assert np.abs(ours - theirs).max() <= 1 + 1e-3
