"""`resnet-jax export`: a trained network for other programs, loaded again and compared."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.export
import numpy as np
import tyro

from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.classifier.saving import save_pretrained
from resnet_jax.errors import UsageError, UserError, at_least, writing
from resnet_jax.exporting.onnx_graph import onnx_graph
from resnet_jax.exporting.served import Layout, Served, compare
from resnet_jax.models.registry import Architecture
from resnet_jax.weights.torchvision import to_torchvision

PLATFORMS = ("cpu", "cuda", "tpu")
CLEAN_PROCESS = """
import sys
sys.modules["resnet_jax"] = None  # makes its import an error
import numpy, jax.export
artefact, *pairs = sys.argv[1:]
with open(artefact, "rb") as file:
    network = jax.export.deserialize(bytearray(file.read()))
for images, logits in zip(pairs[::2], pairs[1::2]):
    numpy.save(logits, network.call(numpy.load(images)))
"""


def export(
    model: tyro.conf.Positional[str],
    *,
    format: Literal["stablehlo", "onnx", "safetensors"],
    out: Path | None = None,
    arch: Architecture | None = None,
    batch_size: Literal["dynamic"] | int = "dynamic",
    layout: Layout = "NHWC",
    with_preprocessing: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    image_size: int | None = None,
) -> None:
    """Exports a trained network, and keeps the result if it gives the same logits once loaded again.

    "stablehlo" is a file for CPU, CUDA and TPU that needs JAX alone (`jax.export.deserialize(...).call(images)`), with
    a .json beside it that says what goes in and comes out; "onnx" has that in its metadata. Both hold the weights.
    "safetensors" is a folder for a model hub.

    Example: resnet-jax export runs/cifar10-1 --format onnx --with-preprocessing

    Args:
        model: a run folder, a folder of `save_pretrained`, a weights file, or a published name.
        format: of the result; "onnx" needs the extra `onnx`.
        out: where it goes; what is there is replaced. Left out: the model's name, in this folder.
        arch: what a weights file is of; found by its shapes if left out.
        batch_size: images at a time; "dynamic" takes any number.
        layout: axes of the images.
        with_preprocessing: take uint8 images and normalise them; else float32, normalised already.
        image_size: side of the images, pixels; the model's own if left out.

    Raises:
        UsageError: the options don't go together, or a package is missing.
        UserError: the model can't be read, the result can't be written, or a logit differs by more than 1e-4 (where
            they reach beyond 10, by more than 1e-5 of the largest).
    """
    _check(format, batch_size, layout, with_preprocessing, image_size)
    path = _path(model, format, out)
    classifier = load_classifier(model, arch=arch)
    if image_size is not None:
        classifier = replace(classifier, preprocessing=_of_size(classifier.preprocessing, image_size))
    served = Served(classifier, None if batch_size == "dynamic" else batch_size, layout, with_preprocessing)
    with _replacing(path, whole_folder=format == "safetensors") as new:
        print(f"exporting {model} ({classifier.network.arch}) to {format}", flush=True)
        verdict = FORMATS[format](served, new)
        files = [new] if new.is_file() else list(new.iterdir())
        size = sum(file.stat().st_size for file in files) / 1e6
    print(f"{path}: {size:.1f} MB, {verdict}", flush=True)


def export_stablehlo(served: Served, path: Path) -> str:
    """Writes the artefact and a description beside it; returns how it compares in a process with JAX alone.

    Source: jax.export, https://docs.jax.dev/en/latest/export/export.html
    """
    artefact = jax.export.export(jax.jit(served.logits), platforms=PLATFORMS)(served.images())
    path.write_bytes(artefact.serialize())
    path.with_name(f"{path.name}.json").write_text(json.dumps(served.description(), indent=2) + "\n")
    print("checking in a process that has JAX and the file alone", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        return compare(served, lambda batches: _run_in_clean_process(path, batches, Path(folder)))


def export_onnx(served: Served, path: Path) -> str:
    """Writes the graph with the description in its metadata, as JSON; returns how it compares in onnxruntime."""
    import onnx
    import onnxruntime

    preprocessing = served.classifier.preprocessing
    mean, std = (np.asarray(each, np.float32) for each in (preprocessing.mean, preprocessing.std))
    graph = onnx_graph(
        served.classifier.model,
        image_size=preprocessing.image_size,
        batch_size=served.batch_size,
        layout=served.layout,
        normalization=(mean, std) if served.with_preprocessing else None,
    )
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in served.description().items()})
    onnx.save(graph, path)
    print("checking in onnxruntime", flush=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return compare(served, lambda batches: [session.run(["logits"], {"images": it})[0] for it in batches])


def export_safetensors(served: Served, path: Path) -> str:
    """Writes a folder as `save_pretrained` does, which must read back bit for bit."""
    written = served.classifier
    save_pretrained(written.model, path, class_names=written.class_names, preprocessing=written.preprocessing)
    print("checking that it reads back bit for bit", flush=True)
    read = load_classifier(path)
    tensors, again = ({key: it.tobytes() for key, it in to_torchvision(each.model).items()} for each in (written, read))
    same = (written.class_names, written.preprocessing) == (read.class_names, read.preprocessing)
    if not same or tensors != again:
        raise UserError(f"{path} does not read back as it was written: the disk may be damaged, give another --out")
    return "read back bit for bit"


FORMATS = {"stablehlo": export_stablehlo, "onnx": export_onnx, "safetensors": export_safetensors}


def _run_in_clean_process(artefact: Path, batches: list[np.ndarray], folder: Path) -> list[np.ndarray]:
    files = [(folder / f"images{number}.npy", folder / f"logits{number}.npy") for number in range(len(batches))]
    for (images, _), batch in zip(files, batches, strict=True):
        np.save(images, batch)
    command = [
        sys.executable,
        "-P",
        "-c",
        CLEAN_PROCESS,
        str(artefact),
        *(str(file) for pair in files for file in pair),
    ]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}  # of a GPU, this process holds the memory
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise UserError(f"the artefact does not run in a process that has JAX alone: {reason}; reinstall JAX")
    return [np.load(logits) for _, logits in files]


def _check(format: str, batch_size: str | int, layout: str, with_preprocessing: bool, image_size: int | None) -> None:
    at_least(1, batch_size=batch_size, image_size=image_size)
    if format == "safetensors" and (batch_size, layout, with_preprocessing) != ("dynamic", "NHWC", False):
        raise UsageError(
            "--format safetensors holds weights and no input: leave out --batch-size, --layout and --with-preprocessing"
        )
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if format == "onnx" and missing:
        raise UsageError(f"--format onnx needs {', '.join(missing)}: pip install 'resnet-jax[onnx]'")


def _path(model: str, format: str, out: Path | None) -> Path:
    """Where the export goes: files have the suffix of their format, folders have none."""
    name = Path(model).resolve().name
    name = Path(name).stem if name.endswith((".pth", ".pt", ".safetensors")) else name
    path = out or Path(name)
    if format == "safetensors":
        path = out or Path(f"{name}-safetensors")
    elif path.suffix != f".{format}":
        path = path.with_name(f"{path.name}.{format}")
    if path.exists() and path.is_dir() != (format == "safetensors"):
        got, wanted = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise UsageError(f"--out: {path} is a {got}, and {format} is a {wanted}: give another name")
    return path


def _of_size(preprocessing: Preprocessing, image_size: int) -> Preprocessing:
    """The same share of the resized image, cropped to another size."""
    resize = round(preprocessing.resize * image_size / preprocessing.image_size)
    return replace(preprocessing, image_size=image_size, resize=resize)


@contextmanager
def _replacing(path: Path, *, whole_folder: bool) -> Iterator[Path]:
    """A path to write to, and beside; all that is there then takes the place of `path`, unless something is raised."""
    with writing(path, "give another --out, or make room"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
            yield Path(temporary) if whole_folder else Path(temporary) / path.name
            folder = path if whole_folder else path.parent
            folder.mkdir(exist_ok=True)
            for file in sorted(Path(temporary).iterdir()):
                file.replace(folder / file.name)
