"""Mixup and cutmix against their definitions, and against torchvision's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.data.mix import cutmix_shares, mix, mix_at_random, mixup_shares

BATCH, HEIGHT, WIDTH = 6, 12, 16
IMAGES = jax.random.normal(jax.random.key(1), (BATCH, HEIGHT, WIDTH, 3))
LABELS = jnp.eye(BATCH, 10)
DRAWS = 4000


def drawn_labels(**alphas) -> np.ndarray:
    """Return the share of the first image's own label in many draws."""
    draw = jax.jit(jax.vmap(lambda key: mix_at_random(key, IMAGES, LABELS, **alphas)[1][0, 0]))
    return np.asarray(draw(jax.random.split(jax.random.key(2), DRAWS)))


def test_mixup_is_the_same_weighted_mean_of_images_and_labels():
    images, labels = mix(IMAGES, LABELS, mixup_shares(jnp.float32(0.3), HEIGHT, WIDTH))
    before = np.roll(np.arange(BATCH), 1)
    np.testing.assert_allclose(images, 0.3 * IMAGES + 0.7 * IMAGES[before], atol=1e-6)
    np.testing.assert_allclose(labels, 0.3 * LABELS + 0.7 * LABELS[before], atol=1e-6)


def test_cutmix_pastes_a_rectangle_whose_area_is_the_other_labels_share():
    images, labels = mix(IMAGES, LABELS, cutmix_shares(jnp.float32(0.75), jnp.int32(5), jnp.int32(8), HEIGHT, WIDTH))
    expected = np.array(IMAGES)
    expected[:, 2:8, 4:12] = np.asarray(jnp.roll(IMAGES, 1, 0))[:, 2:8, 4:12]
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_allclose(labels, 0.75 * LABELS + 0.25 * jnp.roll(LABELS, 1, 0), atol=1e-6)


def test_a_rectangle_over_the_edge_is_cut_off_and_its_label_has_less():
    shares = cutmix_shares(jnp.float32(0.75), jnp.int32(0), jnp.int32(15), HEIGHT, WIDTH)
    expected = np.ones((HEIGHT, WIDTH))
    expected[:3, 11:] = 0
    np.testing.assert_array_equal(shares, expected)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_the_share_of_mixup_has_the_moments_of_its_beta_distribution(alpha):
    shares = drawn_labels(mixup=alpha, cutmix=None)
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


def test_with_both_each_draw_is_one_of_them():
    draw = jax.jit(jax.vmap(lambda key: mix_at_random(key, IMAGES, LABELS, mixup=1.0, cutmix=1.0)))
    images, labels = draw(jax.random.split(jax.random.key(3), 400))
    share = labels[:, 0, 0][:, None, None, None]
    mixup = jnp.isclose(images[:, 0], share * IMAGES[0] + (1 - share) * IMAGES[-1], atol=1e-5).all((1, 2, 3))
    cutmix = ((images[:, 0] == IMAGES[0]) | (images[:, 0] == IMAGES[-1])).all((1, 2, 3))
    assert (mixup | cutmix).all()
    assert 150 < int(mixup.sum()) < 250


def test_soft_labels_stay_probabilities():
    _, labels = mix_at_random(jax.random.key(4), IMAGES, LABELS, mixup=0.2, cutmix=1.0)
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_a_mixture_equals_torchvisions_for_the_same_parameters(name):
    import torch
    from torchvision.transforms import v2

    images, labels = torch.tensor(np.asarray(IMAGES)).permute(0, 3, 1, 2), torch.arange(BATCH)
    transform = getattr(v2, name)(alpha=1.0, num_classes=10)
    torch.manual_seed(0)
    for _ in range(8):
        parameters = transform.make_params([images])
        common = {"labels": labels, "batch_size": BATCH}
        expected = transform.transform(images, common | parameters), transform.transform(labels, common | parameters)
        if name == "MixUp":
            shares = mixup_shares(jnp.float32(parameters["lam"]), HEIGHT, WIDTH)
        else:
            left, top, right, bottom = parameters["box"]
            shares = jnp.ones((HEIGHT, WIDTH)).at[top:bottom, left:right].set(0)
        got = mix(IMAGES, LABELS, shares)
        np.testing.assert_allclose(got[0], expected[0].permute(0, 2, 3, 1).numpy(), atol=1e-6)
        np.testing.assert_allclose(got[1], expected[1].numpy(), atol=1e-5)


@pytest.mark.parity
def test_the_share_of_cutmix_has_torchvisions_moments():
    import torch
    from torchvision.transforms import v2

    torch.manual_seed(0)
    transform, image = v2.CutMix(alpha=1.0, num_classes=10), torch.zeros(2, 3, HEIGHT, WIDTH)
    expected = np.array([transform.make_params([image])["lam_adjusted"] for _ in range(DRAWS)])
    got = drawn_labels(mixup=None, cutmix=1.0)
    assert got.mean() == pytest.approx(expected.mean(), abs=0.02)
    assert got.std() == pytest.approx(expected.std(), abs=0.02)
