"""A network of 8-bit integers classifies as in float32, or is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_jax.classifier.calibration import compared, quantize
from resnet_jax.classifier.classifier import Classifier
from resnet_jax.classifier.files import classify
from resnet_jax.classifier.predictor import Predictor
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.errors import UserError
from resnet_jax.models.cpu.processor import has_int8, has_onednn
from resnet_jax.models.network import Network
from resnet_jax.weights.torchvision import assign, torchvision_shapes

pytestmark = pytest.mark.skipif(
    not has_onednn() or not has_int8(), reason="needs oneDNN in jaxlib and instructions for int8"
)


def drawn(arch: str, width: int) -> Classifier:
    network, rng = Network(arch, num_classes=5, stem="cifar", width=width), np.random.default_rng(0)
    model, tensors = network.abstract(), {}
    for key, shape in torchvision_shapes(model).items():
        scales = rng.uniform(0.5, 1.5, shape) if len(shape) == 1 else rng.normal(0, np.prod(shape[1:]) ** -0.5, shape)
        tensors[key] = scales.astype(np.float32)
    assign(model, tensors)
    return Classifier(model, network, tuple("abcde"), Preprocessing(image_size=32, resize=32), {})


@pytest.fixture(scope="module")
def classifier():
    return drawn("resnet18", 16)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(40):
        colors = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(colors).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return [(path.name, path) for path in sorted(folder.iterdir())]


def test_probabilities_are_nearly_those_of_float32(classifier, images):
    plan, verdict = quantize(classifier, images)
    pixels = np.stack([np.asarray(Image.open(path)) for _, path in images])
    exact = Predictor(classifier, batch_size=40)(pixels).probabilities
    got = Predictor(classifier, batch_size=40, precision=plan)(pixels).probabilities
    assert "calibrated with 20 images" in verdict
    np.testing.assert_allclose(got, exact, atol=0.05)
    assert not np.array_equal(got, exact)


def test_files_are_classified_with_a_plan(classifier, images):
    plan, _ = quantize(classifier, images)
    batches = list(classify(classifier, images[:3], batch_size=2, top_k=1, precision=plan))
    assert [result.error for batch in batches for result in batch] == [None] * 3


def test_a_network_that_is_hardly_computed_with_integers_is_refused(images):
    with pytest.raises(UserError, match=r"--int8: only \d+% .* of mobilenet_v2 .* leave out --int8"):
        quantize(drawn("mobilenet_v2", 64), images)


def test_too_few_readable_images_are_refused(classifier, images, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"--int8: got 1 images that can be read, expected 2 or more"):
        quantize(classifier, [images[0], ("broken", Path(tmp_path / "broken.png"))])


def test_other_classes_than_in_float32_are_refused(classifier, images):
    pixels = np.stack([np.asarray(Image.open(path)) for _, path in images])
    probabilities = Predictor(classifier, batch_size=16)(pixels[:16]).probabilities
    with pytest.raises(UserError, match=r"int8 can't be trusted here: .* 0\.0% of 16 images .* at least 90%"):
        compared(classifier, pixels[:16], np.roll(probabilities, 1, axis=1))
