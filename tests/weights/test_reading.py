"""Weights files as trainings write them: the network is found and named, and where two fit, none is taken silently."""

import json
import re
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import resnet_jax
from resnet_jax.errors import UserError
from resnet_jax.weights.identify import identify
from resnet_jax.weights.pth import write_pth
from resnet_jax.weights.reading import read_weights
from resnet_jax.weights.spellings import find_resnets
from resnet_jax.weights.torchvision import to_torchvision

TENSORS = to_torchvision(resnet_jax.ResNet18(5, width=4))
ENCODER = {key: value for key, value in TENSORS.items() if not key.startswith("fc.")}
OTHERS = {key: value + 1 for key, value in TENSORS.items()}
FEATURES = 32

Tensors = dict[str, np.ndarray]


def prefixed(prefix: str, tensors: Tensors = TENSORS) -> Tensors:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def renamed(pattern: str, replacement: str | Callable, tensors: Tensors = TENSORS) -> Tensors:
    return {re.sub(pattern, replacement, key): tensor for key, tensor in tensors.items()}


def sequential(first: int = 0, tensors: Tensors = ENCODER, step: int = 1) -> Tensors:
    """Return the keys of `nn.Sequential(conv1, bn1, relu, maxpool, layer1, ...)`."""
    order = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")
    return renamed(r"^\w+", lambda match: str(first + step * order.index(match[0])), tensors)


def transformers(tensors: Tensors = TENSORS) -> Tensors:
    tensors = renamed(r"^conv1\.", "resnet.embedder.embedder.convolution.", tensors)
    tensors = renamed(r"^bn1\.", "resnet.embedder.embedder.normalization.", tensors)
    tensors = renamed(r"^fc\.", "classifier.1.", tensors)
    parts = {"conv": "convolution", "bn": "normalization", "0": "convolution", "1": "normalization"}

    def layer(match: re.Match) -> str:
        start = f"resnet.encoder.stages.{int(match[1]) - 1}.layers.{match[2]}."
        if match[3] == "downsample.":
            return f"{start}shortcut.{parts[match[4]]}."
        return f"{start}layer.{int(match[4]) - 1}.{parts[match[3]]}."

    return renamed(r"^layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.", layer, tensors)


def same(got: Tensors, expected: Tensors) -> bool:
    return got.keys() == expected.keys() and all(np.array_equal(got[key], expected[key]) for key in expected)


@pytest.fixture
def read(tmp_path):
    """Return a function that writes tensors to a file and reads the network in it."""

    def through(tensors: Tensors, choice: str = ""):
        write_pth(tmp_path / "w.pth", tensors)
        return read_weights(f"{tmp_path / 'w.pth'}{choice}")

    return through


PREFIXES = ("", "module.", "_orig_mod.", "module._orig_mod.", "model.backbone.", "encoder.", "net.", "trunk._blocks.")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_is_removed_and_reported(read, prefix):
    weights = read(prefixed(prefix))
    assert same(weights.tensors, TENSORS)
    assert weights.notes == ((f'removed the prefix "{prefix}"',) if prefix else ())


