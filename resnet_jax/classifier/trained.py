"""Stored networks, in a run, a folder, a file or on the hub: weights, class names and preprocessing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from resnet_jax.classifier import transformers
from resnet_jax.classifier.preprocessing import Preprocessing, TimmSettings, from_timm
from resnet_jax.config import from_dict
from resnet_jax.errors import UserError
from resnet_jax.hardware.sharding import find_devices
from resnet_jax.json_files import Finite, Pixels, Positive, check_json, read_json
from resnet_jax.models.network import Network
from resnet_jax.models.registry import Stem
from resnet_jax.runs.bucket import is_url
from resnet_jax.runs.fetching import fetched
from resnet_jax.weights import hub
from resnet_jax.weights.files import METADATA, read_metadata
from resnet_jax.weights.identify import has_head, identify
from resnet_jax.weights.published import fetch_file, published
from resnet_jax.weights.reading import read_weights, split_choice
from resnet_jax.weights.torchvision import to_torchvision

KINDS = (
    f"a run folder (with checkpoints/), a folder with config.json and {hub.FILE}, a weights file or a published name"
)
WEIGHTS_FILES = (hub.FILE, f"{hub.FILE}.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
REMEDY = "restore it from a copy, or train again"
FOLDER_REMEDY = "correct it, or give the weights file alone"


class Trained(NamedTuple):
    """A trained network as it is stored."""

    tensors: dict[str, np.ndarray]
    """Weights by torchvision's keys; without `fc` if only the encoder is stored."""
    network: Network
    """The network that they belong to."""
    class_names: tuple[str, ...] | None
    """Names that come with the weights, if any do."""
    preprocessing: Preprocessing
    """Preprocessing that comes with the weights; otherwise ImageNet's, at the size of the stem."""
    info: dict[str, Any]
    """Where it comes from: of a run, the configuration and the step; of a file, what was renamed or left out."""
    described: bool = True
    """Whether the preprocessing comes with the weights."""


class Info(msgspec.Struct):
    """The metadata of a checkpoint that the user of a network needs."""

    config: dict[str, dict[str, Any]]
    class_names: Annotated[list[str], msgspec.Meta(min_length=1)]
    image_shape: tuple[Pixels, Pixels, Literal[3]]
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]
    resize: Pixels | None = None
    score: float | None = None


class Exact(msgspec.Struct):
    """What timm's form has no entry for."""

    resize: Pixels | None = None
    stem: Stem | None = None


class Ours(msgspec.Struct):
    """The further entries of a folder's `config.json`."""

    resnet_jax: Exact = msgspec.field(default_factory=Exact)
    label_names: list[str] | None = None


def read_trained(source: Path | str) -> Trained:
    """Read what is stored of a trained network.

    Args:
        source: a run folder of `train.py`, also gs://BUCKET/FOLDER or s3://BUCKET/FOLDER, a folder of
            `save_pretrained`, timm or transformers, a weights file or a hub name; "#NAME" after the last three chooses
            one of several networks in the file.

    Raises:
        UserError: there is no such thing, it can't be read, or JAX can't start its devices.
    """
    find_devices()  # otherwise reading fails with an error about the file
    file, choice = split_choice(source)
    if is_url(file):
        with fetched(file, weights=True) as copy:
            return _read_run(copy)
    path = Path(file)
    if (path / "checkpoints").is_dir():
        return _read_run(path)
    if (path / "config.json").is_file():
        return _read_folder(path, choice)
    if path.is_dir():
        raise UserError(f"{path} does not hold a trained network: expected {KINDS}")
    if hub.is_name(str(file)):
        return _read_published(str(file), choice)
    if not path.exists():
        why = hub.why_path(str(file))
        raise UserError(f"there is no file or folder {path}{why}: expected {KINDS}; correct the path")
    return _read_file(path, choice)


