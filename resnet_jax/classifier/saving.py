"""Networks written as folders for a model hub."""

import json
from pathlib import Path
from typing import Any

from resnet_jax.classifier.preprocessing import Preprocessing, to_timm
from resnet_jax.models.resnet import ResNet
from resnet_jax.weights import hub
from resnet_jax.weights.files import write_weights
from resnet_jax.weights.identify import identify
from resnet_jax.weights.torchvision import to_torchvision

IMAGENET = Preprocessing()


def save_pretrained(
    model: ResNet,
    path: Path | str,
    *,
    class_names: tuple[str, ...] | None = None,
    preprocessing: Preprocessing = IMAGENET,
) -> None:
    """Write a folder for a model hub: `model.safetensors` with torchvision's keys and `config.json` in timm's form.

    timm loads the folder if the stem is ImageNet's and the width 64: `timm.create_model("local-dir:PATH")`.

    Args:
        model: a network of this package.
        path: the folder; made if it does not exist.
        class_names: in the order of the logits.
        preprocessing: of the images.

    Raises:
        ValueError: the number of class names differs from the number of classes.
        OSError: it can't be written.
    """
    path, tensors = Path(path), to_torchvision(model)
    network = identify(tensors)
    if class_names is not None and len(class_names) != network.num_classes:
        raise ValueError(f"got {len(class_names)} class names, expected {network.num_classes}, one for each logit")
    path.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "architecture": network.arch,
        "num_classes": network.num_classes,
        "num_features": tensors[f"{model.head}.weight"].shape[1],
        "pretrained_cfg": {
            **to_timm(preprocessing),
            "num_classes": network.num_classes,
            "first_conv": "conv1",
            "classifier": model.head,
        },
        "resnet_jax": {"stem": network.stem, "width": network.width, "resize": preprocessing.resize},
    }
    if class_names is not None:
        config["label_names"] = list(class_names)
    write_weights(path / hub.FILE, tensors)
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
