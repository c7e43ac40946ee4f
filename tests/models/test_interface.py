"""The interface of every network in the registry: modes, arguments, classifier and depths."""

import inspect
import json
import subprocess
import sys
from functools import cache
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax import BatchNorm, ResNet, ResNet18
from resnet_jax.models.convnet import part
from resnet_jax.models.interface import ImageClassifier
from resnet_jax.models.layers.convolution import Conv
from resnet_jax.models.network import Network
from resnet_jax.models.registry import REGISTRY, Stem
from resnet_jax.weights.torchvision import torchvision_shapes

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)


class ResNet4(ResNet):
    """A ResNet with one block in each stage."""

    stage_sizes = (1, 1, 1, 1)


def tiny() -> ResNet:
    return ResNet4(5, stem="cifar", width=2)


@nnx.jit(static_argnames="train")  # the mode that `train()` and `eval()` set is part of the compiled program
def call(model: ResNet, images: jax.Array, train: bool | None = None) -> jax.Array:
    return model(images, train=train)


def moves_statistics(model: ResNet, train: bool | None = None) -> bool:
    """Tell whether a call changes a running statistic of `model`."""

    def read() -> list[np.ndarray]:
        return [np.array(leaf) for leaf in jax.tree.leaves(nnx.state(model, nnx.BatchStat))]

    before = read()
    call(model, IMAGES, train)
    return not all(map(np.array_equal, before, read()))


def test_a_new_network_is_in_evaluation_mode():
    assert not moves_statistics(tiny())


def test_train_makes_a_call_update_the_running_statistics():
    model = tiny()
    model.train()
    assert moves_statistics(model)


def test_eval_ends_the_updates_of_the_running_statistics():
    model = tiny()
    model.train()
    model.eval()
    assert not moves_statistics(model)


def test_a_call_without_jit_obeys_the_mode():
    norm = BatchNorm(3)
    norm.train()
    norm(IMAGES)
    assert (norm.mean[...] != 0).all()


def test_train_true_overrides_evaluation_mode():
    assert moves_statistics(tiny(), train=True)


def test_train_false_overrides_training_mode():
    model = tiny()
    model.train()
    assert not moves_statistics(model, train=False)


def test_a_view_has_its_own_mode():
    model = tiny()
    view = nnx.view(model, use_running_average=False)
    assert moves_statistics(view)
    assert all(norm.use_running_average for _, norm in nnx.iter_modules(model) if isinstance(norm, BatchNorm))


def in_place(change):
    """Make a function that returns its argument, after a change."""

    def changed(model: ResNet, average: bool) -> ResNet:
        change(model, average)
        return model

    return changed


IDIOMS = {  # NNX's ways to set a mode; `average` is evaluation
    "train and eval": in_place(lambda model, average: model.eval() if average else model.train()),
    "set_attributes": in_place(lambda model, average: model.set_attributes(use_running_average=average)),
    "set_attributes of a kind": in_place(
        lambda model, average: model.set_attributes(BatchNorm, use_running_average=average)
    ),
    "view": lambda model, average: nnx.view(model, use_running_average=average),
    "view of a kind": lambda model, average: nnx.view(model, only=BatchNorm, use_running_average=average),
    "view with dropout": lambda model, average: nnx.view(
        model, use_running_average=average, deterministic=average, raise_if_not_found=False
    ),
    "with_attributes": lambda model, average: nnx.with_attributes(model, use_running_average=average),
}


@pytest.mark.parametrize("idiom", IDIOMS)
def test_every_idiom_of_nnx_sets_the_mode_which_the_argument_overrides(idiom):
    training = IDIOMS[idiom](tiny(), False)
    assert moves_statistics(training) and not moves_statistics(training, train=False)
    evaluating = IDIOMS[idiom](training, True)
    assert not moves_statistics(evaluating) and moves_statistics(evaluating, train=True)


QUICK = ("squeezenet1_1", "mobilenet_v2", "convnext_tiny")  # of each kind; the others together take minutes
networks = pytest.mark.parametrize(
    "arch",
    [
        arch if entry.family == "resnet" or arch in QUICK else pytest.param(arch, marks=pytest.mark.slow)
        for arch, entry in REGISTRY.items()
    ],
)


@cache
def abstract(arch: str) -> nnx.Module:
    return Network(arch, num_classes=7).abstract()


@networks
def test_every_network_of_the_registry_has_the_interface(arch):
    assert isinstance(abstract(arch), ImageClassifier)


@networks
def test_the_head_is_the_classifier(arch):
    model, entry = abstract(arch), REGISTRY[arch]
    head = part(model, entry.head)
    assert model.head == entry.head and isinstance(head, nnx.Linear | Conv) and head.bias.shape == (7,)


@networks
def test_the_first_convolution_has_the_registrys_key_and_sides(arch):
    entry = REGISTRY[arch]
    found = [torchvision_shapes(Network(arch, 7, stem).abstract())[f"{entry.first}.weight"] for stem in get_args(Stem)]
    assert tuple(shape[2] for shape in found) == entry.sides and {shape[1] for shape in found} == {3}


@pytest.mark.parity
@networks
def test_torchvision_has_a_network_of_that_name(arch):
    import torchvision

    assert REGISTRY[arch].torchvision in (None, *torchvision.models.list_models())


def test_help_names_the_arguments():
    names = list(inspect.signature(ResNet18).parameters)
    assert names[:2] == ["num_classes", "stem"] and {"width", "dtype", "norm", "rngs"} <= set(names)


WRONG = [
    ("stem", "caffe", "ValueError"),
    ("norm", "layer", "ValueError"),
    ("num_classes", "ten", "TypeError"),
    ("num_classes", 10.0, "TypeError"),
    ("num_classes", True, "TypeError"),
    ("num_classes", 0, "ValueError"),
    ("rngs", 42, "TypeError"),
]
COMPLAIN = """
import json, sys
from resnet_jax import ResNet18
for argument, value, _ in json.loads(sys.argv[1]):
    try:
        ResNet18(**{argument: value})
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


@pytest.fixture(scope="module")
def complaints() -> list[list[str]]:
    """Return type and message of the error of each wrong argument, from a process without the tests' type checks."""
    command = [sys.executable, "-c", COMPLAIN, json.dumps(WRONG)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("index", range(len(WRONG)), ids=[f"{argument}={value}" for argument, value, _ in WRONG])
def test_a_wrong_argument_is_named_with_its_value(complaints, index):
    argument, value, expected = WRONG[index]
    kind, message = complaints[index]
    assert kind == expected
    assert f"{argument}={value!r}" in message


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match="'classes'"):
        ResNet18(classes=10)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("fc", "kernel"), 0),
        (("layer4", 1, "conv1", "kernel"), 1),
        (("layer3", 0, "downsample", 0, "kernel"), 2),
        (("layer2", 0, "bn1", "scale"), 3),
        (("layer1", 0, "conv1", "kernel"), 4),
        (("conv1", "kernel"), 5),
        (("bn1", "bias"), 5),
    ],
)
def test_the_depth_of_a_weight_grows_from_the_classifier_to_the_stem(path, expected):
    assert nnx.eval_shape(ResNet18).depth(path) == expected
