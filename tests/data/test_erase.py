"""Random erasing against its definition, and against torchvision's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.data.erase import AREA, random_erase

COUNT, HEIGHT, WIDTH = 2000, 24, 32


def erased(probability: float = 1.0, count: int = COUNT) -> np.ndarray:
    """Return where each of many images is erased."""
    images = jnp.ones((count, HEIGHT, WIDTH, 1))
    return (
        np.asarray(
            jax.jit(random_erase, static_argnames="probability")(jax.random.key(0), images, probability=probability)
        )[..., 0]
        == 0
    )


def test_one_rectangle_is_erased():
    mask = erased()
    heights, widths = mask.any(2).sum(1), mask.any(1).sum(1)
    assert (mask.sum((1, 2)) == heights * widths).all()


def test_its_area_is_in_the_range_up_to_rounding():
    areas = erased().mean((1, 2))
    assert areas.min() > AREA[0] / 2 and areas.max() < AREA[1] + 0.03
    assert areas.mean() == pytest.approx(np.mean(AREA), abs=0.01)


def test_the_share_of_erased_images_is_the_probability():
    assert erased(0.2).any((1, 2)).mean() == pytest.approx(0.2, abs=0.03)


def test_the_other_pixels_and_channels_stay_together():
    images = jax.random.normal(jax.random.key(1), (8, HEIGHT, WIDTH, 3)) + 10
    after = random_erase(jax.random.key(2), images, probability=1.0)
    assert (((after == 0).all(-1)) | (after == images).all(-1)).all()


@pytest.mark.parity
def test_the_rectangles_have_torchvisions_moments():
    import torch
    from torchvision.transforms import RandomErasing

    torch.manual_seed(0)
    image = torch.ones(1, HEIGHT, WIDTH)
    expected = np.array([RandomErasing.get_params(image, AREA, (0.3, 3.3), [0.0])[:4] for _ in range(4000)])
    mask = erased(count=4000)
    rows, columns = mask.any(2), mask.any(1)
    got = np.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], 1)
    error = np.sqrt(expected.var(0) / 4000 + got.var(0) / 4000)
    assert (abs(got.mean(0) - expected.mean(0)) < 4 * error).all()
    np.testing.assert_allclose(got.std(0), expected.std(0), rtol=0.06)
    np.testing.assert_allclose(mask.mean(0), coverage(expected), atol=0.05)


def coverage(rectangles: np.ndarray) -> np.ndarray:
    """Return how often each pixel is inside."""
    covered = np.zeros((HEIGHT, WIDTH))
    for top, left, height, width in rectangles.astype(int):
        covered[top : top + height, left : left + width] += 1
    return covered / len(rectangles)
