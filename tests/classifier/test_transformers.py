"""Folders of Hugging Face's transformers, recorded by `golden/record_transformers.py`."""

import io
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from resnet_jax.classifier.classifier import Classifier, load_classifier
from resnet_jax.errors import UserError

FOLDERS = Path(__file__).parents[1] / "golden" / "transformers"


@pytest.fixture(scope="module", params=["basic", "bottleneck"])
def loaded(request) -> tuple[Classifier, dict[str, np.ndarray]]:
    """Return the classifier of a folder, and an image, its pixels and its logits in transformers."""
    folder = FOLDERS / request.param
    return load_classifier(folder), dict(np.load(folder / "recorded.npz"))


def test_the_logits_are_those_of_transformers(loaded):
    classifier, recorded = loaded
    got = np.asarray(classifier.model(jnp.asarray(recorded["pixels"].transpose(0, 2, 3, 1))))
    assert np.abs(got - recorded["logits"]).max() < 1e-4 * np.abs(recorded["logits"]).max()


def test_the_pixels_are_those_of_transformers(loaded):
    classifier, recorded = loaded
    file = io.BytesIO()
    Image.fromarray(recorded["image"]).save(file, "PNG")
    got = classifier.preprocessing.normalize(classifier.preprocessing.decode(file.getvalue())[None])
    scale = 255 * np.array(classifier.preprocessing.std)
    levels = np.abs(np.asarray(got) - recorded["pixels"].transpose(0, 2, 3, 1)) * scale
    assert levels.max() < 2.1 and levels.mean() < 0.02  # torch's resizing rounds otherwise than Pillow's


def test_the_classes_have_their_names(loaded):
    assert loaded[0].class_names == ("tench", "goldfish", "great white shark") and loaded[0].named


@pytest.mark.parametrize(
    ("file", "change", "fact"),
    [
        ("config.json", {"downsample_in_bottleneck": True}, "downsample_in_bottleneck"),
        ("config.json", {"model_type": "vit"}, "vit"),
        ("config.json", {"hidden_act": "gelu"}, "hidden_act"),
        ("preprocessor_config.json", {"do_normalize": False}, "do_normalize"),
        ("preprocessor_config.json", {"size": {"height": 224, "width": 224}}, "shortest_edge"),
        ("preprocessor_config.json", None, "preprocessor_config.json"),
    ],
)
def test_what_this_package_can_not_compute_is_refused_by_name(tmp_path, file, change, fact):
    folder = shutil.copytree(FOLDERS / "basic", tmp_path / "copy")
    if change is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | change))
    with pytest.raises(UserError, match=fact):
        load_classifier(folder)
