"""The command `resnet-jax` on a real training run: evaluate, convert, fine-tune, and common mistakes."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import resnet_jax
from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.classifier.saving import save_pretrained
from resnet_jax.cli import COMMANDS, call
from resnet_jax.commands.convert import convert
from resnet_jax.commands.evaluate import EvalData, _data_config, evaluate
from resnet_jax.commands.predict import predict
from resnet_jax.config import Config, DataConfig, EvaluateConfig, ModelConfig, OptimizerConfig, TrainConfig, as_dict
from resnet_jax.data.memory import load
from resnet_jax.data.source import open_tfds
from resnet_jax.errors import UsageError, UserError
from resnet_jax.exporting.layers import layer_outputs
from resnet_jax.hardware.sharding import make_mesh
from resnet_jax.training import loop
from resnet_jax.weights.files import write_weights
from resnet_jax.weights.reading import read_weights
from resnet_jax.weights.torchvision import to_torchvision


@pytest.fixture(scope="module", autouse=True)
def settled(tmp_path_factory):
    """Set one device, a cache folder and a data folder for the whole file."""
    assert jax.device_count() == 8  # starts JAX; after that, a command does not change the number of devices
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_mesh", lambda batch_size: make_mesh(batch_size, jax.devices()[:1]))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield


CONFIG = Config(
    model=ModelConfig(width=4),
    optimizer=OptimizerConfig(peak_learning_rate=0.05),
    train=TrainConfig(epochs=1, batch_size=64, ema_decay=0.9),
    data=DataConfig(name="digits", val_fraction=0.1),
    evaluate=EvaluateConfig(tta="flip"),
)


@pytest.fixture(scope="module")
def run(settled, tmp_path_factory):
    """Return the folder of a run with averaged weights, and its summary."""
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    return workdir, loop.train(CONFIG, workdir, console=Console(file=io.StringIO()))


@pytest.fixture
def figures(capsys):
    """Return a function that returns the JSON of `evaluate`."""

    def printed(model: Path, **options) -> dict:
        capsys.readouterr()
        evaluate(str(model), json=True, **options)
        return json.loads(capsys.readouterr().out)

    return printed


def test_evaluate_gives_the_figures_of_the_runs_own_summary(run, figures):
    workdir, summary = run
    got = figures(workdir)
    for name in ("accuracy", "top5_accuracy"):
        assert got[name] == summary[f"test_{name}"]
    for name in ("loss", "calibration_error"):
        assert got[name] == pytest.approx(summary[f"test_{name}"], rel=1e-5)
    assert got["class_accuracy"] == summary["test_class_accuracy"] and got["images"] == 360
    right = (got["class_images"][name] * share for name, share in got["class_accuracy"].items())
    assert sum(got["class_images"].values()) == 360 and sum(right) == pytest.approx(360 * got["accuracy"])


def test_evaluate_gives_the_augmented_figures_of_the_summary(run, figures):
    workdir, summary = run
    got = figures(workdir, tta="flip", batch_size=77)
    assert got["accuracy"] == summary["test_accuracy_tta_flip"]
    assert got["loss"] == pytest.approx(summary["test_loss_tta_flip"], rel=1e-5)


def test_evaluate_gives_the_held_out_figures_of_the_log(run, figures):
    workdir, _ = run
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if line["split"] == "val"][-1]
    got = figures(workdir, data=EvalData(split="val"))
    assert got["accuracy"] == logged["accuracy"] and got["images"] == 143


@pytest.mark.parametrize("target", ["saved", "w.pth", "w.safetensors"])
def test_a_converted_run_has_the_same_accuracy(run, figures, tmp_path, target, capsys):
    workdir, summary = run
    convert(str(workdir), tmp_path / target)
    if target == "w.pth":
        assert "class names and the preprocessing" in capsys.readouterr().err
        tensors = read_weights(tmp_path / target).tensors
        expected = to_torchvision(load_classifier(workdir).model)
        assert tensors.keys() == expected.keys() and all(np.array_equal(tensors[k], expected[k]) for k in expected)
    else:
        assert figures(tmp_path / target, data=EvalData(name="digits"))["accuracy"] == summary["test_accuracy"]
        before, after = load_classifier(workdir), load_classifier(tmp_path / target)
        assert (after.class_names, after.preprocessing) == (before.class_names, before.preprocessing)


def test_a_chain_of_conversions_keeps_every_bit_and_type(run, tmp_path):
    tensors = to_torchvision(load_classifier(run[0]).model)
    tensors = {k: v.astype(np.float16) if v.dtype == np.float32 else v + 9 for k, v in tensors.items()}
    write_weights(tmp_path / "a.pth", tensors)
    convert(str(tmp_path / "a.pth"), tmp_path / "b.safetensors")
    convert(str(tmp_path / "b.safetensors"), tmp_path / "deep" / "c.pth")
    returned = read_weights(tmp_path / "deep" / "c.pth").tensors
    assert returned.keys() == tensors.keys()
    assert all(returned[k].dtype == v.dtype and returned[k].tobytes() == v.tobytes() for k, v in tensors.items())


def test_convert_reports_removed_prefixes(run, tmp_path, capsys):
    tensors = to_torchvision(load_classifier(run[0]).model)
    write_weights(tmp_path / "a.pth", {f"module.{key}": tensor for key, tensor in tensors.items()})
    convert(str(tmp_path / "a.pth"), tmp_path / "b.pth", report=True)
    out, err = capsys.readouterr()
    assert 'removed the prefix "module."' in err and "layer4.1.bn2.num_batches_tracked" in out and "(0.2 MB)" in out


def test_the_last_layer_output_is_the_logits(run):
    model = load_classifier(run[0]).model
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    *_, (name, logits) = layer_outputs(model, images)
    assert name == "fc"
    np.testing.assert_allclose(logits, model(images), rtol=1e-6)


def test_evaluating_on_other_classes_is_refused(run, tmp_path):
    save_pretrained(load_classifier(run[0]).model, tmp_path / "saved")
    for split in ("a", "b", "c"):
        (tmp_path / "images" / split).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (8, 8), number).save(tmp_path / "images" / split / f"{number}.png")
    with pytest.raises(UserError, match=r"does not know 3 .*: a, b, c; 10 of its own"):
        evaluate(str(tmp_path / "saved"), data=EvalData(source="folder", dir=tmp_path / "images"))


@pytest.fixture
def digits_in_folders(tmp_path):
    """Return a folder with images of the digits 7 and 2; its classes have another order than the network's."""
    dataset = load(open_tfds("digits"), None)
    for name in ("7", "2"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        images = dataset.test.images[dataset.test.labels == int(name)]
        for number, image in enumerate(images):
            larger = Image.fromarray(image).resize((20, 16), Image.Resampling.NEAREST)
            larger.save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def test_classes_are_matched_by_name_and_other_images_are_resized_as_predict_does(run, digits_in_folders, capsys):
    """Both commands see the same crops of the same images, and so make the same mistakes."""
    paths = sorted(digits_in_folders.rglob("*.png"))
    capsys.readouterr()
    predict(str(run[0]), tuple(map(str, paths)), json=True, top_k=1)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    right = {line["path"] for line in lines if line["predictions"][0]["class"] == Path(line["path"]).parent.name}
    evaluate(str(run[0]), json=True, data=EvalData(source="folder", dir=digits_in_folders))
    figures = json.loads(capsys.readouterr().out)
    assert figures["images"] == len(paths) and figures["accuracy"] == pytest.approx(len(right) / len(paths))
    assert (figures["classes"], figures["network_classes"]) == (2, 10)
    assert figures["class_accuracy"].keys() == {"2", "7"}


def test_names_send_no_control_characters_to_a_terminal_or_a_csv_file(run, tmp_path, capsys):
    path = tmp_path / "a\x1b[31m\n\u202ered.png"
    Image.new("L", (8, 8), 9).save(path, "png")
    for options in ({}, {"csv": True}):
        predict(str(run[0]), (str(path),), **options)
        out = capsys.readouterr().out
        assert "a\\x1b[31m\\n\\u202ered" in out.replace("\n", "") or "…" in out
        assert not any(character in out for character in "\x1b\u202e")
    predict(str(run[0]), (str(path),), json=True)
    line = capsys.readouterr().out
    assert line.isascii() and "\x1b" not in line and json.loads(line)["path"] == str(path)


def test_a_relative_path_to_the_folder_of_the_run_gives_the_split_of_the_run(run, digits_in_folders, monkeypatch):
    """Otherwise images that the network was trained on would count as test images."""
    classifier = load_classifier(run[0])
    stored = as_dict(replace(CONFIG, data=DataConfig(source="folder", dir=digits_in_folders)))
    own = replace(classifier, info=classifier.info | {"config": stored})
    monkeypatch.chdir(digits_in_folders.parent)
    assert _data_config(own, EvalData(dir=Path(digits_in_folders.name)))[1]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_images_is_refused(run, digits_in_folders, split):
    with pytest.raises(UsageError, match=f"--data.split: got {split}"):
        evaluate(str(run[0]), json=True, data=EvalData(dir=digits_in_folders, split=split))


def test_evaluating_a_weights_file_needs_the_name_of_a_data_set(run, tmp_path):
    convert(str(run[0]), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"--data\.name: got nothing"):
        evaluate(str(tmp_path / "w.pth"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Return a folder of two classes that differ only in color."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (folder / name).mkdir()
        for number in range(20):
            image = rng.integers(0, 100, (10, 12, 3), np.uint8)
            image[..., channel] += 120
            Image.fromarray(image).save(folder / name / f"{number}.png")
    return folder


def finetuning(run: Path, photographs: Path, **optimizer) -> Config:
    return replace(
        CONFIG,
        model=ModelConfig(width=4, pretrained=str(run)),
        data=DataConfig(source="folder", dir=photographs, image_size=8),
        optimizer=OptimizerConfig(peak_learning_rate=0.05, **optimizer),
        train=TrainConfig(epochs=3, batch_size=8),
    )


@pytest.mark.slow  # one more training run
def test_fine_tuning_trains_only_the_classifier_at_a_layer_factor_of_zero(run, photographs, tmp_path):
    config = finetuning(run[0], photographs, layer_factor=0.0)
    summary = loop.train(config, tmp_path / "tuned", console=Console(file=io.StringIO()))
    before, tuned = load_classifier(run[0]), load_classifier(tmp_path / "tuned")
    assert tuned.class_names == ("blue", "red") and summary["test_accuracy"] > 0.7
    expected, got = to_torchvision(before.model), to_torchvision(tuned.model)
    assert all(np.array_equal(got[key], expected[key]) for key in got if not key.startswith("fc."))


@pytest.mark.slow  # two trainings
def test_fine_tuning_starts_from_an_encoder_and_says_what_it_left_out(run, photographs, tmp_path):
    tensors = to_torchvision(load_classifier(run[0]).model)
    del tensors["fc.bias"], tensors["fc.weight"]
    projector = {"projector.0.weight": np.ones((8, 32), np.float32)}
    write_weights(tmp_path / "w.pth", {f"encoder.{key}": tensor for key, tensor in tensors.items()} | projector)
    with pytest.raises(UserError, match=r"without a linear classifier.*projector.*--model\.pretrained"):
        load_classifier(tmp_path / "w.pth")
    console = Console(file=io.StringIO(), width=200)
    config = finetuning(tmp_path / "w.pth", photographs, layer_factor=0.0)
    loop.train(replace(config, train=TrainConfig(epochs=1, batch_size=8)), tmp_path / "tuned", console=console)
    assert "projector.0.weight" in console.file.getvalue()
    got = to_torchvision(load_classifier(tmp_path / "tuned").model)
    assert all(np.array_equal(got[key], tensors[key]) for key in tensors if not key.endswith("tracked"))


@pytest.mark.slow  # one more training run
def test_fine_tuning_normalizes_like_the_pretraining(run, photographs, tmp_path):
    loop.train(
        finetuning(run[0], photographs, layer_factor=0.5), tmp_path / "tuned", console=Console(file=io.StringIO())
    )
    before, tuned = load_classifier(run[0]), load_classifier(tmp_path / "tuned")
    assert (tuned.preprocessing.mean, tuned.preprocessing.std) == (before.preprocessing.mean, before.preprocessing.std)
    assert not np.array_equal(before.model.conv1.kernel[...], tuned.model.conv1.kernel[...])


def test_fine_tuning_from_another_architecture_names_it(run, photographs, tmp_path):
    config = replace(finetuning(run[0], photographs), model=ModelConfig("resnet34", width=4, pretrained=str(run[0])))
    with pytest.raises(UserError, match=r"--model\.arch resnet34 .* need --model\.arch resnet18 "):
        loop.train(config, tmp_path / "tuned", console=Console(file=io.StringIO()))


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    env = os.environ | {"COLUMNS": "100"} | variables
    return subprocess.run([sys.executable, "-m", "resnet_jax", *arguments], env=env, capture_output=True, text=True)


def test_help_lists_every_command():
    result = command("--help")
    assert result.returncode == 0 and result.stderr == ""
    assert all(name in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example(name, capsys):
    with pytest.raises(SystemExit) as caught:
        call([name, "--help"])
    assert caught.value.code == 0 and f"Example: resnet-jax {name}" in " ".join(capsys.readouterr().out.split())


def test_a_file_that_does_not_exist_ends_in_one_message():
    result = command("evaluate", "none.pth")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "there is no file or folder none.pth" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("convert", "none.pth", "w.onnx"), 1, "there is no file or folder none.pth"),
        (("evaluat", "none.pth"), 2, "evaluate"),
    ],
)
def test_a_mistake_is_an_error_with_the_right_exit_code(arguments, code, message):
    with pytest.raises(UserError, match=message) as caught:
        call([*arguments])
    assert caught.value.exit_code == code


def test_a_value_that_an_option_does_not_have_is_named_with_exit_code_2(capsys):
    with pytest.raises(SystemExit) as caught:
        call(["evaluate", "none.pth", "--tta", "turn"])
    assert caught.value.code == 2 and "--tta" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("benchmark",), marks=pytest.mark.slow),  # another process
        ("train", "--config", "configs/digits.py", "--workdir", "PLACE"),
    ],
)
def test_devices_that_do_not_start_end_a_command_with_one_message(tmp_path, words):
    words = [word.replace("PLACE", str(tmp_path / "run")) for word in words]
    result = command(*words, JAX_PLATFORMS="cuda")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1) and "JAX_PLATFORMS=cuda" in result.stderr


@pytest.mark.parametrize("kind", ["run", pytest.param("file", marks=pytest.mark.slow)])  # another process
def test_devices_that_do_not_start_are_not_reported_as_a_damaged_checkpoint(run, tmp_path, kind):
    if kind == "file":
        convert(str(run[0]), tmp_path / "w.safetensors")
    model = run[0] if kind == "run" else tmp_path / "w.safetensors"
    result = command("evaluate", str(model), "--data.name", "digits", JAX_PLATFORMS="cuda")
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    assert "JAX_PLATFORMS=cuda" in result.stderr and "checkpoint" not in result.stderr


def test_the_version_is_that_of_the_package():
    result = command("--version")
    assert (result.returncode, result.stdout) == (0, f"resnet-jax {version('resnet-nnx')}\n")
    assert resnet_jax.__version__ == version("resnet-nnx")
