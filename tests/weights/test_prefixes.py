"""Networks beside the ResNets, found in state dicts with torchvision's keys."""

from functools import cache

import numpy as np
import pytest

from resnet_jax.models.network import Network
from resnet_jax.models.registry import REGISTRY
from resnet_jax.weights.identify import has_head, identify
from resnet_jax.weights.prefixes import find_others
from resnet_jax.weights.reading import unwrap
from resnet_jax.weights.torchvision import is_head, torchvision_shapes

OTHERS = [arch for arch, entry in REGISTRY.items() if entry.family != "resnet"]
QUICK = ("squeezenet1_1", "mobilenet_v2", "convnext_tiny")  # of each kind; the others together take minutes
others = pytest.mark.parametrize(
    "arch", [arch if arch in QUICK else pytest.param(arch, marks=pytest.mark.slow) for arch in OTHERS]
)


@cache
def tensors(arch: str) -> dict[str, np.ndarray]:
    shapes = torchvision_shapes(Network(arch, num_classes=7).abstract())
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}


@others
def test_a_network_is_identified_by_its_tensors(arch):
    assert identify(tensors(arch)) == Network(arch, num_classes=7)


@others
def test_a_prefix_is_removed_and_said(arch):
    wrapped = {"state_dict": {f"module.{key}": value for key, value in tensors(arch).items()}}
    found = unwrap(wrapped, "file")
    assert found.tensors.keys() == tensors(arch).keys() and 'removed the prefix "module."' in found.notes


@others
def test_an_encoder_is_identified_without_its_classifier(arch):
    encoder = {key: value for key, value in tensors(arch).items() if not is_head(key, REGISTRY[arch].head)}
    assert identify(encoder).arch == arch and not has_head(encoder, arch)


@pytest.mark.parametrize(
    "arch",
    [
        "convnext_tiny",
        *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("alexnet", "googlenet", "densenet121")),
        pytest.param("preact_resnet18", marks=pytest.mark.slow),
    ],
)
def test_the_small_stem_is_seen_where_its_kernel_has_another_shape(arch):
    shapes = torchvision_shapes(Network(arch, num_classes=7, stem="cifar").abstract())
    assert identify({key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}).stem == "cifar"


def test_googlenets_auxiliary_classifiers_are_left_out_and_said():
    found = unwrap(tensors("googlenet") | {"aux1.fc2.weight": np.zeros((7, 4), np.float32)}, "file")
    assert found.tensors.keys() == tensors("googlenet").keys()
    assert found.notes == ("left out the auxiliary classifiers",)


def test_densenets_keys_of_the_published_file_are_renamed():
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): it
        for key, it in tensors("densenet121").items()
    }
    assert old.keys() != tensors("densenet121").keys()
    (found,) = find_others(old)
    assert found.tensors.keys() == tensors("densenet121").keys()


def test_a_network_that_begins_with_conv1_and_is_no_resnet_is_found_below_a_prefix_and_not_in_its_blocks():
    weight = np.zeros((4, 3, 3, 3), np.float32)
    keys = {"conv1.weight", "blocks.0.conv1.weight", "fc.weight"}
    (found,) = find_others({f"module.{key}": weight for key in keys})
    assert found.prefix == "module." and found.tensors.keys() == keys
