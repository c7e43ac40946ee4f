"""The folder of a page on which a network runs in the browser; tests/page/test_browser.py opens it."""

import json

import numpy as np
import pytest
from flax import nnx

from resnet_jax.classifier.classifier import Classifier
from resnet_jax.classifier.predictor import Predictor
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.exporting.served import Served
from resnet_jax.exporting.web import RUNTIME, export_web
from resnet_jax.models.network import Network
from resnet_jax.models.resnet import ResNet18
from resnet_jax.page.examples import Examples

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SIZE = 32
NETWORK = Network("resnet18", num_classes=3, stem="cifar", width=8)


class Picking(ResNet18):
    """A network that takes some of the columns of its last maps, whose gradient has no form in ONNX here."""

    def pool(self, maps, *, train, rngs):
        return super().pool(maps[:, :, np.array([0, 2])], train=train, rngs=rngs)


def written(kind, folder):
    """Write a page with a network; return its classifier, what is reported, and a session of its ONNX file."""
    model = nnx.jit(lambda: kind(3, stem="cifar", width=8))()
    classifier = Classifier(model, NETWORK, ("Ångström", "cat", "dog"), Preprocessing(image_size=SIZE, resize=36), {})
    runtime = [folder / name for name in RUNTIME]
    for file in runtime:
        file.write_text(file.name)
    out = folder / "page"
    out.mkdir()
    served = Served(classifier, batch_size=1, layout="NHWC", with_preprocessing=True)
    verdict = export_web(served, out, name="pets", runtime=runtime, examples=Examples({"a b.png": b"png"}))
    return classifier, verdict, onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return the folder that has the page, and what `written` returns."""
    folder = tmp_path_factory.mktemp("web")
    return folder / "page", *written(ResNet18, folder)


def test_the_folder_has_all_that_the_page_needs(page):
    folder = page[0]
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"index.html", "model.json", "model.onnx", "examples/a b.png", *RUNTIME}
    assert all((folder / name).read_text() == name for name in RUNTIME)


def test_the_page_names_no_other_address_and_may_ask_none(page):
    text = (page[0] / "index.html").read_text()
    assert "http:" not in text and "https:" not in text and 'src="examples/a%20b.png"' in text
    assert "default-src &#39;none&#39;" in text and "<option>pets</option>" in text


def test_the_description_has_class_names_and_preprocessing(page):
    description = json.loads((page[0] / "model.json").read_text())
    assert description["class_names"] == ["Ångström", "cat", "dog"]
    assert description["images"] == {"shape": [1, SIZE, SIZE, 3], "dtype": "uint8", "layout": "NHWC"}
    assert description["preprocessing"]["resize"] == 36


def test_logits_and_heat_maps_are_those_of_predict(page):
    _, classifier, _, session = page
    images = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    expected = Predictor(classifier, batch_size=1, explain=True)(images)
    logits, heat = session.run(["logits", "heat"], {"images": images})
    np.testing.assert_allclose(logits, expected.logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(heat, expected.heat, rtol=1e-3, atol=1e-4 * expected.heat.max())


def test_a_network_whose_gradient_has_no_form_in_onnx_is_written_without_heat_maps(tmp_path):
    _, verdict, session = written(Picking, tmp_path)
    assert "without Grad-CAM" in verdict and [output.name for output in session.get_outputs()] == ["logits"]
