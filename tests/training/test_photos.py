"""The recipe for one's own photographs on crops of two photographs, which scikit-learn has inside."""

import io
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_sample_images

from resnet_jax.hardware.sharding import make_mesh
from resnet_jax.recipe import load_config
from resnet_jax.training import loop

COUNT = 40  # crops of each photograph


@pytest.fixture
def photographs(tmp_path):
    """Return a folder of two classes: a temple and a flower."""
    rng = np.random.default_rng(0)
    for name, photograph in zip(("temple", "flower"), load_sample_images().images, strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(COUNT):
            row, column = rng.integers(0, np.array(photograph.shape[:2]) - 150)
            crop = Image.fromarray(photograph[row : row + 150, column : column + 150])
            crop.resize((120, 90)).save(tmp_path / "photos" / name / f"{number}.jpg")
    return tmp_path / "photos"


@pytest.mark.slow  # a training run with two sizes of images
def test_the_recipe_for_photographs_learns(photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(loop, "make_mesh", lambda batch_size: make_mesh(batch_size, jax.devices()[:1]))
    recipe = load_config(Path("configs/photos.py"))
    config = replace(
        recipe,
        model=replace(recipe.model, width=8),
        data=replace(recipe.data, dir=photographs, image_size=64),
        augment=replace(recipe.augment, crop_padding=8, cutout=16, small_size=32),
        train=replace(recipe.train, epochs=16, batch_size=16),
    )
    console = Console(file=io.StringIO(), width=200)
    summary = loop.train(config, tmp_path / "run", console=console)
    assert summary["test_images"] == 2 * COUNT / 5 and summary["test_accuracy"] > 0.8
    assert all(f"{name} {COUNT * 4 // 5}" in console.file.getvalue() for name in ("temple", "flower"))
