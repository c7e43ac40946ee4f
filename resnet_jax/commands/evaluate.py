"""`resnet-jax evaluate`: a trained network on a whole split, every image once."""

import json as json_lines
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from resnet_jax.commands.usage import AnyArchitecture, Model, OptionalFolder, OptionalNumber
from resnet_jax.commands.waiting import waiting
from resnet_jax.config import DataConfig, from_dict
from resnet_jax.errors import UsageError, at_least, printable
from resnet_jax.models.cpu.processor import Precision

if TYPE_CHECKING:
    from resnet_jax.data.dataset import Dataset

LISTED = 20  # classes that are all listed
LOWEST = 10  # classes that are listed of more
NARROW: dict[str, Any] = {"box": SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}


@dataclass(frozen=True)
class EvalData:
    """The images; fields that are left out are as in the training run."""

    source: Literal["tfds", "folder"] | None = None
    """"tfds": a TensorFlow Datasets name; "folder": images in class subfolders of --data.dir."""
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """TFDS name."""
    dir: OptionalFolder = None
    """Folder of the prepared sets, or of the images."""
    split: Literal["test", "val", "train"] = "test"
    """"val" is the part that the training run held out."""
    image_size: OptionalNumber = None
    """Height and width in pixels of what the network sees; images are resized in proportion before the crop."""


