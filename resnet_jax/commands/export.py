"""`resnet-jax export`: a trained network for other programs, loaded again and compared."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from resnet_jax.commands.images import find_images
from resnet_jax.commands.loading import load, name_of
from resnet_jax.commands.usage import AnyArchitecture, Folder, Model, OptionalFile, OptionalFolder, OptionalNumber
from resnet_jax.errors import UsageError, at_least, printable

if TYPE_CHECKING:
    from resnet_jax.exporting.export import Write

Format = Literal["stablehlo", "onnx", "safetensors", "web"]
FOLDERS = ("safetensors", "web")
"""Formats that are a folder; the others are a file."""


def export(
    model: Model,
    *,
    format: Format,
    out: OptionalFile = None,
    arch: AnyArchitecture = None,
    batch_size: Literal["dynamic"] | int = "dynamic",
    layout: Literal["NHWC", "NCHW"] = "NHWC",
    with_preprocessing: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    image_size: OptionalNumber = None,
    int8: OptionalFolder = None,
    runtime: Folder = Path("node_modules/onnxruntime-web"),
    examples: OptionalFolder = None,
) -> None:
    """Export a trained network, load the result again and keep it if it gives the same logits.

    "stablehlo" is a file for CPU, CUDA and TPU that needs only JAX (`jax.export.deserialize(...).call(images)`), with a
    .json file beside it that describes input and output; "onnx" has that in its metadata. Both contain the weights.
    "safetensors" is a folder for a model hub. "web" is a folder for any web server, with a page on which the network
    runs in the browser, by onnxruntime-web (npm install onnxruntime-web@1.30.0): see docs/serve.md.

    Example: resnet-jax export runs/cifar10-1 --format onnx --with-preprocessing

    Args:
        model: a run folder, a folder of `save_pretrained`, timm or transformers, a .pth or .safetensors file, or a
            published name (see resnet-jax list); FILE#NAME is one of several networks in a file.
        format: format of the result; "onnx" and "web" need the extra `onnx`.
        out: path of the result, which is replaced if it exists. By default the model's name, in this folder.
        arch: architecture that the weights must have; found by their shapes if left out.
        batch_size: number of images in a call; "dynamic" accepts any number.
        layout: axes of the images.
        with_preprocessing: accept uint8 images and normalize them; otherwise float32 images that are normalized.
        image_size: height and width of the images, pixels; those of the model by default.
        int8: a folder of images like those to classify: the ONNX file gets 8-bit weights and activations, in the ranges
            that these images show, and a quarter of the size. The likeliest class is compared instead of the logits.
        runtime: folder of the npm package onnxruntime-web, for "web".
        examples: folder whose first 12 images the page of "web" offers; by default, two photographs that come with
            scikit-learn.

    Raises:
        UsageError: the options exclude each other, or a package is missing.
        UserError: the model can't be read, the result can't be written, an operation of the network has no form in
            ONNX, or a logit differs by more than 1e-4 (of logits above 10, by more than 1e-5 of the largest); with
            `int8`, the likeliest class of more than a tenth of the images changes.
    """
    _check(format, batch_size, layout, with_preprocessing, image_size)
    if int8 and format != "onnx":
        raise UsageError(f"--int8: got --format {format}, expected --format onnx; the others keep float32")
    calibration = find_images([str(int8)]) if int8 else []
    path = _path(model, format, out)

    from resnet_jax.exporting.export import export_to, of_size
    from resnet_jax.exporting.served import Served

    write = _writer(model, format, calibration, runtime, examples)
    classifier = load(model, arch)
    if image_size is not None:
        classifier = replace(classifier, preprocessing=of_size(classifier.preprocessing, image_size))
    served = Served(classifier, None if batch_size == "dynamic" else batch_size, layout, with_preprocessing)
    if format == "web":
        served = replace(served, batch_size=1, with_preprocessing=True)
    print(f"exporting {printable(model)} ({classifier.network.arch}) to {format}", flush=True)
    print(f"{printable(str(path))}: {export_to(path, served, write, folder=format in FOLDERS)}", flush=True)


def _writer(
    model: str, format: Format, calibration: Sequence[tuple[str, Path]], runtime: Path, examples: Path | None
) -> "Write":
    """Return the function that writes a format."""
    if format == "web":
        from resnet_jax.exporting.web import export_web, find_runtime
        from resnet_jax.page.examples import read_examples

        return partial(export_web, name=name_of(model), runtime=find_runtime(runtime), examples=read_examples(examples))
    if calibration:
        from resnet_jax.exporting.int8 import export_int8

        return partial(export_int8, images=calibration)
    from resnet_jax.exporting.export import FORMATS

    return FORMATS[format]


def _check(format: str, batch_size: str | int, layout: str, with_preprocessing: bool, image_size: int | None) -> None:
    at_least(1, batch_size=batch_size, image_size=image_size)
    if format in FOLDERS and (batch_size, layout, with_preprocessing) != ("dynamic", "NHWC", False):
        raise UsageError(
            f"--format {format}: got --batch-size, --layout or --with-preprocessing, which are for the other "
            "formats; leave them out"
        )
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if format in ("onnx", "web") and missing:
        raise UsageError(f"--format {format}: {', '.join(missing)} is not installed; pip install {' '.join(missing)}")


def _path(model: str, format: str, out: OptionalFile) -> Path:
    """Return where the export goes: files have the suffix of their format, folders have none."""
    name = name_of(model)
    path = out or Path(name)
    if format in FOLDERS:
        path = out or Path(f"{name}-{format}")
    elif path.suffix != f".{format}":
        path = path.with_name(f"{path.name}.{format}")
    if path.exists() and path.is_dir() != (format in FOLDERS):
        found, expected = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise UsageError(f"--out: {path} is a {found}, expected a {expected} for {format}: give another name")
    return path
