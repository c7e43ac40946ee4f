"""`resnet-jax evaluate`: a trained network on a whole split, every image once."""

import dataclasses
import json as json_lines
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from resnet_jax.config import DataConfig
from resnet_jax.errors import UsageError
from resnet_jax.models.registry import Architecture


@dataclass(frozen=True)
class EvalData:
    """The images; what is left out is as in the training run."""

    source: Literal["tfds", "folder"] | None = None
    """"tfds": a TensorFlow Datasets name; "folder": images in class subfolders of --data.dir."""
    name: str | None = None
    """TFDS name."""
    dir: Path | None = None
    """Folder of the prepared sets, or of the images."""
    split: Literal["test", "val", "train"] = "test"
    """"val" is the part that the training run held out."""


def evaluate(
    model: tyro.conf.Positional[str],
    *,
    arch: Architecture | None = None,
    data: EvalData = EvalData(),
    tta: Literal["none", "flip", "full"] = "none",
    batch_size: int = 500,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Evaluates a trained network: accuracy, loss, calibration and the accuracy of each class.

    Example: resnet-jax evaluate runs/cifar10-1 --tta flip

    Args:
        model: a run folder, a folder of `save_pretrained`, a weights file, or a published name.
        arch: what a weights file is of; found by its shapes if left out.
        data: the images.
        tta: test-time augmentation: the mean over the mirror image, "flip", and two diagonal shifts, "full".
        batch_size: images in a step, over all devices together; the figures do not depend on it.
        json: print one JSON object and nothing else.
    """
    from resnet_jax.classifier.pretrained import load_classifier

    classifier = load_classifier(model, arch=arch)
    figures = {"model": model} | _figures(classifier, data, tta, batch_size)
    if json:
        print(json_lines.dumps(figures))
    else:
        _print(figures)


def _figures(classifier, data: EvalData, tta: Literal["none", "flip", "full"], batch_size: int) -> dict[str, Any]:
    import jax
    import numpy as np
    from flax import nnx

    from resnet_jax.data.memory import load
    from resnet_jax.hardware.sharding import make_mesh, replicated
    from resnet_jax.training.evaluation import evaluate as evaluate_batches
    from resnet_jax.training.setup import on_devices, open_source
    from resnet_jax.training.step import make_eval_step
    from resnet_jax.training.summary import figures_of

    config, preprocessing = _data_config(classifier, data), classifier.preprocessing
    resize = None if "config" in classifier.info else preprocessing.resize
    dataset = load(open_source(config), config.image_size, resize=resize)
    if len(dataset.class_names) != classifier.network.num_classes:
        raise UsageError(
            f"--data.name: {dataset.name} has {len(dataset.class_names)} classes and the network "
            f"{classifier.network.num_classes}; evaluate it on images of its own classes"
        )
    dataset = dataset.hold_out(config.val_fraction)
    mesh = make_mesh(jax.device_count())
    graphdef, *weights = nnx.split(classifier.model, nnx.Param, nnx.BatchStat)
    eval_step = make_eval_step(graphdef, preprocessing.normalize, tta=tta)
    weights = jax.device_put(tuple(map(nnx.to_pure_dict, weights)), replicated(mesh))
    result, _ = evaluate_batches(eval_step, weights, on_devices(getattr(dataset, data.split), batch_size, mesh))
    classes = zip(dataset.class_names, result.class_accuracy, strict=True)
    return {
        "dataset": dataset.name,
        "split": data.split,
        "images": result.count,
        "tta": tta,
        **figures_of(result),
        "class_accuracy": {name: None if np.isnan(value) else float(value) for name, value in classes},
    }


def _data_config(classifier, data: EvalData) -> DataConfig:
    """The training run's own images where there is a run, with what the command line changes."""
    given = {key: value for key in ("source", "name", "dir") if (value := getattr(data, key)) is not None}
    if "config" in classifier.info:
        trained = dict(classifier.info["config"]["data"])
        trained["dir"] = Path(trained["dir"]) if trained["dir"] else None
        return dataclasses.replace(DataConfig(**trained), **given)
    if not {"name", "source"} & given.keys():
        raise UsageError("--data.name: got nothing, wanted the images to evaluate on, for example --data.name cifar10")
    if data.split == "val":
        raise UsageError("--data.split: got val, wanted test or train; only a training run has held images out")
    return DataConfig(**given, image_size=classifier.preprocessing.image_size)


def _print(figures: dict[str, Any]) -> None:
    console, table = Console(), Table(show_header=False)
    images = f"{figures['images']:,} images of {figures['dataset']}, {figures['split']}"
    console.print(f"{figures['model']} on {images}", soft_wrap=True, highlight=False, markup=False)
    for name in ("accuracy", "top5_accuracy", "calibration_error"):
        table.add_row(name.replace("_", " "), f"{figures[name]:.2%}")
    table.add_row("loss", f"{figures['loss']:.4f}")
    classes = {name: value for name, value in figures["class_accuracy"].items() if value is not None}
    for name in sorted(classes, key=classes.__getitem__)[:3]:
        table.add_row(f"weak class: {name}", f"{classes[name]:.2%}")
    console.print(table)