SPELLINGS = {
    "sequential": sequential(tensors=TENSORS),
    "sequential without gaps": {
        key.replace("9.", "6.", 1) if key.startswith("9.") else key: value
        for key, value in renamed(
            r"^(\d)",
            lambda match: str({"0": 0, "1": 1, "4": 2, "5": 3, "6": 4, "7": 5}.get(match[1], 9)),
            sequential(tensors=TENSORS),
        ).items()
    },
    "sequential below a prefix": prefixed("features.", sequential())
    | {f"fc.{key}": TENSORS[f"fc.{key}"] for key in ("weight", "bias")},
    "transformers": transformers(),
    "CIFAR-10's": renamed(r"^fc", "linear", renamed(r"downsample", "shortcut")),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_the_keys_of_other_programs_are_renamed(read, name):
    assert same(read(SPELLINGS[name]).tensors, TENSORS)


@pytest.mark.parametrize("key", ["fc.1", "head.fc", "classifier", "classifier.1", "linear", "last_linear", "head"])
def test_a_linear_classifier_of_another_name_is_taken_and_named(read, key):
    weights = read(
        prefixed("backbone.", ENCODER) | {f"{key}.weight": TENSORS["fc.weight"], f"{key}.bias": TENSORS["fc.bias"]}
    )
    assert same(weights.tensors, TENSORS)
    assert any(f'"{key.split(".")[0]}" as the classifier' in note for note in weights.notes)


def test_a_classifier_without_bias_gets_zeros(read):
    weights = read({key: value for key, value in TENSORS.items() if key != "fc.bias"})
    assert same(weights.tensors, TENSORS | {"fc.bias": np.zeros(5, np.float32)})
    assert any("bias" in note for note in weights.notes)


W = np.ones((7, FEATURES), np.float32)
PROJECTIONS = {
    "two layers": {"fc.0.weight": W, "fc.2.weight": np.ones((3, 7), np.float32)},
    "normalized first": {"fc.0.running_mean": np.ones(FEATURES, np.float32), "fc.1.weight": W},
    "of other features": {"head.weight": np.ones((7, 2 * FEATURES), np.float32)},
    "MoCo's": {"fc.weight": W, "fc.bias": W[:, 0], "queue": np.ones((7, 16), np.float32)},
    "SwAV's": {"projection_head.0.weight": W, "prototypes.weight": W},
    "below an unknown layer": {"fc.weight": W, "fc.bias": W[:, 0], "neck.p": W[0]},
    "two": {"fc.weight": W, "linear.weight": W},
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_what_may_not_be_the_classifier_is_left_out_and_named(read, name):
    weights = read(prefixed("encoder.", ENCODER) | PROJECTIONS[name])
    assert same(weights.tensors, ENCODER)
    assert any("left out" in note and next(iter(PROJECTIONS[name])).split(".")[0] in note for note in weights.notes)


def test_counters_and_losses_of_a_training_are_dropped(read):
    counters = {"n_averaged": np.array(7, np.int64), "criterion.weight": np.ones(5, np.float32)}
    counters |= {"module.layer1.0.total_ops": np.ones(1, np.float64), "val_f1.tp": np.ones(5, np.int64)}
    assert same(read(prefixed("module.") | counters).tensors, TENSORS)


@pytest.mark.parametrize("key", ["layer1.0.se.fc1.weight", "conv2.weight", "attention.weight"])
def test_a_layer_that_no_resnet_has_is_not_dropped(read, key):
    with pytest.raises(UserError, match=re.escape(key)):
        identify(read(TENSORS | {key: np.ones((4, 4), np.float32)}).tensors)


def test_kernels_for_one_channel_are_refused_with_both_shapes(read):
    with pytest.raises(UserError, match=r"conv1\.weight: got \(4, 1, 7, 7\), expected \(4, 3, 7, 7\)"):
        identify(read(TENSORS | {"conv1.weight": TENSORS["conv1.weight"][:, :1]}).tensors)


@pytest.mark.parametrize("names", [("encoder_q", "encoder_k"), ("student", "teacher"), ("online.net", "target.net")])
def test_of_two_networks_none_is_taken_until_one_is_chosen(read, names):
    tensors = prefixed(f"{names[0]}.") | prefixed(f"{names[1]}.", OTHERS)
    with pytest.raises(UserError, match=f"2 networks, .*{names[1]}.*{names[0]}|2 networks, .*{names[0]}.*{names[1]}"):
        read(tensors)
    assert same(read(tensors, f"#{names[0]}").tensors, TENSORS)
    assert same(read(tensors, f"#{names[1].split('.')[0]}").tensors, OTHERS)


def test_a_choice_that_does_not_exist_is_refused_with_the_names(read):
    with pytest.raises(UserError, match="encoder_k, encoder_q"):
        read(prefixed("encoder_q.") | prefixed("encoder_k.", OTHERS), "#teacher")


def test_a_network_at_the_top_is_called_by_a_dot(read):
    assert same(read(TENSORS | prefixed("ema.", OTHERS)).tensors, OTHERS)
    assert same(read(TENSORS | prefixed("ema.", OTHERS), "#.").tensors, TENSORS)


@pytest.mark.parametrize("average", ["ema_model.", "model_ema.module.", "swa_model.", "averaged."])
def test_the_average_of_a_network_is_taken_and_the_other_one_offered(read, average):
    weights = read(prefixed("model.") | prefixed(average, OTHERS))
    assert same(weights.tensors, OTHERS) and "#model" in weights.notes[0]
    assert same(read(prefixed("model.") | prefixed(average, OTHERS), "#model").tensors, TENSORS)


def test_one_network_under_two_names_is_one(read):
    assert same(read(prefixed("model.") | prefixed("model.encoder.")).tensors, TENSORS)
    assert same(read(prefixed("model.") | prefixed("encoder.")).tensors, TENSORS)


def test_networks_within_one_another_do_not_mix():
    names = {found.prefix for found in find_resnets(TENSORS | prefixed("teacher.", OTHERS))}
    assert names == {"", "teacher."}


@pytest.mark.parametrize("kind", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_quantized_tensors_are_refused_by_name(tmp_path, kind):
    save_file(TENSORS | {"fc.weight": TENSORS["fc.weight"].astype(kind)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="quantized tensors"):
        read_weights(tmp_path / "w.safetensors")


def test_shards_are_read_together(tmp_path):
    keys = sorted(TENSORS)
    parts = {"a.safetensors": keys[:30], "b.safetensors": keys[30:]}
    for name, part in parts.items():
        save_file({key: TENSORS[key] for key in part}, tmp_path / name)
    index = {"weight_map": {key: name for name, part in parts.items() for key in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(read_weights(tmp_path / "model.safetensors.index.json").tensors, TENSORS)