def _read_run(path: Path) -> Trained:
    from resnet_jax.runs.stored import read_evaluated  # loads Orbax, which the other sources do not need

    restored = read_evaluated(path / "checkpoints")
    info: Info = check_json(restored.info, Info, f"the metadata of checkpoint {restored.step} in {path}", REMEDY)
    settings, names = from_dict(info.config).model, tuple(info.class_names)
    network = Network(settings.arch, len(names), settings.stem, settings.width)
    tensors = to_torchvision(restored.state["params"]) | to_torchvision(restored.state["batch_stats"])
    size = min(info.image_shape[:2])
    preprocessing = Preprocessing(info.mean, info.std, image_size=size, resize=info.resize or size)
    best = info.score is not None and not restored.damaged
    origin = {"config": info.config, "step": restored.step, "best": best, "damaged": list(restored.damaged)}
    return Trained(tensors, network, names, preprocessing, origin)


def _read_published(name: str, choice: str | None) -> Trained:
    if found := published(name):
        trained = _read_tensors(fetch_file(found.file), choice)
        preprocessing = Preprocessing(resize=found.resize, interpolation=found.interpolation)
        return trained._replace(preprocessing=preprocessing, described=True)
    config, _ = hub.fetch(name, "config.json", hub.FILE)
    if "model_type" in read_json(config, dict[str, Any], FOLDER_REMEDY):
        hub.fetch(name, "preprocessor_config.json")
    return _read_folder(config.parent, choice)


def _read_folder(path: Path, choice: str | None) -> Trained:
    content = read_json(path / "config.json", dict[str, Any], FOLDER_REMEDY)
    weights = next((path / file for file in WEIGHTS_FILES if (path / file).is_file()), path / hub.FILE)
    trained = _read_tensors(weights, choice)
    if "model_type" in content:
        return _described(trained, *transformers.read_settings(path, content), None, path / "config.json")
    return _described(trained, *_read_timm(content, path / "config.json"), path / "config.json")


def _read_file(path: Path, choice: str | None) -> Trained:
    trained = _read_tensors(path, choice)
    if METADATA not in (metadata := read_metadata(path)):
        if trained.network.entry.shows_stem:
            return trained
        note = 'took the stem "imagenet": the weights do not show it, and a folder or .safetensors file of ours would'
        return trained._replace(info={"notes": (*trained.info["notes"], note)})
    try:
        content = json.loads(metadata[METADATA])
    except (ValueError, RecursionError) as error:
        raise UserError(f"the metadata of {path} is damaged ({error}): restore the file from a copy") from error
    content = check_json(content, dict[str, Any], f"the metadata of {path}", FOLDER_REMEDY)
    return _described(trained, *_read_timm(content, path), path)


def _read_tensors(path: Path, choice: str | None) -> Trained:
    tensors, notes = read_weights(path if choice is None else f"{path}#{choice}")
    network = identify(tensors)
    preprocessing = Preprocessing() if network.stem == "imagenet" else Preprocessing(image_size=32, resize=32)
    return Trained(tensors, network, None, preprocessing, {"notes": notes}, described=False)


def _read_timm(content: dict[str, Any], path: Path) -> tuple[list[str] | None, Preprocessing, Stem | None]:
    """Return class names, preprocessing and stem of a description in timm's form; names and stem may be missing."""
    name = f"{path}, in the form of save_pretrained or timm,"
    settings: TimmSettings = check_json(content.get("pretrained_cfg", content), TimmSettings, name, FOLDER_REMEDY)
    ours: Ours = check_json(content, Ours, name, FOLDER_REMEDY)
    return ours.label_names or settings.label_names, from_timm(settings, ours.resnet_jax.resize), ours.resnet_jax.stem


def _described(
    trained: Trained, labels: list[str] | None, preprocessing: Preprocessing, stem: Stem | None, path: Path
) -> Trained:
    """Return `trained` with what the description in `path` gives: class names, preprocessing, and a stem unless the
    shapes of the weights show it.

    Raises:
        UserError: it names another number of classes than the weights have.
    """
    classes = trained.network.num_classes
    if labels and has_head(trained.tensors, trained.network.arch) and len(labels) != classes:
        raise UserError(f"{path} names {len(labels)} classes, and the weights have {classes}: {FOLDER_REMEDY}")
    network = trained.network
    if stem is not None and not network.entry.shows_stem:
        network = replace(network, stem=stem)
    names = tuple(labels) if labels else None
    return trained._replace(network=network, class_names=names, preprocessing=preprocessing, described=True)
