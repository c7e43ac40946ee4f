"""Exported networks give the same logits in other runtimes; a failed export replaces no file."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
import tyro
from golden.draw import draw_weights

from resnet_jax import save_pretrained, to_torchvision
from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.classifier.pretrained import load_torchvision
from resnet_jax.commands.export import export
from resnet_jax.errors import UsageError, UserError
from resnet_jax.exporting.stablehlo import CLEAN_PROCESS
from resnet_jax.exporting.web import RUNTIME
from resnet_jax.models.network import Network
from resnet_jax.weights.torchvision import torchvision_shapes

CLASSES = ("Ångström", "cat", "dog")
SIZES = {"cifar": 32, "imagenet": 64}  # by stem: in both, the last maps are small enough for a matrix product


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with a network written by `save_pretrained` for each stem."""
    folder = tmp_path_factory.mktemp("networks")
    for stem, size in SIZES.items():
        preprocessing = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3), image_size=size, resize=size + 8)
        save_pretrained(drawn(stem), folder / stem, class_names=CLASSES, preprocessing=preprocessing)
    return folder


def drawn(stem, **changes):
    model = Network("resnet18", num_classes=len(CLASSES), stem=stem, width=8).abstract()
    load_torchvision(model, draw_weights(torchvision_shapes(model)) | changes)
    return model


@pytest.fixture(scope="module", params=["cifar", pytest.param("imagenet", marks=pytest.mark.slow)])
def stablehlo(folder, request) -> tuple[Path, Path]:
    """Return the folder of a network and the file it was exported to."""
    path = folder / f"{request.param}.stablehlo"
    export(str(folder / request.param), format="stablehlo", out=path)
    return folder / request.param, path


@pytest.fixture(scope="module")
def onnxruntime():
    pytest.importorskip("onnx")
    return pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module", params=SIZES)
def onnx(folder, request, onnxruntime):
    """Return the folder of a network and a session of its exported file, with images in NCHW."""
    path = folder / f"{request.param}.onnx"
    export(str(folder / request.param), format="onnx", out=path, layout="NCHW", with_preprocessing=True)
    return folder / request.param, onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def draw_images(size: int, count: int = 5) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8)


