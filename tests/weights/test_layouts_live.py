"""Thirty kinds of checkpoints as torch's users save them, two of each: right logits, or refused with the reason."""

import argparse
import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from resnet_jax.classifier.pretrained import load_torchvision
from resnet_jax.classifier.trained import read_trained
from resnet_jax.errors import UserError
from resnet_jax.models.network import Network
from resnet_jax.weights.identify import has_head

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

CLASSES = 7
IMAGES = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
nn = torch.nn

Layout = tuple[object, object]
"""What is saved, and the network whose logits must come out (headless: its encoder), or the words of the refusal."""


def resnet(seed: int) -> "nn.Module":
    """Return torchvision's ResNet-18 with statistics that differ from the initial ones."""
    torch.manual_seed(seed)
    model = torchvision.models.resnet18(num_classes=CLASSES).eval()
    for name, buffer in model.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.uniform_(*((0.5, 1.5) if name.endswith("var") else (-0.2, 0.2)))
    return model


class Holder(nn.Module):
    """A module with others under given names."""

    def __init__(self, **parts: "nn.Module"):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def headless(model: "nn.Module") -> "nn.Module":
    model = copy.deepcopy(model)
    model.fc = nn.Identity()
    return model


def mlp(out: int = 16) -> "nn.Module":
    return nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, out))


def children(model: "nn.Module", count: int = 10) -> "nn.Module":
    return nn.Sequential(*list(model.children())[:count])


def under(prefix: str, model: "nn.Module") -> dict:
    return {prefix + key: value for key, value in model.state_dict().items()}


def cifar_keys(model: "nn.Module") -> dict:
    return {
        key.replace("downsample", "shortcut").replace("fc.", "linear."): value
        for key, value in model.state_dict().items()
    }


def with_fc(fc: "nn.Module", seed: int) -> "nn.Module":
    model = resnet(seed)
    model.fc = fc
    return model


def averaged(model: "nn.Module") -> "nn.Module":
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(resnet(90))
    return average


def optimizer(model: "nn.Module") -> dict:
    return torch.optim.SGD(model.parameters(), 0.1).state_dict()


