"""Trained networks from every kind of source, with their class names and preprocessing."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from flax import nnx

import resnet_jax
from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.classifier.preprocessing import Preprocessing, TimmSettings, from_timm
from resnet_jax.classifier.saving import save_pretrained
from resnet_jax.errors import UserError
from resnet_jax.models.network import Network
from resnet_jax.models.registry import REGISTRY
from resnet_jax.weights.files import write_weights
from resnet_jax.weights.identify import identify
from resnet_jax.weights.torchvision import to_torchvision, torchvision_shapes

TINY = Network("resnet18", num_classes=5, stem="cifar", width=4)


def same_weights(model, other) -> bool:
    ours, theirs = to_torchvision(model), to_torchvision(other)
    return ours.keys() == theirs.keys() and all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)


def logits(model) -> np.ndarray:
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    return np.asarray(model(jnp.asarray(images)))


@pytest.fixture(scope="module")
def tiny() -> resnet_jax.ResNet:
    return TINY.build(rngs=nnx.Rngs(1))


@pytest.mark.parametrize(
    "arch",
    [
        arch if entry.family == "resnet" else pytest.param(arch, marks=pytest.mark.slow)  # together, minutes
        for arch, entry in REGISTRY.items()
    ],
)
@pytest.mark.parametrize(("stem", "num_classes"), [("imagenet", 1000), ("cifar", 10)])
def test_each_network_is_identified_by_its_shapes(arch, stem, num_classes):
    network = Network(arch, num_classes, stem, width=64)
    shapes = torchvision_shapes(network.abstract())
    expected = network if network.entry.shows_stem else replace(network, stem="imagenet")
    assert identify({key: np.broadcast_to(0, shape) for key, shape in shapes.items()}) == expected


@pytest.mark.slow  # traces the known networks
def test_a_network_with_other_layers_is_refused_and_the_nearest_is_named(tiny):
    tensors = to_torchvision(tiny)
    tensors["layer1.0.conv1.weight"] = np.zeros((4, 4, 5, 5), np.float32)
    with pytest.raises(UserError, match=r"the nearest is resnet18.* 1 .*layer1"):
        identify(tensors)


def test_weights_of_another_family_are_refused_with_their_keys():
    with pytest.raises(UserError, match=r"conv1\.weight, .* got blocks\.0\.weight"):
        identify({"blocks.0.weight": np.zeros((64, 3, 11, 11), np.float32)})


@pytest.mark.slow  # traces the known networks
def test_a_stem_that_the_weights_do_not_show_is_kept_in_a_folder_and_named_for_a_file(tmp_path):
    model = Network("mnasnet1_0", 3, "cifar").build()
    save_pretrained(model, tmp_path / "folder")
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "folder" / "model.safetensors").read_bytes())
    assert load_classifier(tmp_path / "folder").model.stem == "cifar"
    assert resnet_jax.from_pretrained("mnasnet1_0", tmp_path / "folder").stem == "cifar"
    (remark,) = load_classifier(tmp_path / "w.safetensors").remarks
    assert 'took the stem "imagenet"' in remark
    found = resnet_jax.from_pretrained("mnasnet1_0", tmp_path / "w.safetensors", stem="cifar")
    assert found.stem == "cifar"


def test_loading_into_another_architecture_names_the_one_that_fits(tiny):
    with pytest.raises(UserError, match="nearest architecture is resnet18 with num_classes=5, stem='cifar', width=4"):
        resnet_jax.load_torchvision(Network("resnet34", 5, "cifar", 4).abstract(), to_torchvision(tiny))


def test_a_head_of_another_size_is_an_error_with_both_shapes_and_the_choices(tiny):
    with pytest.raises(UserError, match=r'got \(5, 32\), expected \(7, 32\).* num_classes=5, or give head="fresh"'):
        resnet_jax.load_torchvision(Network("resnet18", 7, "cifar", 4).build(), to_torchvision(tiny))


def test_loading_reports_removed_prefixes(tiny, tmp_path):
    write_weights(tmp_path / "w.pth", {f"module.{key}": tensor for key, tensor in to_torchvision(tiny).items()})
    model = TINY.abstract()
    assert resnet_jax.load_torchvision(model, tmp_path / "w.pth") == ('removed the prefix "module."',)
    assert same_weights(model, tiny)


def wrapped(tensors: dict[str, np.ndarray]) -> dict:
    return {"epoch": 3, "state_dict": {f"module.{key}": tensor for key, tensor in tensors.items()}}


def test_a_dictionary_is_unwrapped_as_a_file_is(tiny):
    model = TINY.abstract()
    notes = resnet_jax.load_torchvision(model, wrapped(to_torchvision(tiny)))
    assert [fact in " ".join(notes) for fact in ("state_dict", "module.")] == [True, True]
    assert same_weights(model, tiny)
    assert same_weights(resnet_jax.from_pretrained("resnet18", wrapped(to_torchvision(tiny))), tiny)


def test_load_torchvision_reads_a_folder(tiny, tmp_path):
    resnet_jax.save_pretrained(tiny, tmp_path)
    model = TINY.abstract()
    assert resnet_jax.load_torchvision(model, tmp_path) == ()
    assert same_weights(model, tiny)


def test_a_dictionary_without_weights_is_refused_with_its_keys():
    with pytest.raises(UserError, match=r"epoch.*state_dict"):
        resnet_jax.from_pretrained("resnet18", {"epoch": 3})


@pytest.mark.parametrize("path", ["none.pth", "no/such/folder"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_that_does_not_exist_is_refused_with_what_is_expected(tmp_path, path, kind):
    source = kind(tmp_path / path)
    for load in (lambda: resnet_jax.from_pretrained("resnet18", source), lambda: load_into_tiny(source)):
        with pytest.raises(UserError, match=f"{path}.*run folder.*published name"):
            load()


def load_into_tiny(source, **options) -> resnet_jax.ResNet:
    model = TINY.build()
    resnet_jax.load_torchvision(model, source, **options)
    return model


def test_from_pretrained_names_the_architecture_to_give(tiny):
    with pytest.raises(UserError, match='give the architecture "resnet18"') as caught:
        resnet_jax.from_pretrained("resnet34", to_torchvision(tiny))
    assert "head" not in str(caught.value)
    assert same_weights(resnet_jax.from_pretrained("resnet18", to_torchvision(tiny)), tiny)


def test_weights_without_a_classifier_get_a_fresh_one_as_the_error_says(tiny):
    tensors = {key: tensor for key, tensor in to_torchvision(tiny).items() if not key.startswith("fc.")}
    with pytest.raises(UserError, match=r"fc\.weight.*give num_classes") as caught:
        resnet_jax.from_pretrained("resnet18", tensors)
    assert "head" not in str(caught.value)
    for classes in (5, 1000):
        assert logits(resnet_jax.from_pretrained("resnet18", tensors, num_classes=classes)).shape == (2, classes)

    with pytest.raises(UserError, match='give head="fresh"') as caught:
        load_into_tiny(tensors)
    assert "num_classes" not in str(caught.value)
    np.testing.assert_array_equal(load_into_tiny(tensors, head="fresh").conv1.kernel[...], tiny.conv1.kernel[...])


def test_a_fresh_classifier_of_a_network_without_weights_is_refused(tiny):
    with pytest.raises(UserError, match="eval_shape"):
        resnet_jax.load_torchvision(TINY.abstract(), to_torchvision(tiny), head="fresh")


def test_a_network_with_nan_is_not_told_to_be_built_otherwise(tiny):
    tensors = to_torchvision(tiny)
    tensors["fc.bias"][0] = np.nan
    for load in (load_into_tiny, lambda tensors: resnet_jax.from_pretrained("resnet18", tensors)):
        with pytest.raises(UserError, match=r"NaN.*fc\.bias.*earlier checkpoint") as caught:
            load(tensors)
        assert "architecture" not in str(caught.value)


MISTAKEN = """
import resnet_jax
from resnet_jax.errors import UserError
for arch, source in (("ResNet18", {}), ("resnet18", None), ("resnet18", 3.5)):
    try:
        resnet_jax.from_pretrained(arch, source)
    except UserError as error:
        print(error)
