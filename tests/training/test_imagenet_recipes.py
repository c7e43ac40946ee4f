"""ImageNet's recipes on a few small pictures and a narrow network: everything that they name works together."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from resnet_jax.commands.evaluate import EvalData, evaluate
from resnet_jax.config import Config, DataConfig
from resnet_jax.hardware.sharding import make_mesh
from resnet_jax.recipe import load_config
from resnet_jax.training import loop

CLASSES, COUNT, SIZE = ("blue", "green", "red"), 20, 32


def small(name: str, folder: Path, **train) -> Config:
    """Return a recipe with three classes of pictures, `SIZE` pixels and two epochs."""
    recipe = load_config(Path(f"configs/{name}.py"))
    streamed = recipe.augment.crop_scale is not None
    return replace(
        recipe,
        model=replace(recipe.model, width=4),
        data=DataConfig(source="folder", dir=folder / "pictures", image_size=SIZE, resize=36 if streamed else None),
        augment=replace(recipe.augment, small_size=24 if recipe.augment.small_size else None),
        train=replace(recipe.train, epochs=2, batch_size=8, **train),
        evaluate=replace(recipe.evaluate, every_epochs=2, batch_size=8),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function that trains a small recipe, and the folder of its runs, with the standard one's."""
    folder, rng = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for channel, name in enumerate(reversed(CLASSES)):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(COUNT):
            picture = rng.integers(0, 120, (48, 60, 3), np.uint8)
            picture[..., channel] += 130
            Image.fromarray(picture).save(folder / "pictures" / name / f"{number}.jpg")

    def train(name: str, **options) -> dict:
        return loop.complete(small(name, folder, **options), folder / name, Console(quiet=True))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(loop, "make_mesh", lambda size: make_mesh(size, jax.devices()[:1]))
        train("imagenet")
        yield train, folder


@pytest.mark.slow  # compiles several steps
@pytest.mark.parametrize("name", ["imagenet_fast", "imagenet_a1", "imagenet_best", "imagenet64"])
def test_a_recipe_trains(trained, name):
    train, folder = trained
    teacher = {"teacher": str(folder / "imagenet")} if name == "imagenet_best" else {}
    summary = train(name, **teacher)
    assert summary["steps"] == 2 * (len(CLASSES) * COUNT * 4 // 5 // 8)
    assert np.isfinite(summary["test_loss"])


@pytest.mark.slow  # compiles a step and two evaluations
def test_a_run_is_evaluated_at_another_size(trained, capsys):
    _, folder = trained
    losses = []
    for size in (None, SIZE, 40):
        evaluate(str(folder / "imagenet"), data=EvalData(image_size=size), json=True)
        losses.append(json.loads(capsys.readouterr().out)["loss"])
    assert losses[0] == losses[1] != losses[2]
