"""RandAugment: its operations against NumPy, Pillow and torchvision, and the frequency of each."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from resnet_jax.data.rand_augment import NAMES, SIGNED, apply, rand_augment, strength
from resnet_jax.hardware.sharding import make_mesh, replicated, sharded

COUNT, HEIGHT, WIDTH = 8, 33, 40
MAGNITUDES = (3, 9, 17, 30)  # with others, a shear puts pixels exactly between two
MOVING = ("ShearX", "ShearY", "Rotate")
"""Operations in which the rounding of a coordinate may choose a pixel's neighbor."""
applied = jax.jit(apply)
drawn = jax.jit(rand_augment, static_argnames="magnitude")


def smooth_images() -> np.ndarray:
    """Return images like photographs: smooth, one of low contrast, one of a single color."""
    small = jax.random.uniform(jax.random.key(0), (COUNT, 5, 6, 3), maxval=255)
    images = np.array(jnp.clip(jax.image.resize(small, (COUNT, HEIGHT, WIDTH, 3), "cubic"), 10, 240)).astype(np.uint8)
    images[1] = images[1] // 4 + 50
    images[2] = 77
    return images


IMAGES = smooth_images()


def changed(name: str, amount: float) -> np.ndarray:
    operations, strengths = jnp.full(COUNT, NAMES.index(name)), jnp.full(COUNT, amount, jnp.float32)
    return np.asarray(applied(IMAGES, operations, strengths))


def by_pillow(function) -> np.ndarray:
    return np.stack([np.asarray(function(Image.fromarray(image))) for image in IMAGES])


def test_identity_changes_nothing():
    np.testing.assert_array_equal(changed("Identity", 0.0), IMAGES)


def test_translation_moves_whole_pixels_and_leaves_black():
    expected = np.zeros_like(IMAGES)
    expected[:, :, 7:] = IMAGES[:, :, :-7]
    np.testing.assert_array_equal(changed("TranslateX", 7.9), expected)
    expected = np.zeros_like(IMAGES)
    expected[:, :-3] = IMAGES[:, 3:]
    np.testing.assert_array_equal(changed("TranslateY", -3.9), expected)


def test_equalize_is_pillows():
    np.testing.assert_array_equal(changed("Equalize", 0.0), by_pillow(ImageOps.equalize))


def test_auto_contrast_is_pillows_up_to_rounding():
    difference = changed("AutoContrast", 0.0).astype(int) - by_pillow(ImageOps.autocontrast)
    assert abs(difference).max() <= 1


def test_posterize_and_solarize_are_pillows():
    np.testing.assert_array_equal(changed("Posterize", 5.0), by_pillow(lambda it: ImageOps.posterize(it, 5)))
    np.testing.assert_array_equal(changed("Solarize", 100.0), by_pillow(lambda it: ImageOps.solarize(it, 100)))


@pytest.mark.parametrize("amount", [0.27, -0.27, 0.9])
@pytest.mark.parametrize("name", ["Brightness", "Sharpness"])
def test_brightness_and_sharpness_are_pillows_up_to_rare_rounding(name, amount):
    expected = by_pillow(lambda it: getattr(ImageEnhance, name)(it).enhance(1 + amount))
    difference = abs(changed(name, amount).astype(int) - expected)
    assert difference.max() <= 1 and difference.mean() < 0.01


@pytest.mark.parametrize("name", ["Color", "Contrast"])
def test_color_and_contrast_are_pillows_up_to_the_rounding_of_gray(name):
    expected = by_pillow(lambda it: getattr(ImageEnhance, name)(it).enhance(1.9))
    assert abs(changed(name, 0.9).astype(int) - expected).max() <= 2


def test_each_image_gets_its_own_operation():
    operations = jnp.arange(COUNT)
    strengths = jnp.linspace(0.1, 0.3, COUNT)
    together = applied(IMAGES, operations, strengths)
    for number in range(COUNT):
        alone = changed(NAMES[number], float(strengths[number]))[number]
        np.testing.assert_array_equal(together[number], alone)


def test_the_expected_share_of_images_is_left_as_it_is():
    """Black images are changed by none of the operations but "Solarize" at its threshold of 0, at magnitude 30."""
    images = np.zeros((4000, 4, 4, 3), np.uint8)
    share = (np.asarray(drawn(jax.random.key(1), images, magnitude=30)) == 0).all((1, 2, 3)).mean()
    once = 2 * 13 / 14**2
    assert share == pytest.approx(1 - once, abs=0.03)  # two times is back to black


@pytest.mark.parity
def test_the_strengths_are_torchvisions():
    from torchvision.transforms import RandAugment

    space = RandAugment()._augmentation_space(31, (HEIGHT, WIDTH))
    assert tuple(space) == NAMES and tuple(name for name in NAMES if space[name][1]) == SIGNED
    for name, (levels, _) in space.items():
        expected = levels.tolist() if levels.ndim else [0.0] * 31
        got = [strength(name, magnitude, HEIGHT, WIDTH) for magnitude in range(31)]
        np.testing.assert_allclose(got, expected, atol=1e-4, err_msg=name)


@pytest.mark.parity
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_equals_torchvisions_for_the_same_strength(name):
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.autoaugment import _apply_op

    for magnitude in MAGNITUDES:
        for sign in (1, -1) if name in SIGNED else (1,):
            amount = sign * strength(name, magnitude, HEIGHT, WIDTH)
            nearest = InterpolationMode.NEAREST
            tensors = (torch.tensor(image).permute(2, 0, 1) for image in IMAGES)
            expected = [_apply_op(it, name, amount, nearest, None).permute(1, 2, 0).numpy() for it in tensors]
            difference = abs(changed(name, amount).astype(int) - np.stack(expected))
            if name in MOVING:
                assert (difference > 0).mean() < 0.002
            else:
                assert difference.max() <= 1


@pytest.mark.parity
def test_many_draws_have_torchvisions_moments():
    import torch
    from torchvision.transforms import RandAugment

    torch.manual_seed(0)
    image, draws = IMAGES[0, :16, :16], 3000
    tensor, theirs = torch.tensor(image).permute(2, 0, 1), RandAugment(2, 9)
    expected = np.stack([theirs(tensor).permute(1, 2, 0).numpy() for _ in range(draws)]).astype(np.float64)
    got = np.asarray(drawn(jax.random.key(2), np.stack([image] * draws), magnitude=9)).astype(np.float64)
    error = np.sqrt((expected.var(0) + got.var(0)) / draws)
    assert (abs(got.mean(0) - expected.mean(0)) < 5 * error + 0.5).all()
    assert got.std(0).mean() == pytest.approx(expected.std(0).mean(), rel=0.05)


def test_devices_change_their_own_images_without_exchange():
    mesh = make_mesh(16)
    images = jax.ShapeDtypeStruct((16, 8, 8, 3), "uint8", sharding=sharded(mesh))
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=replicated(mesh))
    program = drawn.lower(key, images, magnitude=9).compile().as_text()
    assert jax.device_count() == 8 and not re.search("all-reduce|all-gather|all-to-all|collective-permute", program)
