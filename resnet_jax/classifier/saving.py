"""Networks written as folders for a model hub, or as one file with class names and preprocessing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from resnet_jax.classifier.preprocessing import Preprocessing, to_timm
from resnet_jax.classifier.trained import Trained
from resnet_jax.errors import UserError
from resnet_jax.models.convnet import ConvNet, part
from resnet_jax.models.layers.convolution import Conv
from resnet_jax.models.network import Network
from resnet_jax.weights import hub
from resnet_jax.weights.files import METADATA, write_weights
from resnet_jax.weights.identify import has_head, identify
from resnet_jax.weights.spellings import find_resnets
from resnet_jax.weights.torchvision import assign, to_torchvision

IMAGENET = Preprocessing()


def save_pretrained(
    model: ConvNet,
    path: Path | str,
    *,
    class_names: tuple[str, ...] | None = None,
    preprocessing: Preprocessing = IMAGENET,
) -> None:
    """Write a folder for a model hub: `model.safetensors` with torchvision's keys and `config.json` in timm's form.

    timm loads the folder if the stem is ImageNet's and the width 64: `timm.create_model("local-dir:PATH")`.

    Args:
        model: a network of this package; its classifier may be replaced by any module that computes a linear layer.
        path: the folder; made if it does not exist.
        class_names: in the order of the logits.
        preprocessing: of the images.

    Raises:
        ValueError: the number of class names differs from the number of classes.
        UserError: the network is not one of the registry, or its classifier is not linear, so that it could not be
            loaded.
        OSError: it can't be written.
    """
    path, tensors = Path(path), savable(model)
    network = replace(identify(tensors), stem=model.stem)
    if class_names is not None and len(class_names) != network.num_classes:
        raise ValueError(f"got {len(class_names)} class names, expected {network.num_classes}, one for each logit")
    path.mkdir(parents=True, exist_ok=True)
    write_weights(path / hub.FILE, tensors)
    (path / "config.json").write_text(
        json.dumps(_config(network, tensors, class_names, preprocessing), indent=2) + "\n"
    )


def write_file(path: Path, trained: Trained) -> str | None:
    """Write one weights file; if it is a .safetensors file, with class names and preprocessing in its metadata.

    Returns:
        What the format can't hold, as a sentence, if there is anything.

    Raises:
        UsageError: the path has another suffix than .safetensors, .pth or .pt.
        OSError: the file can't be written.
    """
    if not trained.described:
        write_weights(path, trained.tensors)
        return None
    config = _config(trained.network, trained.tensors, trained.class_names, trained.preprocessing)
    write_weights(path, trained.tensors, {METADATA: json.dumps(config)})
    if path.suffix == ".safetensors":
        return None
    lost = (
        "the class names and the preprocessing"
        if trained.network.entry.shows_stem
        else ("the class names, the preprocessing and the stem")
    )
    return f"{path} does not contain {lost}, since its format can't: write a .safetensors file or a folder to keep them"


def savable(model: ConvNet) -> dict[str, np.ndarray]:
    """Return the weights under torchvision's keys, also of a network whose classifier has been replaced.

    Raises:
        UserError: the classifier is not one linear layer.
    """
    tensors, head = to_torchvision(model), part(model, model.head)
    if type(head) in (nnx.Linear, Conv) and f"{model.head}.bias" in tensors:
        return tensors
    refusal = UserError(
        f"can't save a network whose {model.head} is {type(head).__name__}: expected one linear "
        "layer, or a module that computes one; save its weights with Orbax, or only the encoder"
    )
    resnets = [resnet.tensors for resnet in find_resnets(tensors) if not resnet.prefix]
    found = [resnet for resnet in resnets if has_head(resnet, "resnet18")]
    if not found:
        raise refusal
    rebuilt = identify(found[0]).abstract()
    assign(rebuilt, found[0])
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    expected, got = model(images, train=False), rebuilt(images)
    if expected.shape != got.shape or np.abs(expected - got).max() > 1e-3 * np.abs(expected).max():
        raise refusal
    return found[0]


def _config(
    network: Network,
    tensors: Mapping[str, np.ndarray],
    class_names: Sequence[str] | None,
    preprocessing: Preprocessing,
) -> dict[str, Any]:
    """Return the description of a network in the form of timm's `config.json`."""
    head = network.entry.head
    config: dict[str, Any] = {
        "architecture": network.arch,
        "num_classes": network.num_classes,
        "num_features": tensors[f"{head}.weight"].shape[1],
        "pretrained_cfg": {
            **to_timm(preprocessing),
            "num_classes": network.num_classes,
            "first_conv": network.entry.first,
            "classifier": head,
        },
        "resnet_jax": {"stem": network.stem, "width": network.width, "resize": preprocessing.resize},
    }
    return config if class_names is None else config | {"label_names": list(class_names)}
