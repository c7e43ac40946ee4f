"""Trained networks, ours or anyone's, with what their user needs: read from a file, a folder, a run or the hub."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8
from numpy.typing import ArrayLike

from resnet_jax.data.augment import normalize
from resnet_jax.data.reading.images import decode_rgb
from resnet_jax.errors import UserError
from resnet_jax.models.registry import REGISTRY, Architecture, Network
from resnet_jax.models.resnet import ResNet
from resnet_jax.runs.stored import read_evaluated
from resnet_jax.weights import hub
from resnet_jax.weights.files import read_weights, write_weights
from resnet_jax.weights.torchvision import Misfit, assign, is_head, to_torchvision, torchvision_shapes

IMAGENET_CLASSES = Path(__file__).parent / "imagenet_classes.txt"
Source = Mapping[str, ArrayLike] | Path | str


@dataclass(frozen=True)
class Preprocessing:
    """From an image file to what the network takes; the defaults are ImageNet's."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Of the channels, in units of 0 to 1."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Standard deviation, likewise."""
    image_size: int = 224
    """Side of the square that the network sees, pixels."""
    resize: int = 256
    """Length that the shorter side is resized to before the square is cropped from the centre, pixels."""

    def decode(self, encoded: bytes | Path) -> UInt8[np.ndarray, "size size 3"]:
        """Decodes, resizes and crops an image file."""
        return decode_rgb(encoded, self.image_size, resize=self.resize)

    def normalize(
        self, images: UInt8[Array | np.ndarray, "batch height width 3"]
    ) -> Float[Array, "batch height width 3"]:
        """Maps decoded images to what the network takes; on the device, within `jit` or not."""
        return normalize(jnp.asarray(images), np.array(self.mean, np.float32), np.array(self.std, np.float32))


@dataclass(frozen=True)
class Classifier:
    """A trained network, the names of its classes and the preprocessing of its images."""

    model: ResNet
    network: Network
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    info: dict[str, Any]
    """Where it comes from: of a run, the configuration and the step; of a file, what was taken off."""


def load_torchvision(model: ResNet, source: Source, *, head: Literal["strict", "fresh"] = "strict") -> tuple[str, ...]:
    """Sets the weights of `model`, in place, from weights with torchvision's keys.

    Args:
        model: a network of this package, or an abstract one (`nnx.eval_shape`).
        source: a state dict, the path of a .pth or .safetensors file, or a published model's name such as
            "torchvision/resnet18.IMAGENET1K_V1" or "timm/resnet18.a1_in1k".
        head: "strict" wants the classifier to fit; "fresh" leaves `model.fc` as it is.

    Returns:
        What was taken off around the tensors, such as a prefix `module.`; a sentence each.

    Raises:
        UserError: the source can't be read, or its tensors don't fit; `model` is unchanged then.
    """
    tensors, notes = _read(source)
    try:
        assign(model, tensors, head=head)
    except Misfit as misfit:
        raise UserError(f"{misfit}; {_advice(model, tensors)}") from None
    return notes


def from_pretrained(
    arch: Architecture, source: Source, *, num_classes: int | None = None, dtype: DTypeLike = jnp.float32
) -> ResNet:
    """Builds a network with the weights of `source`.

    Args:
        arch: member of the family; its width, stem and number of classes are those of the weights.
        source: as for `load_torchvision`; or a run folder, or a folder of `save_pretrained`.
        num_classes: another number than that of the weights gives the network a fresh classifier.
        dtype: of the computation.

    Raises:
        UserError: the source can't be read, or is of another architecture.
    """
    if isinstance(source, str | Path) and Path(source).is_dir():
        source = to_torchvision(load_classifier(source, arch=arch).model)
    tensors, _ = _read(source)
    network = _sized(arch, tensors)
    if num_classes is None or num_classes == network.num_classes:
        model = network.abstract(dtype=dtype)
        load_torchvision(model, tensors)
    else:
        model = replace(network, num_classes=num_classes).build(dtype=dtype)
        load_torchvision(model, tensors, head="fresh")
    return model