def evaluate(
    model: Model,
    *,
    arch: AnyArchitecture = None,
    data: EvalData = EvalData(),
    tta: Literal["none", "flip", "full"] = "none",
    batch_size: int = 500,
    dtype: Precision = "float32",
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Evaluate a trained network: accuracy, loss, calibration, recall, precision and F1 of each class.

    Classes are matched by name; the images may belong to only some of the network's classes.

    Larger images than in the training are often classified better (Touvron et al. 2019, arXiv:1906.06423).

    Example: resnet-jax evaluate runs/cifar10-1 --tta flip

    Example: resnet-jax evaluate runs/imagenet-1 --data.image-size 288

    Args:
        model: a run folder, a folder of `save_pretrained`, timm or transformers, a .pth or .safetensors file, or a
            published name (see resnet-jax list); FILE#NAME is one of several networks in a file.
        arch: architecture that the weights must have; found by their shapes if left out.
        data: the images.
        tta: test-time augmentation: "flip" averages over the mirror image, "full" also over two diagonal shifts.
        batch_size: images in a step, over all devices together; the figures do not depend on it.
        dtype: type of the computation; "auto" is bfloat16 on a CPU with instructions for it, otherwise float32.
        json: print one JSON object and nothing else, with the figures of all classes.

    Raises:
        UsageError: an option's value is out of its range, or the images are not named.
        UserError: the model or the images can't be read, or their classes differ.
    """
    at_least(1, batch_size=batch_size)
    if data.image_size is not None and data.image_size < 1:
        raise UsageError(f"--data.image-size: got {data.image_size}, expected 1 pixel or more")
    from resnet_jax.commands.loading import load

    classifier = load(model, arch)
    if data.image_size is not None:
        classifier = replace(classifier, preprocessing=classifier.preprocessing.at_size(data.image_size))
    figures = {"model": model} | _figures(classifier, data, tta, dtype, batch_size, quiet=json)
    if json:
        print(json_lines.dumps(figures))
    else:
        _print(figures)


def _figures(
    classifier: Any,
    data: EvalData,
    tta: Literal["none", "flip", "full"],
    dtype: Precision,
    batch_size: int,
    *,
    quiet: bool,
) -> dict[str, Any]:
    from resnet_jax.classifier.class_names import match_classes
    from resnet_jax.classifier.predictor import Predictor
    from resnet_jax.training.evaluation import evaluate_predictor
    from resnet_jax.training.images import batches_on_host
    from resnet_jax.training.summary import class_figures, figures_of

    dataset = _read(classifier, data)
    logit_of = match_classes(classifier, dataset.class_names)
    split = getattr(dataset, data.split)
    batch_size = min(batch_size, split.num_images)
    predictor = Predictor(classifier, batch_size=batch_size, tta=tta, precision=dtype)
    with waiting(f"compiling the network and evaluating it on {split.num_images:,} images", plain=not quiet):
        result = evaluate_predictor(
            predictor, batches_on_host(split, batch_size, predictor.mesh.devices.flat[0]), logit_of
        )
    names = list(classifier.class_names)
    for index, name in zip(logit_of, dataset.class_names, strict=True):  # other names, if the weights have none
        names[index] = name
    return {
        **({"step": classifier.info["step"]} if "step" in classifier.info else {}),
        "best": classifier.info.get("best", False),
        "damaged_checkpoints": classifier.info.get("damaged", []),
        "dataset": dataset.name,
        "split": data.split,
        "images": result.count,
        "classes": len(dataset.class_names),
        "network_classes": len(classifier.class_names),
        "tta": tta,
        "dtype": predictor.precision,
        **figures_of(result),
        "class_images": dict(zip(dataset.class_names, result.confusion.sum(1)[logit_of].tolist(), strict=True)),
        **{
            figure: {name: values[name] for name in dataset.class_names}
            for figure, values in class_figures(result, names).items()
        },
        "most_confused": result.most_confused(names),
    }


def _read(classifier: Any, data: EvalData) -> "Dataset":
    """Read the images, prepared as the network needs them.

    Raises:
        UsageError: there are none of the split.
        UserError: they can't be read, or the network does not know their classes.
    """
    import jax

    from resnet_jax.classifier.class_names import match_classes
    from resnet_jax.training.images import open_source, read_source

    config, own = _data_config(classifier, data)
    if data.image_size is not None:
        config = replace(config, image_size=data.image_size, resize=None)
    preprocessing = classifier.preprocessing
    resize = preprocessing.resize if config.image_size == preprocessing.image_size else None
    source = open_source(config, hold_out=own)
    for remark in source.remarks:
        print(printable(remark), file=sys.stderr)
    match_classes(classifier, source.class_names)  # before the images are read
    config = replace(config, resize=resize)
    dataset = read_source(source, config, jax.devices()[0], interpolation=preprocessing.interpolation)
    dataset = dataset.hold_out(config.val_fraction)
    split = getattr(dataset, data.split)
    if split is None or not split.num_images:
        raise UsageError(
            f"--data.split: got {data.split}, but {dataset.name} has no such images; leave it out for test"
        )
    return dataset


def _data_config(classifier: Any, data: EvalData) -> tuple[DataConfig, bool]:
    """Return which images to read, and whether they are those of the training run, with its splits."""
    given = {key: value for key in ("source", "name", "dir") if (value := getattr(data, key)) is not None}
    if data.dir is not None:  # as in the configuration of a run
        given["dir"] = data.dir.expanduser().absolute()
    if "config" in classifier.info:
        trained = from_dict(classifier.info["config"]).data
        if all(getattr(trained, key) == value for key, value in given.items()):
            return trained, True
        if given.keys() == {"name"}:
            given |= {"source": "tfds"} | ({"dir": trained.dir} if trained.source == "tfds" else {})
        elif given.keys() == {"dir"}:
            given |= {"source": trained.source, "name": trained.name}
    elif given.keys() == {"dir"}:
        given["source"] = "folder"
    if "name" not in given and given.get("source") != "folder":
        raise UsageError("--data.name: got nothing, expected the images to evaluate on, such as --data.name cifar10")
    return DataConfig(**given, image_size=classifier.preprocessing.image_size, val_fraction=None), False


def _print(figures: dict[str, Any]) -> None:
    console, table = Console(), Table(show_header=False)
    line = f"{figures['model']} on {figures['images']:,} images of {figures['dataset']}, {figures['split']}"
    if figures["classes"] < figures["network_classes"]:
        line += f"; {figures['classes']} of the network's {figures['network_classes']} classes"
    console.print(printable(line), soft_wrap=True, highlight=False, markup=False)
    for name in ("accuracy", "top5_accuracy"):
        if name in figures:
            table.add_row(name.replace("_", " "), f"{figures[name]:.2%}")
    table.add_row("loss", f"{figures['loss']:.4f}")
    table.add_row("calibration error", f"{figures['calibration_error']:.2%} (|confidence - accuracy|)")
    console.print(table)
    if figures["most_confused"]:
        names = classes_by_f1(figures)
        if len(names) > LISTED:
            console.print(f"The {LOWEST} classes of {len(names)} with the lowest F1 (--json has all):", highlight=False)
            names = names[:LOWEST]
        console.print(class_table(figures, names), "", pair_table(figures), sep="\n")


def classes_by_f1(figures: dict[str, Any]) -> list[str]:
    """Return the classes that have images, that with the lowest F1 first."""
    present = (name for name, images in figures["class_images"].items() if images)
    return sorted(present, key=lambda name: figures["class_f1"][name])


def class_table(figures: dict[str, Any], names: Sequence[str]) -> Table:
    """Return the recall, precision and F1 of classes."""
    table = Table(Column("class", overflow="fold", min_width=5), **NARROW)
    for header in ("images", "recall", "precision", "F1"):
        table.add_column(header, justify="right", no_wrap=True)
    for name in names:
        shares = (figures[key][name] for key in ("class_accuracy", "class_precision", "class_f1"))
        cells = ("-" if share is None else f"{share:.1%}" for share in shares)
        table.add_row(Text(printable(name)), f"{figures['class_images'][name]:,}", *cells)
    return table


def pair_table(figures: dict[str, Any]) -> Table:
    """Return the pairs of classes that are confused most often."""
    names = (Column(header, overflow="fold") for header in ("true class", "predicted as"))
    table = Table(*names, Column("images", justify="right", no_wrap=True), **NARROW)
    for pair in figures["most_confused"]:
        table.add_row(Text(printable(pair["true"])), Text(printable(pair["predicted"])), f"{pair['images']:,}")
    return table
