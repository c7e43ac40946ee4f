"""Weights that PyTorch trained and saved: `pytest -m parity`, with the parity extra."""

from collections import OrderedDict
from copy import deepcopy
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import resnet_jax
from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.commands.convert import convert
from resnet_jax.data.memory import load
from resnet_jax.data.source import open_tfds
from resnet_jax.models.registry import REGISTRY
from resnet_jax.weights.reading import read_weights

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return torchvision's ResNet-18 after two epochs on the digits at 64x64, its file, and the test images."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        data = load(open_tfds("digits", folder), 64)
    preprocessing = Preprocessing()
    images, test_images = (
        np.asarray(preprocessing.normalize(np.array(split.images))) for split in (data.train, data.test)
    )
    labels = torch.from_numpy(np.array(data.train.labels)).long()
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9, nesterov=True)
    for _ in range(2):
        for indices in torch.randperm(len(labels)).split(64):
            batch = torch.from_numpy(images[indices.numpy()].transpose(0, 3, 1, 2).copy())
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(batch), labels[indices]).backward()
            optimizer.step()
    torch.save({"state_dict": model.eval().state_dict(), "epoch": 2}, folder / "resnet18.pth")
    with torch.inference_mode():
        logits = model(torch.from_numpy(test_images.transpose(0, 3, 1, 2).copy())).numpy()
    return folder / "resnet18.pth", model, test_images, logits


def test_every_test_image_gets_torchs_logits_and_class(trained):
    path, _, images, expected = trained
    got = np.asarray(load_classifier(path).model(jnp.asarray(images)))
    assert np.abs(got - expected).max() / np.abs(expected).max() < 1e-4
    assert np.array_equal(got.argmax(1), expected.argmax(1)) and len(got) == 360


def test_a_trained_state_dict_is_returned_bit_for_bit_with_its_counters(trained):
    path, model, *_ = trained
    returned = resnet_jax.to_torchvision(resnet_jax.from_pretrained("resnet18", path))
    state = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    assert state["bn1.num_batches_tracked"] == 46
    assert returned.keys() == state.keys()
    assert all(returned[k].dtype == v.dtype and returned[k].tobytes() == v.tobytes() for k, v in state.items())


DEEPER = ("resnet34", "resnet101", "resnet152", "wide_resnet101_2", "resnext101_32x8d", "resnext101_64x4d", "vgg16_bn")
"""Networks whose files are as those of shallower ones."""


@pytest.mark.parametrize("arch", [arch for arch, it in REGISTRY.items() if it.torchvision and arch not in DEEPER])
def test_torchvision_loads_the_file_of_a_network_strictly(arch, tmp_path):
    options = {"num_classes": 7} | ({"aux_logits": False, "init_weights": True} if arch == "googlenet" else {})
    reference = torchvision.models.get_model(arch, **options)
    torch.save(reference.state_dict(), tmp_path / "theirs.pth")
    resnet_jax.save_pretrained(resnet_jax.from_pretrained(arch, tmp_path / "theirs.pth"), tmp_path / "ours")
    convert(str(tmp_path / "ours"), tmp_path / "ours.pth")
    back = deepcopy(reference)
    for tensor in back.state_dict().values():
        tensor.zero_()
    state = OrderedDict(torch.load(tmp_path / "ours.pth", weights_only=True))
    state._metadata = {"": {"version": 2}}  # torchvision's MNASNet refuses a dictionary without it
    back.load_state_dict(state, strict=True)
    expected, got = reference.state_dict(), back.state_dict()
    assert all(torch.equal(got[key], tensor) and got[key].dtype == tensor.dtype for key, tensor in expected.items())


def test_the_report_finds_the_layers_equal(trained, tmp_path, capsys):
    convert(str(trained[0]), tmp_path / "w.safetensors", report=True)
    out = capsys.readouterr().out
    assert "layer4.1" in out and "not measured" not in out
    assert len(read_weights(Path(tmp_path / "w.safetensors")).tensors) == 122