def save_pretrained(
    model: ResNet,
    path: Path | str,
    *,
    class_names: tuple[str, ...] | None = None,
    preprocessing: Preprocessing = Preprocessing(),
) -> None:
    """Writes a folder for a model hub: `model.safetensors` in torchvision's keys and `config.json` in timm's form.

    timm loads the folder where the stem is ImageNet's and the width 64: `timm.create_model("local-dir:PATH")`.

    Args:
        model: a network of this package.
        path: the folder; made if it does not exist.
        class_names: in the order of the logits.
        preprocessing: of the images.

    Raises:
        ValueError: the class names are not as many as the classes.
        OSError: it can't be written.
    """
    path, tensors = Path(path), to_torchvision(model)
    network = identify(tensors)
    if class_names is not None and len(class_names) != network.num_classes:
        raise ValueError(f"got {len(class_names)} class names, wanted {network.num_classes}, one for each logit")
    path.mkdir(parents=True, exist_ok=True)
    size = preprocessing.image_size
    config = {
        "architecture": network.arch,
        "num_classes": network.num_classes,
        "num_features": tensors["fc.weight"].shape[1],
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "interpolation": "bilinear",
            "crop_pct": size / preprocessing.resize,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "num_classes": network.num_classes,
            "first_conv": "conv1",
            "classifier": "fc",
        },
        "resnet_jax": {"stem": network.stem, "width": network.width, "resize": preprocessing.resize},
    }
    if class_names is not None:
        config["label_names"] = list(class_names)
    write_weights(path / "model.safetensors", tensors)
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_classifier(source: Path | str, *, arch: Architecture | None = None) -> Classifier:
    """Reads a trained network with its class names and preprocessing.

    Args:
        source: a run folder of `train.py`, a folder of `save_pretrained` or of timm, a weights file, or a hub name.
        arch: what a weights file is of; None finds it by the shapes.

    Raises:
        UserError: there is no such thing, or it can't be read.
    """
    path = Path(source)
    if (path / "checkpoints").is_dir():
        classifier = _read_run(path)
    elif (path / "config.json").is_file():
        classifier = _read_folder(path / "config.json", path / hub.FILE)
    elif path.is_dir():
        raise UserError(
            f"{path} is no trained network: wanted a run folder (with checkpoints/), a folder with config.json and "
            f"{hub.FILE}, or a weights file"
        )
    elif hub.is_name(str(source)):
        classifier = _read_folder(hub.fetch(str(source), "config.json"), hub.fetch(str(source)))
    else:
        classifier = _read_file(path)
    if arch is not None and classifier.network.arch != arch:
        raise UserError(f"{source} is a {classifier.network.arch} and no {arch}: leave --arch out, or correct it")
    return classifier


def identify(tensors: Mapping[str, Any]) -> Network:
    """Finds the network that a state dict is of, by its keys and shapes.

    Raises:
        UserError: it is none of this family; the message names the nearest.
    """
    nearest = _nearest(tensors)
    if nearest is None:
        raise UserError(
            f"the {len(tensors)} tensors are of no ResNet in torchvision's keys: wanted conv1.weight, "
            f"layer1.0.conv1.weight, ..., fc.weight, and got {', '.join(sorted(tensors)[:4])}"
        )
    network, faults = nearest
    if faults:
        raise UserError(
            f"the weights are of no network of this family; the nearest is {network.arch}, from which {len(faults)} "
            f"tensors differ, such as {faults[0]}"
        )
    return network