"""


def test_an_unknown_architecture_or_kind_of_source_is_an_error_with_those_expected():
    """In a process without the type checks of the tests."""
    result = subprocess.run([sys.executable, "-c", MISTAKEN], capture_output=True, text=True, check=True)
    arch, nothing, number = result.stdout.splitlines()
    assert "'ResNet18'" in arch and all(name in arch for name in REGISTRY)
    assert "NoneType" in nothing and "float" in number and all("state dict" in line for line in (nothing, number))


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_from_pretrained_builds_the_network_of_a_file(tiny, tmp_path, name):
    write_weights(tmp_path / name, to_torchvision(tiny))
    model = resnet_jax.from_pretrained("resnet18", str(tmp_path / name))
    assert same_weights(model, tiny)
    np.testing.assert_array_equal(logits(model), logits(tiny))


def test_from_pretrained_gives_another_number_of_classes_a_fresh_classifier(tiny):
    model = resnet_jax.from_pretrained("resnet18", to_torchvision(tiny), num_classes=3)
    assert logits(model).shape == (2, 3)
    np.testing.assert_array_equal(model.layer4[1].conv2.kernel[...], tiny.layer4[1].conv2.kernel[...])


def test_from_pretrained_computes_in_the_given_type(tiny):
    model = resnet_jax.from_pretrained("resnet18", to_torchvision(tiny), dtype="bfloat16")
    assert model.features(jnp.zeros((1, 32, 32, 3))).stages[3].dtype == "bfloat16"
    assert model.conv1.kernel[...].dtype == "float32"


def test_a_saved_folder_returns_weights_class_names_and_preprocessing(tiny, tmp_path):
    names = ("ant", "bee", "cat", "dog", "eel")
    preprocessing = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.2, 0.1), image_size=30, resize=37)
    resnet_jax.save_pretrained(tiny, tmp_path / "saved", class_names=names, preprocessing=preprocessing)
    classifier = load_classifier(tmp_path / "saved")
    assert (classifier.network, classifier.class_names, classifier.preprocessing) == (TINY, names, preprocessing)
    assert same_weights(classifier.model, tiny)
    assert same_weights(resnet_jax.from_pretrained("resnet18", tmp_path / "saved"), tiny)


@pytest.mark.parametrize(
    "head",
    [
        lambda: nnx.Linear(32, 5, use_bias=False, rngs=nnx.Rngs(1)),
        lambda: nnx.Sequential(nnx.Dropout(0.5, deterministic=True), nnx.Linear(32, 5, rngs=nnx.Rngs(1))),
    ],
)
def test_a_replaced_classifier_that_is_linear_is_saved_and_loaded(tmp_path, head):
    model = TINY.build()
    model.fc = head()
    resnet_jax.save_pretrained(model, tmp_path / "saved")
    np.testing.assert_allclose(logits(load_classifier(tmp_path / "saved").model), logits(model), rtol=1e-6)


@pytest.mark.parametrize(
    "head",
    [
        lambda: nnx.Sequential(nnx.Linear(32, 8, rngs=nnx.Rngs(1)), nnx.relu, nnx.Linear(8, 5, rngs=nnx.Rngs(2))),
        lambda: nnx.Sequential(nnx.Linear(32, 5, rngs=nnx.Rngs(1)), nnx.softmax),
    ],
)
def test_a_replaced_classifier_that_is_not_linear_is_refused_before_anything_is_written(tmp_path, head):
    model = TINY.build()
    model.fc = head()
    with pytest.raises(UserError, match="fc is Sequential: expected one linear layer"):
        resnet_jax.save_pretrained(model, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_network_of_ones_own_gets_its_state_dict_as_it_is():
    class Deeper(resnet_jax.ResNet):
        stage_sizes = (1, 1, 1, 1)

    models = [Deeper(5, stem="cifar", width=4, rngs=nnx.Rngs(seed)) for seed in (0, 1)]
    for model in models:
        model.fc = nnx.Sequential(nnx.Linear(32, 8, rngs=nnx.Rngs(1)), nnx.relu, nnx.Linear(8, 5, rngs=nnx.Rngs(2)))
    resnet_jax.load_torchvision(models[0], to_torchvision(models[1]))
    np.testing.assert_array_equal(logits(models[0]), logits(models[1]))


def test_class_names_that_do_not_fit_are_refused_before_anything_is_written(tiny, tmp_path):
    with pytest.raises(ValueError, match="got 2 class names, expected 5"):
        resnet_jax.save_pretrained(tiny, tmp_path / "saved", class_names=("a", "b"))
    assert not (tmp_path / "saved").exists()


def test_a_folder_written_by_timm_is_read(tiny, tmp_path):
    settings = {"input_size": [3, 160, 160], "crop_pct": 0.95, "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"architecture": "resnet18", "num_classes": 5, "pretrained_cfg": settings}
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_weights(tmp_path / "model.safetensors", to_torchvision(tiny))
    classifier = load_classifier(tmp_path)
    assert classifier.preprocessing == Preprocessing((0.5,) * 3, (0.5,) * 3, image_size=160, resize=168)
    assert classifier.class_names == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
    ("settings", "size", "resize", "interpolation"),
    [
        ({"crop_pct": 0.875, "test_input_size": [3, 224, 224], "test_crop_pct": 0.965}, 224, 232, "bilinear"),
        ({"crop_pct": 0.95, "interpolation": "bicubic"}, 176, 185, "bicubic"),
        ({}, 176, 201, "bilinear"),
    ],
)
def test_images_are_evaluated_at_the_test_size_and_with_the_interpolation_of_the_weights(
    settings, size, resize, interpolation
):
    """The first case is ResNet50_Weights.IMAGENET1K_V2 as timm publishes it; torchvision crops 224 from 232 pixels."""
    common = {"input_size": [3, 176, 176], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    expected = Preprocessing(image_size=size, resize=resize, interpolation=interpolation)
    assert from_timm(msgspec.convert(common | settings, TimmSettings)) == expected


@pytest.mark.parametrize("settings", [{"crop_mode": "border"}, {"interpolation": "random"}])
def test_an_unsupported_preprocessing_is_refused_by_name(tiny, tmp_path, settings):
    common = {"input_size": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3}
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": common | settings}))
    write_weights(tmp_path / "model.safetensors", to_torchvision(tiny))
    ((name, value),) = settings.items()
    with pytest.raises(UserError, match=f"'{value}'.*{name}"):
        load_classifier(tmp_path)


def test_a_saved_folder_keeps_the_interpolation(tiny, tmp_path):
    preprocessing = Preprocessing(image_size=8, resize=9, interpolation="bicubic")
    resnet_jax.save_pretrained(tiny, tmp_path, preprocessing=preprocessing)
    assert load_classifier(tmp_path).preprocessing == preprocessing


GOOD = {"input_size": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "3",
        "{",
        "[" * 100_000,
        '{"pretrained_cfg": {}}',
        '{"pretrained_cfg": []}',
        *(
            json.dumps({"pretrained_cfg": GOOD | damage})
            for damage in (
                {"input_size": [3, 1_000_000, 1_000_000]},
                {"input_size": [3, 8]},
                {"input_size": "8"},
                {"mean": [float("nan")] * 3},
                {"mean": 0.5},
                {"std": [0.0, 0.5, 0.5]},
                {"std": [-1.0, 0.5, 0.5]},
                {"crop_pct": 0},
                {"crop_pct": 1e-9},
                {"label_names": [1, 2, 3, 4, 5]},
                {"label_names": ["a", "b"]},
            )
        ),
        json.dumps({"pretrained_cfg": GOOD, "resnet_jax": {"resize": 10_000_000}}),
        json.dumps({"pretrained_cfg": GOOD, "label_names": {"a": 1}}),
    ],
)
def test_a_folder_with_a_damaged_or_hostile_configuration_is_refused(tiny_folder, content):
    (tiny_folder / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        load_classifier(tiny_folder)


@pytest.fixture(scope="module")
def tiny_folder(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    resnet_jax.save_pretrained(tiny, folder)
    return folder


def test_a_thousand_classes_have_imagenets_names(tmp_path):
    network = Network("resnet18", width=2)
    write_weights(tmp_path / "w.safetensors", to_torchvision(network.build()))
    names = load_classifier(tmp_path / "w.safetensors").class_names
    assert len(set(names)) == 1000 and (names[0], names[1], names[999]) == ("tench", "goldfish", "toilet tissue")


def test_a_wrong_architecture_is_refused_with_the_right_one(tiny, tmp_path):
    write_weights(tmp_path / "w.pth", to_torchvision(tiny))
    with pytest.raises(UserError, match=r"w\.pth is a resnet18.* resnet50.*its own architecture"):
        load_classifier(tmp_path / "w.pth", arch="resnet50")


def test_any_other_folder_is_refused_with_what_is_expected(tmp_path):
    with pytest.raises(UserError, match=r"run folder \(with checkpoints/\), a folder"):
        load_classifier(tmp_path)


def test_an_abstract_network_is_loaded_without_drawing_weights(tiny):
    model = TINY.abstract()
    resnet_jax.load_torchvision(model, to_torchvision(tiny))
    np.testing.assert_array_equal(logits(model), logits(tiny))
