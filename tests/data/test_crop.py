"""Random-resized crops: their distribution, and their pixels beside those of the whole image."""

import io
import math

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from resnet_jax.data.reading import resizing
from resnet_jax.data.reading.crop import RATIO, Box, draw_box, random_resized_crop, resize_box

PHOTO = Image.fromarray(load_sample_image("flower.jpg"))  # 640 x 427
DRAWS = 20_000


def jpeg(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=95, **options)
    return file.getvalue()


def crop_of(encoded: bytes, box: Box, size: int) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as image:
        return resize_box(image, box, size).astype(int)


def reference(encoded: bytes, box: Box, size: int) -> np.ndarray:
    """Decode, crop and resize as torchvision does with an image of Pillow."""
    whole = Image.open(io.BytesIO(encoded))
    part = whole.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR)).astype(int)


def test_area_ratio_and_place_have_the_moments_of_their_distributions():
    """On an image large enough that every draw fits: area and log ratio are uniform."""
    rng, low, high = np.random.default_rng(0), 0.08, 0.3
    boxes = np.array([draw_box(rng, 3000, 3000, (low, high)) for _ in range(DRAWS)])
    left, top, width, height = boxes.T
    area, log_ratio, bound = width * height / 3000**2, np.log(width / height), math.log(RATIO[1])
    assert area.mean() == pytest.approx((low + high) / 2, abs=4 * area.std() / DRAWS**0.5)
    assert area.var() == pytest.approx((high - low) ** 2 / 12, rel=0.03)
    assert log_ratio.mean() == pytest.approx(0, abs=4 * log_ratio.std() / DRAWS**0.5)
    assert log_ratio.var() == pytest.approx((2 * bound) ** 2 / 12, rel=0.03)
    for place in (left / (3000 - width), top / (3000 - height)):
        assert place.mean() == pytest.approx(0.5, abs=4 * place.std() / DRAWS**0.5)
        assert place.var() == pytest.approx(1 / 12, rel=0.03)


@pytest.mark.parametrize(("width", "height"), [(500, 375), (40, 500), (3, 1)])
def test_a_box_lies_in_the_image(width, height):
    rng = np.random.default_rng(1)
    for _ in range(500):
        left, top, across, down = draw_box(rng, width, height, (0.08, 1.0))
        assert 0 <= left <= left + across <= width and 0 <= top <= top + down <= height and across * down > 0


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(90, 10, (38, 0, 13, 10)), (10, 90, (0, 38, 10, 13)), (12, 10, (0, 0, 12, 10))]
)
def test_where_no_draw_fits_it_is_the_largest_allowed_part_in_the_center(width, height, expected):
    assert draw_box(np.random.default_rng(0), width, height, (9.0, 9.0)) == expected


@pytest.mark.parametrize("box", [Box(30, 20, 400, 330), Box(0, 0, 640, 427), Box(500, 300, 120, 100)])
def test_a_crop_of_a_photograph_is_the_crop_of_the_decoded_image(box):
    """Pixels at the edge may differ, because they are blended with those outside the box."""
    encoded = jpeg(PHOTO)
    difference = np.abs(crop_of(encoded, box, 224) - reference(encoded, box, 224))
    assert difference[2:-2, 2:-2].max() <= 1 and difference.mean() < 0.2


def test_the_fast_resizing_gives_the_pixels_of_pillows(monkeypatch):
    pytest.importorskip("cykooz_resizer")
    rng = np.random.default_rng(2)
    boxes = [draw_box(rng, *PHOTO.size, (0.08, 1.0)) for _ in range(50)]
    parts = [(b.left + 0.3, b.top + 0.0, b.left + b.width - 0.2, b.top + b.height - 0.6) for b in boxes]
    fast = [resizing.resize_part(PHOTO, part, 224).astype(int) for part in parts]
    monkeypatch.setattr(resizing, "_vectorized", lambda: None)
    for ours, part in zip(fast, parts, strict=True):
        assert np.abs(ours - resizing.resize_part(PHOTO, part, 224)).max() <= 1


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_crop_of_a_large_photograph_is_close_to_that_of_the_decoded_image(factor):
    """It is decoded at 1/2, 1/4 and 1/8 of its size."""
    encoded = jpeg(PHOTO.resize((2560, 1708), Image.Resampling.BICUBIC))
    box = Box(200, 100, 1600, 1400)
    difference = np.abs(crop_of(encoded, box, 1400 // factor) - reference(encoded, box, 1400 // factor))
    assert difference.mean() < 1.0


def test_a_large_photograph_is_decoded_at_the_smallest_size_that_the_crop_needs():
    with Image.open(io.BytesIO(jpeg(PHOTO.resize((2560, 1708))))) as image:
        resize_box(image, Box(0, 0, 1000, 1000), 224)
        assert image.size == (640, 427)


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 180), (6, 270), (8, 90)])
def test_a_turned_photograph_gives_the_crop_of_the_upright_one(orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = PHOTO.crop((0, 0, 640, 424))  # whole blocks of 8 pixels, which are the same from both ends
    crops = [
        random_resized_crop(encoded, 64, (0.3, 0.5), np.random.default_rng(0)).astype(int)
        for encoded in (jpeg(photo, exif=exif, subsampling=0), jpeg(photo.rotate(turn, expand=True), subsampling=0))
    ]
    assert np.abs(crops[0] - crops[1]).mean() < 2


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_an_image_of_another_mode_becomes_rgb(mode):
    file = io.BytesIO()
    PHOTO.convert(mode).save(file, "tiff")
    assert random_resized_crop(file.getvalue(), 32, (0.5, 1.0), np.random.default_rng(0)).shape == (32, 32, 3)


def test_a_truncated_photograph_is_refused():
    with pytest.raises(OSError):
        random_resized_crop(jpeg(PHOTO)[:20_000], 32, (0.5, 1.0), np.random.default_rng(0))


@pytest.mark.parity
def test_pixels_and_distribution_are_those_of_torchvision():
    import torch
    from torchvision.transforms import InterpolationMode, RandomResizedCrop
    from torchvision.transforms.functional import resized_crop

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    theirs = np.array([RandomResizedCrop.get_params(PHOTO, (0.08, 1.0), RATIO) for _ in range(DRAWS)])
    ours = np.array([draw_box(rng, *PHOTO.size, (0.08, 1.0)) for _ in range(DRAWS)])[:, [1, 0, 3, 2]]
    error = np.sqrt((theirs.var(0) + ours.var(0)) / DRAWS)
    assert (np.abs(theirs.mean(0) - ours.mean(0)) < 4 * error).all()
    assert ours.std(0) == pytest.approx(theirs.std(0), rel=0.03)
    encoded = jpeg(PHOTO)
    for top, left, height, width in theirs[:50]:
        whole = Image.open(io.BytesIO(encoded))
        part = resized_crop(whole, top, left, height, width, [224, 224], InterpolationMode.BILINEAR)
        crop = crop_of(encoded, Box(int(left), int(top), int(width), int(height)), 224)
        assert np.abs(crop - np.asarray(part))[2:-2, 2:-2].max() <= 1