def _nearest(tensors: Mapping[str, Any]) -> tuple[Network, list[str]] | None:
    """The network that differs in the fewest tensors, and those."""
    shapes = {key: np.shape(value) for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
    if "conv1.weight" not in shapes:
        return None
    found = {}
    for arch in REGISTRY:
        network = _sized(arch, tensors)
        try:
            wanted = _shapes(network)
        except ValueError:  # of this width, the ResNeXts have no whole groups
            continue
        found[network] = sorted(key for key in wanted.keys() | shapes.keys() if wanted.get(key) != shapes.get(key))
        if not found[network]:
            break
    return min(found.items(), key=lambda item: len(item[1]))


@cache
def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    return torchvision_shapes(network.abstract())


def _sized(arch: Architecture, tensors: Mapping[str, Any]) -> Network:
    """The network of this architecture with the width, stem and classes of the tensors, as far as they show them."""
    first, last = (np.shape(tensors.get(key, np.empty(0))) for key in ("conv1.weight", "fc.weight"))
    return Network(
        arch,
        num_classes=last[0] if len(last) == 2 else 1000,
        stem="cifar" if len(first) == 4 and first[2] == 3 else "imagenet",
        width=first[0] if len(first) == 4 else 64,
    )


def _advice(model: ResNet, tensors: Mapping[str, Any]) -> str:
    nearest = _nearest(tensors)
    if nearest is None:
        return "they are of no ResNet in torchvision's keys; give the state dict of one"
    network, faults = nearest
    called = f"{network.arch} with num_classes={network.num_classes}, stem={network.stem!r}, width={network.width}"
    shapes = torchvision_shapes(model)
    differing = {key for key, shape in shapes.items() if shape != np.shape(tensors.get(key, np.empty(0)))}
    if differing and all(map(is_head, differing)):
        return (
            f'build the model with num_classes={network.num_classes}, or give head="fresh" to keep the new classifier'
        )
    return f"the nearest architecture is {called}" + (f", but for {len(faults)} tensors" if faults else ": build that")


def _read(source: Source) -> tuple[Mapping[str, ArrayLike], tuple[str, ...]]:
    if isinstance(source, Mapping):
        return source, ()
    if isinstance(source, str) and hub.is_name(source):
        source = hub.fetch(source)
    return read_weights(Path(source))


def _read_run(path: Path) -> Classifier:
    restored = read_evaluated(path / "checkpoints")
    info, settings = restored.info, restored.info["config"]["model"]
    names = tuple(info["class_names"])
    network = Network(settings["arch"], len(names), settings["stem"], settings["width"])
    model = network.abstract()
    assign(model, to_torchvision(restored.state["params"]) | to_torchvision(restored.state["batch_stats"]))
    size = min(info["image_shape"][:2])
    preprocessing = Preprocessing(tuple(info["mean"]), tuple(info["std"]), image_size=size, resize=size)
    return Classifier(model, network, names, preprocessing, {"config": info["config"], "step": restored.step})


def _read_folder(config_path: Path, weights_path: Path) -> Classifier:
    try:
        config = json.loads(config_path.read_text())
        settings, ours = config.get("pretrained_cfg", config), config.get("resnet_jax", {})
        size = settings["input_size"][1]
        resize = ours.get("resize") or int(size / settings["crop_pct"])
        preprocessing = Preprocessing(tuple(settings["mean"]), tuple(settings["std"]), size, resize)
        labels = config.get("label_names") or settings.get("label_names")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{config_path} is not written as save_pretrained or timm write it ({error!r}): correct it, or give the "
            "weights file alone"
        ) from error
    classifier = _read_file(weights_path)
    names = tuple(labels) if labels else classifier.class_names
    return replace(classifier, class_names=names, preprocessing=preprocessing)


def _read_file(path: Path) -> Classifier:
    tensors, notes = read_weights(path)
    network = identify(tensors)
    model = network.abstract()
    assign(model, tensors)
    return Classifier(model, network, _class_names(network.num_classes), _preprocessing(network), {"notes": notes})


def _class_names(count: int) -> tuple[str, ...]:
    """ImageNet's names for its number of classes, else numbers."""
    if count == 1000:
        return tuple(IMAGENET_CLASSES.read_text().splitlines())
    return tuple(map(str, range(count)))


def _preprocessing(network: Network) -> Preprocessing:
    return Preprocessing() if network.stem == "imagenet" else Preprocessing(image_size=32, resize=32)