def logits(network: Path, images: np.ndarray) -> np.ndarray:
    """Return the logits of the network itself for uint8 images."""
    classifier = load_classifier(network)
    mean, std = (np.float32(each) for each in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
    return np.asarray(jax.jit(lambda it: classifier.model(it))((np.float32(images) / 255 - mean) / std))


def test_stablehlo_gives_the_networks_logits_for_any_number_of_images(stablehlo):
    network, path = stablehlo
    images = draw_images(SIZES[network.name])
    normalized = (np.float32(images) / 255 - np.float32((0.4, 0.5, 0.6))) / np.float32((0.2, 0.25, 0.3))
    got = jax.export.deserialize(bytearray(path.read_bytes())).call(normalized)
    np.testing.assert_allclose(got, logits(network, images), atol=1e-4)


def test_one_stablehlo_file_runs_on_cpu_cuda_and_tpu(stablehlo):
    assert jax.export.deserialize(bytearray(stablehlo[1].read_bytes())).platforms == ("cpu", "cuda", "tpu")


def test_the_description_beside_stablehlo_names_inputs_and_outputs(stablehlo):
    network, path = stablehlo
    size, description = SIZES[network.name], json.loads(path.with_name(f"{path.name}.json").read_text())
    assert description["images"] == {"shape": ["batch", size, size, 3], "dtype": "float32", "layout": "NHWC"}
    assert description["logits"] == {"shape": ["batch", 3], "dtype": "float32"}
    assert description["class_names"] == list(CLASSES)
    assert not description["preprocessing"]["normalizes"] and description["preprocessing"]["mean"] == [0.4, 0.5, 0.6]


def test_the_process_that_checks_stablehlo_has_no_access_to_the_package():
    preamble, _, _ = CLEAN_PROCESS.partition("import numpy")
    process = subprocess.run(
        [sys.executable, "-P", "-c", f"{preamble}\nimport resnet_jax"], capture_output=True, text=True
    )
    assert "ModuleNotFoundError: import of resnet_jax halted" in process.stderr


def test_a_fixed_batch_and_image_size_fix_the_input_shape(folder, tmp_path):
    path = tmp_path / "fixed.stablehlo"
    export(str(folder / "cifar"), format="stablehlo", out=path, batch_size=2, image_size=24, layout="NCHW")
    (images,) = jax.export.deserialize(bytearray(path.read_bytes())).in_avals
    assert images.shape == (2, 3, 24, 24)


def test_onnx_gives_the_networks_logits_for_any_number_of_uint8_images(onnx):
    network, session = onnx
    images = draw_images(SIZES[network.name])
    (got,) = session.run(["logits"], {"images": images.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(got, logits(network, images), atol=1e-4)


def test_onnx_names_its_input_and_output(onnx):
    (images,), (scores,), size = onnx[1].get_inputs(), onnx[1].get_outputs(), SIZES[onnx[0].name]
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 3, size, size])
    assert (scores.name, scores.type, scores.shape) == ("logits", "tensor(float)", ["batch", 3])


def test_onnx_metadata_has_class_names_and_preprocessing(onnx):
    metadata = {key: json.loads(it) for key, it in onnx[1].get_modelmeta().custom_metadata_map.items()}
    assert metadata["class_names"] == list(CLASSES)
    assert metadata["preprocessing"]["normalizes"] and metadata["preprocessing"]["std"] == [0.2, 0.25, 0.3]


def test_onnx_of_a_fixed_batch_takes_that_number_of_images(folder, tmp_path, onnxruntime):
    export(str(folder / "cifar"), format="onnx", out=tmp_path / "fixed.onnx", batch_size=2)
    session = onnxruntime.InferenceSession(tmp_path / "fixed.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [2, 32, 32, 3]


def test_safetensors_reads_back_bit_for_bit_with_names_and_preprocessing(folder, tmp_path):
    export(str(folder / "imagenet"), format="safetensors", out=tmp_path / "hub")
    read, original = load_classifier(tmp_path / "hub"), load_classifier(folder / "imagenet")
    assert (read.class_names, read.preprocessing) == (CLASSES, original.preprocessing)
    tensors, again = to_torchvision(original.model), to_torchvision(read.model)
    assert {key: it.tobytes() for key, it in tensors.items()} == {key: it.tobytes() for key, it in again.items()}


def test_the_output_is_named_after_the_model_and_reported(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    tyro.cli(export, args=[str(folder / "cifar"), "--format", "safetensors"])
    assert "cifar-safetensors: 0.7 MB, read back bit for bit\n" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-safetensors"]


def test_a_failed_comparison_keeps_the_existing_file(tmp_path):
    save_pretrained(drawn("cifar", **{"fc.weight": np.full((3, 64), 3e38, np.float32)}), tmp_path / "network")
    out = tmp_path / "out.stablehlo"
    out.write_text("before")
    with pytest.raises(
        UserError, match=r"gives other logits: largest difference of the logits nan.*Nothing was written"
    ):
        export(str(tmp_path / "network"), format="stablehlo", out=out, image_size=32, batch_size=1)
    assert out.read_text() == "before" and {path.name for path in tmp_path.iterdir()} == {"network", "out.stablehlo"}


def test_an_unwritable_path_is_named(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"can't write .*file/out.*give another --out"):
        export(str(folder / "cifar"), format="safetensors", out=tmp_path / "file" / "out")


def test_a_folder_does_not_replace_a_file_nor_a_file_a_folder(folder, tmp_path):
    (tmp_path / "out.stablehlo").mkdir()
    with pytest.raises(UsageError, match="is a folder, expected a file"):
        export(str(folder / "cifar"), format="stablehlo", out=tmp_path / "out.stablehlo")
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="is a file, expected a folder"):
        export(str(folder / "cifar"), format="safetensors", out=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"batch_size": 0}, "--batch-size: got 0, expected 1 or more"),
        ({"image_size": 0}, "--image-size: got 0, expected 1 or more"),
        ({"with_preprocessing": True}, "--batch-size, --layout or --with-preprocessing"),
    ],
)
def test_invalid_options_are_refused(folder, options, complaint):
    with pytest.raises(UsageError, match=complaint):
        export(str(folder / "cifar"), format="safetensors", **options)


def test_without_onnxruntime_web_nothing_is_written_and_the_remedy_is_named(folder, tmp_path, onnxruntime):
    with pytest.raises(UsageError, match=r"--runtime: .*ort\.webgpu.*npm install onnxruntime-web"):
        export(str(folder / "cifar"), format="web", out=tmp_path / "page", runtime=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_page_is_written_with_the_files_of_onnxruntime_web(folder, tmp_path, onnxruntime, capsys):
    (tmp_path / "package" / "dist").mkdir(parents=True)
    for name in RUNTIME:
        (tmp_path / "package" / "dist" / name).touch()
    export(str(folder / "cifar"), format="web", out=tmp_path / "page", runtime=tmp_path / "package")
    expected = {"index.html", "model.json", "model.onnx", "examples", *RUNTIME}
    assert {path.name for path in (tmp_path / "page").iterdir()} == expected
    assert "page: 1.1 MB, largest difference" in capsys.readouterr().out


def test_without_the_extra_onnx_the_remedy_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"--format onnx: .*onnxruntime.*pip install"):
        export(str(folder / "cifar"), format="onnx")
