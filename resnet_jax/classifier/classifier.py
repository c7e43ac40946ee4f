"""A trained network with what its user needs, read from a run folder, a folder, a weights file or the hub."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from resnet_jax.classifier.preprocessing import Preprocessing, TimmSettings, from_timm
from resnet_jax.config import from_dict
from resnet_jax.errors import UserError
from resnet_jax.hardware.sharding import find_devices
from resnet_jax.json_files import Finite, Pixels, Positive, check_json, read_json
from resnet_jax.models.network import Network
from resnet_jax.models.registry import Architecture
from resnet_jax.models.resnet import ResNet
from resnet_jax.weights import hub
from resnet_jax.weights.files import read_weights
from resnet_jax.weights.identify import identify
from resnet_jax.weights.torchvision import assign, to_torchvision

IMAGENET_CLASSES = Path(__file__).parent / "imagenet_classes.txt"
KINDS = (
    f"a run folder (with checkpoints/), a folder with config.json and {hub.FILE}, a weights file or a published name"
)
REMEDY = "restore it from a copy, or train again"
FOLDER_REMEDY = "correct it, or give the weights file alone"


@dataclass(frozen=True)
class Classifier:
    """A trained network, the names of its classes and the preprocessing of its images."""

    model: ResNet
    network: Network
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    info: dict[str, Any]
    """Where it comes from: of a run, the configuration and the step; of a file, what was removed."""
    named: bool = True
    """Whether the class names come with the weights; otherwise they are ImageNet's or numbers, by their count."""


class Info(msgspec.Struct):
    """The metadata of a checkpoint that the user of a network needs."""

    config: dict[str, dict[str, Any]]
    class_names: Annotated[list[str], msgspec.Meta(min_length=1)]
    image_shape: tuple[Pixels, Pixels, Literal[3]]
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]
    score: float | None = None


class Exact(msgspec.Struct):
    """What timm's form has no entry for."""

    resize: Pixels | None = None


class Ours(msgspec.Struct):
    """The further entries of a folder's `config.json`."""

    resnet_jax: Exact = msgspec.field(default_factory=Exact)
    label_names: list[str] | None = None


def load_classifier(source: Path | str, *, arch: Architecture | None = None) -> Classifier:
    """Read a trained network with its class names and preprocessing.

    Args:
        source: a run folder of `train.py`, a folder of `save_pretrained` or of timm, a weights file, or a hub name.
        arch: architecture that the weights must have; any by default.

    Raises:
        UserError: there is no such thing, it can't be read, or JAX can't start its devices.
    """
    path = Path(source)
    if (path / "checkpoints").is_dir():
        classifier = _read_run(path)
    elif (path / "config.json").is_file():
        classifier = _read_folder(path / "config.json", path / hub.FILE)
    elif path.is_dir():
        raise UserError(f"{path} does not hold a trained network: expected {KINDS}")
    elif hub.is_name(str(source)):
        classifier = _read_folder(hub.fetch(str(source), "config.json"), hub.fetch(str(source)))
    elif not path.exists():
        raise UserError(f"there is no file or folder {path}: expected {KINDS}; correct the path")
    else:
        classifier = _read_file(path)
    if arch is not None and classifier.network.arch != arch:
        raise UserError(f"{source} is a {classifier.network.arch}, not a {arch}: leave --arch out, or correct it")
    return classifier


def _read_run(path: Path) -> Classifier:
    from resnet_jax.runs.stored import read_evaluated  # loads Orbax, which the other sources do not need

    find_devices()  # or reading the checkpoint fails for a reason that is not its own
    restored = read_evaluated(path / "checkpoints")
    info: Info = check_json(restored.info, Info, f"the metadata of checkpoint {restored.step} in {path}", REMEDY)
    settings, names = from_dict(info.config).model, tuple(info.class_names)
    network = Network(settings.arch, len(names), settings.stem, settings.width)
    model = network.abstract()
    assign(model, to_torchvision(restored.state["params"]) | to_torchvision(restored.state["batch_stats"]))
    size = min(info.image_shape[:2])
    preprocessing = Preprocessing(info.mean, info.std, image_size=size, resize=size)
    origin = {"config": info.config, "step": restored.step, "best": info.score is not None}
    return Classifier(model, network, names, preprocessing, origin)


def _read_folder(config_path: Path, weights_path: Path) -> Classifier:
    content = read_json(config_path, dict[str, Any], FOLDER_REMEDY)
    name = f"{config_path}, in the form of save_pretrained or timm,"
    settings: TimmSettings = check_json(content.get("pretrained_cfg", content), TimmSettings, name, FOLDER_REMEDY)
    ours: Ours = check_json(content, Ours, name, FOLDER_REMEDY)
    classifier = replace(_read_file(weights_path), preprocessing=from_timm(settings, ours.resnet_jax.resize))
    labels = ours.label_names or settings.label_names
    if labels and len(labels) != len(classifier.class_names):
        raise UserError(
            f"{config_path} names {len(labels)} classes, and the weights have {len(classifier.class_names)}: "
            f"{FOLDER_REMEDY}"
        )
    return replace(classifier, class_names=tuple(labels), named=True) if labels else classifier


def _read_file(path: Path) -> Classifier:
    tensors, notes = read_weights(path)
    network = identify(tensors)
    model = network.abstract()
    assign(model, tensors)
    names, preprocessing = _class_names(network.num_classes), _preprocessing(network)
    return Classifier(model, network, names, preprocessing, {"notes": notes}, named=False)


def _class_names(count: int) -> tuple[str, ...]:
    """Return ImageNet's names for its number of classes, otherwise numbers."""
    if count == 1000:
        return tuple(IMAGENET_CLASSES.read_text().splitlines())
    return tuple(map(str, range(count)))


def _preprocessing(network: Network) -> Preprocessing:
    return Preprocessing() if network.stem == "imagenet" else Preprocessing(image_size=32, resize=32)
