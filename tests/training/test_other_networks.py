"""Training, prediction and explanation with networks beside the ResNets: one for each of their peculiarities."""

import jax
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from resnet_jax import load_classifier
from resnet_jax.classifier.files import classify
from resnet_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from resnet_jax.errors import UsageError
from resnet_jax.hardware.sharding import make_mesh
from resnet_jax.models import convnext
from resnet_jax.training import loop


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Return a folder with two classes, red and blue images of noise."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 4)):
        for channel, name in ((0, "red"), (2, "blue")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (32, 32, 3), np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def config(photos, arch: str, size: int = 32) -> Config:
    return Config(
        model=ModelConfig(arch),
        data=DataConfig(source="folder", dir=photos, image_size=size),
        optimizer=OptimizerConfig(peak_learning_rate=0.002),
        train=TrainConfig(epochs=2, batch_size=16),
    )


@pytest.mark.slow  # compiles three programs for each network
@pytest.mark.parametrize("arch", ["squeezenet1_1", "convnext_tiny"])
def test_a_network_is_trained_read_back_and_explained(photos, tmp_path, monkeypatch, arch):
    # A block in each stage: all of ConvNeXt takes minutes to compile.
    monkeypatch.setattr(convnext, "STAGES", tuple((channels, 1) for channels, _ in convnext.STAGES))
    monkeypatch.setattr(loop, "make_mesh", lambda batch_size: make_mesh(batch_size, jax.devices()[:1]))
    summary = loop.train(config(photos, arch), tmp_path / "run", console=Console(quiet=True))
    classifier = load_classifier(tmp_path / "run")
    paths = sorted((photos / "test").rglob("*.png"))
    overlays = {str(path): tmp_path / f"{path.parent.name}-{path.name}" for path in paths}
    named = [(str(path), path) for path in paths]
    batches = classify(classifier, named, batch_size=8, top_k=1, overlays=overlays)
    results = [result for batch in batches for result in batch]
    right = [result.guesses[0].name in result.path for result in results]
    assert np.mean(right) == pytest.approx(summary["test_accuracy"])
    assert all(path.is_file() for path in overlays.values())


def test_images_that_are_too_small_for_a_network_are_refused_with_their_size(photos, tmp_path):
    with pytest.raises(UsageError, match=r"--data.image-size: AlexNet got images of 8x8 pixels; expected larger ones"):
        loop.train(config(photos, "alexnet", 8), tmp_path / "run", console=Console(quiet=True))


def test_an_option_that_a_network_lacks_is_named(photos, tmp_path):
    wide = Config(ModelConfig("mobilenet_v2", width=32, recompute=True), data=config(photos, "alexnet").data)
    with pytest.raises(UsageError, match="mobilenet_v2 has no recompute, width: leave it out"):
        loop.train(wide, tmp_path / "run", console=Console(quiet=True))
