"""Published weights by name."""

import os
import subprocess
import sys

import pytest

from resnet_jax.errors import UsageError
from resnet_jax.weights import hub


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("timm/resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
        ("torchvision/resnet18.IMAGENET1K_V1", "timm/resnet18.tv_in1k"),
        ("torchvision/wide_resnet50_2.IMAGENET1K_V2", "timm/wide_resnet50_2.tv2_in1k"),
    ],
)
def test_torchvisions_weights_come_from_timms_repositories(name, repository):
    assert hub.repository(name) == repository


def test_an_unknown_tag_of_torchvision_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"torchvision/resnet18\.IMAGENET1K_V1 or "):
        hub.repository("torchvision/resnet18.V3")


@pytest.mark.parametrize("path", ["weights.pth", "./timm/resnet18", "/timm/resnet18", "a/b/c", "weights/"])
def test_a_path_is_not_a_hub_name(path):
    assert not hub.is_name(path)


def test_a_name_whose_owner_is_a_folder_here_is_a_path_even_if_it_is_mistyped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.is_name("runs/one")
    (tmp_path / "runs").mkdir()
    assert not hub.is_name("runs/one")


def test_a_weights_file_that_does_not_exist_is_a_path():
    assert not hub.is_name("weigths/model.pth") and not hub.is_name("weigths/model.safetensors")


def test_without_a_connection_the_message_names_the_file_to_download(tmp_path):
    code = "from resnet_jax.weights import hub; hub.fetch('torchvision/resnet18.IMAGENET1K_V1')"
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    message = result.stderr.splitlines()[-1]
    assert "torchvision/resnet18.IMAGENET1K_V1 (no connection)" in message
    assert "timm/resnet18.tv_in1k/resolve/main/model.safetensors elsewhere" in message


def test_a_damaged_copy_in_the_cache_is_refused(tmp_path):
    blob = tmp_path / ("0" * 64)
    blob.write_bytes(b"not what was published")
    (tmp_path / "model.safetensors").symlink_to(blob)
    with pytest.raises(hub.UserError, match="delete it and run again"):
        hub.verify(tmp_path / "model.safetensors")


@pytest.mark.network
def test_the_published_weights_are_fetched():
    from resnet_jax.classifier.classifier import load_classifier

    classifier = load_classifier("torchvision/resnet18.IMAGENET1K_V1")
    assert classifier.network.arch == "resnet18" and classifier.class_names[0] == "tench"