def layouts(seed: int) -> Iterator[tuple[str, Callable[[], Layout]]]:
    a, b = resnet(seed), resnet(seed + 50)
    linear = nn.Linear(512, CLASSES)
    yield "plain", lambda: (a.state_dict(), a)
    yield "DataParallel", lambda: (nn.DataParallel(a).state_dict(), a)
    yield "torch.compile", lambda: (torch.compile(a).state_dict(), a)
    yield (
        "reference trainer",
        lambda: (
            {"model": a.state_dict(), "optimizer": optimizer(a), "epoch": 3, "args": argparse.Namespace(lr=0.1)},
            a,
        ),
    )
    yield (
        "model and model_ema",
        lambda: ({"model": a.state_dict(), "model_ema": averaged(b).state_dict()}, averaged(b).module),
    )
    yield (
        "timm's state_dict_ema",
        lambda: ({"state_dict": a.state_dict(), "state_dict_ema": b.state_dict(), "arch": "x"}, b),
    )
    yield "SWA alone", lambda: (averaged(a).state_dict(), averaged(a).module)
    yield (
        "Lightning",
        lambda: (
            {
                "state_dict": under("model.", a) | {"criterion.weight": torch.ones(CLASSES)},
                "epoch": 1,
                "hyper_parameters": {},
            },
            a,
        ),
    )
    yield (
        "Lightning, backbone and fc",
        lambda: (Holder(backbone=headless(a), fc=linear).state_dict(), joined(a, linear)),
    )
    yield "encoder.", lambda: (Holder(encoder=a).state_dict(), a)
    yield "net.", lambda: ({"net": under("net.", a), "acc": 95.1, "epoch": 9}, a)
    yield "kuangliu's keys", lambda: ({"net": {f"module.{key}": value for key, value in cifar_keys(a).items()}}, a)
    yield (
        "MoCo v1",
        lambda: (
            {
                "state_dict": under("module.encoder_q.", a)
                | under("module.encoder_k.", b)
                | {"module.queue": torch.ones(7, 9)}
            },
            "encoder_k",
        ),
    )
    yield (
        "MoCo v2, query encoder alone",
        lambda: (under("module.encoder_q.", with_fc(mlp(), seed)), headless(resnet(seed))),
    )
    yield (
        "SimSiam",
        lambda: (
            {"state_dict": nn.DataParallel(Holder(encoder=with_fc(mlp(), seed), predictor=mlp())).state_dict()},
            headless(resnet(seed)),
        ),
    )
    yield (
        "BYOL",
        lambda: (Holder(online=Holder(net=headless(a)), target=Holder(net=headless(b))).state_dict(), "target"),
    )
    yield (
        "DINO",
        lambda: (
            {"student": under("module.backbone.", headless(a)), "teacher": under("backbone.", headless(b))},
            "teacher",
        ),
    )
    yield (
        "SwAV",
        lambda: (
            under("module.", headless(a))
            | {"module.prototypes.weight": torch.ones(30, 128)}
            | under("module.projection_head.", mlp()),
            headless(a),
        ),
    )
    yield (
        "fastai",
        lambda: ({"model": nn.Sequential(children(a, 8), nn.Sequential(mlp())).state_dict(), "opt": {}}, headless(a)),
    )
    yield "Sequential of children", lambda: (children(a, 9).state_dict(), headless(a))
    yield (
        "Sequential with Flatten and fc",
        lambda: (nn.Sequential(*list(a.children())[:9], nn.Flatten(), a.fc).state_dict(), a),
    )
    yield (
        "fc as a Sequential",
        lambda: (with_fc(nn.Sequential(nn.Dropout(), linear), seed).state_dict(), joined(resnet(seed), linear)),
    )
    yield "fc of two layers", lambda: (with_fc(mlp(), seed).state_dict(), headless(resnet(seed)))
    yield "fc without bias", lambda: no_bias(seed)
    yield "no fc", lambda: (headless(a).state_dict(), headless(a))
    yield "one channel", lambda: (one_channel(a).state_dict(), r"conv1\.weight: got \(64, 1, 7, 7\)")
    yield "float8", lambda: ({key: value.to(torch.float8_e4m3fn) for key, value in a.state_dict().items()}, "quantized")
    yield (
        "quantized",
        lambda: ({"conv1.weight": quantized()}, "quantized"),
    )
    yield "half precision", lambda: (copy.deepcopy(a).half().state_dict(), copy.deepcopy(a).half().float())
    yield (
        "deep stem",
        lambda: ({"conv1.0.weight": torch.ones(32, 3, 3, 3)} | headless_layers(a), "the nearest is resnet18d"),
    )
    yield (
        "squeeze and excitation",
        lambda: (a.state_dict() | {"layer1.0.se.fc1.weight": torch.ones(4, 64)}, r"layer1\.0\.se"),
    )
    yield "the module itself", lambda: (a, "which is code")


def joined(model: "nn.Module", linear: "nn.Module") -> "nn.Module":
    model = copy.deepcopy(model)
    model.fc = linear
    return model


def no_bias(seed: int) -> Layout:
    model = with_fc(nn.Linear(512, CLASSES, bias=False), seed)
    return model.state_dict(), model


def quantized() -> "torch.Tensor":
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # torch is about to drop these types
        return torch.quantize_per_tensor(torch.ones(64, 3, 7, 7), 0.1, 0, torch.qint8)


def one_channel(model: "nn.Module") -> "nn.Module":
    model = copy.deepcopy(model)
    model.conv1 = nn.Conv2d(1, 64, 7, bias=False)
    return model


def headless_layers(model: "nn.Module") -> dict:
    return {key: value for key, value in model.state_dict().items() if key.startswith("layer")}


CASES = {f"{name}-{seed}": case for seed in (0, 1) for name, case in layouts(seed)}
assert len(CASES) >= 60


@pytest.fixture(scope="module")
def compute() -> Callable:
    """Return a function from stored weights to logits, or to pooled features if they have no classifier."""
    forward = jax.jit(lambda model, images: (model(images), model.features(images).pooled))

    def logits(trained) -> np.ndarray:
        model = Network("resnet18", CLASSES).build()
        load_torchvision(model, trained.tensors, head="strict" if has_head(trained.tensors, "resnet18") else "fresh")
        return np.asarray(forward(model, IMAGES)[0 if has_head(trained.tensors, "resnet18") else 1])

    return logits


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_gives_the_right_logits_or_is_refused_with_the_reason(tmp_path: Path, compute, name):
    saved, expected = CASES[name]()
    torch.save(saved, tmp_path / "w.pth")
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            read_trained(tmp_path / "w.pth")
        return
    with torch.no_grad():
        reference = expected.eval()(torch.tensor(IMAGES.transpose(0, 3, 1, 2))).numpy()
    got = compute(read_trained(tmp_path / "w.pth"))
    assert got.shape == reference.shape and np.abs(got - reference).max() < 1e-4 * np.abs(reference).max()
