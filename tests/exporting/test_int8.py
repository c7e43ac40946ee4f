"""ONNX files with int8 weights and activations classify as the network does, or are refused."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from golden.draw import draw_weights
from PIL import Image

from resnet_jax import save_pretrained
from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.classifier.pretrained import load_torchvision
from resnet_jax.commands.export import export
from resnet_jax.errors import UsageError, UserError
from resnet_jax.models.network import Network
from resnet_jax.weights.torchvision import torchvision_shapes

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
SIDE = 16


def patterns(count: int) -> np.ndarray:
    """Draw images of three kinds, each of one color with noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (count, SIDE, SIDE, 3))
    for kind in range(3):
        images[kind::3, :, :, kind] += 180
    return images.astype(np.uint8)


def write(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """Return the folder of a network whose classifier is fitted to the three kinds by least squares."""
    folder = tmp_path_factory.mktemp("network") / "small"
    model = Network("resnet18", num_classes=3, stem="cifar", width=8).abstract()
    load_torchvision(model, draw_weights(torchvision_shapes(model)))
    preprocessing = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), image_size=SIDE, resize=SIDE)
    features = jax.jit(lambda images: model.features(images).pooled)(preprocessing.normalize(patterns(30)))
    columns = np.hstack([features, np.ones((30, 1))])
    weights = np.linalg.lstsq(columns, 4 * np.tile(np.eye(3), (10, 1)), rcond=1e-3)[0].astype(np.float32)
    model.fc.kernel[...], model.fc.bias[...] = weights[:-1], weights[-1]
    save_pretrained(model, folder, class_names=("red", "green", "blue"), preprocessing=preprocessing)
    return folder


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    images = write(folder / "images", patterns(60))
    (images / "damaged.png").write_bytes(b"damaged")
    export(str(network), format="onnx", out=folder / "int8.onnx", with_preprocessing=True, int8=images)
    return folder


def classes(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0].argmax(1)


def test_new_images_get_the_classes_that_the_network_gives_them(exported, network):
    images, model = patterns(90)[60:], load_classifier(network)
    expected = model.model(model.preprocessing.normalize(images)).argmax(1)
    assert len(set(expected.tolist())) == 3
    np.testing.assert_array_equal(classes(exported / "int8.onnx", images), expected)


def test_the_weights_are_int8_with_a_scale_for_each_channel(exported):
    graph = onnx.load(exported / "int8.onnx").graph
    kernels = [
        array
        for array in graph.initializer
        if array.name.endswith("weight_changed_quantized") or array.name == "fc.weight_quantized"
    ]
    scales = {array.name: list(array.dims) for array in graph.initializer if array.name.endswith("_scale")}
    assert len(kernels) == 21
    for kernel in kernels:
        name = kernel.name.removesuffix("_quantized")
        assert scales[f"{name}_scale"] == [kernel.dims[0]], name


def test_the_file_says_that_it_is_quantized(exported):
    properties = {each.key: json.loads(each.value) for each in onnx.load(exported / "int8.onnx").metadata_props}
    assert properties["quantization"] == "int8, calibrated with 30 images"
    assert properties["class_names"] == ["red", "green", "blue"]


def test_an_export_that_classifies_differently_is_refused_and_nothing_is_written(network, tmp_path):
    images = patterns(40)
    images[::2] = 128 + images[::2] // 64  # those that calibrate are nearly gray
    with pytest.raises(UserError, match=r"int8 can't be trusted here.*of 20 images"):
        export(str(network), format="onnx", out=tmp_path / "x.onnx", int8=write(tmp_path / "images", images))
    assert not (tmp_path / "x.onnx").exists()


def test_a_folder_with_one_readable_image_is_refused(network, tmp_path, capsys):
    images = write(tmp_path / "images", patterns(1))
    (images / "damaged.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match="got 1 image"):
        export(str(network), format="onnx", out=tmp_path / "x.onnx", int8=images)
    assert "skipped" in capsys.readouterr().err


def test_another_format_is_refused(network, tmp_path):
    with pytest.raises(UsageError, match=r"--int8.*stablehlo.*onnx"):
        export(str(network), format="stablehlo", out=tmp_path / "x", int8=write(tmp_path / "images", patterns(2)))
