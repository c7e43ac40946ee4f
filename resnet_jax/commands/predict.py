"""`resnet-jax predict`: classes of images, from files, folders or a pipe, as a table or for programs."""

import csv as csv_format
import json as json_format
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.text import Text

from resnet_jax.commands.images import find_images
from resnet_jax.commands.usage import AnyArchitecture, Images, Model, OptionalFolder
from resnet_jax.commands.waiting import waiting
from resnet_jax.data.reading.skipped import OVERLAY
from resnet_jax.errors import UsageError, printable
from resnet_jax.models.cpu.processor import Precision, has_onednn
from resnet_jax.runs.tables import cell

if TYPE_CHECKING:  # it imports JAX
    from resnet_jax.classifier.files import Result

IMAGES_PER_DEVICE = 4  # at least, if the CPU is divided into devices


def predict(
    model: Model,
    images: Images,
    *,
    arch: AnyArchitecture = None,
    top_k: int = 5,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    csv: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    batch_size: int = 8,
    dtype: Precision = "auto",
    int8: OptionalFolder = None,
    explain: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    explain_dir: OptionalFolder = None,
) -> None:
    """Classify images, in the order given; an image that can't be read is reported, and the others are classified.

    Example: resnet-jax predict runs/pets photos 'more/**/*.jpg' --top-k 3 --csv > classes.csv

    Args:
        model: a run folder, a folder of `save_pretrained`, timm or transformers, a .pth or .safetensors file, or a
            published name (see resnet-jax list); FILE#NAME is one of several networks in a file.
        images: files, folders (with their subfolders), patterns such as '*.jpg', or - for a list of these, or an
            image itself, on standard input.
        arch: architecture that the weights must have; found by their shapes if left out.
        top_k: number of classes to show for each image.
        json: print one line with a JSON object for each image, and nothing else.
        csv: print path, rank, index, class, probability and error, one line for each class, and nothing else; control
            characters in names are escaped, and a name that a spreadsheet would take for a formula gets an apostrophe.
        batch_size: images in a step, over all devices together; the results do not depend on it.
        dtype: type of the computation; "auto" is bfloat16 on a CPU with instructions for it (AMX, AVX512-BF16), which
            changes probabilities by about 0.002, and by 0.01 at times; otherwise float32.
        int8: a folder of images like those to classify: compute with 8-bit integers, in the ranges that some of its
            images show. Others of them show how often the likeliest class changes.
        explain: draw where in each image the likeliest class is seen (Grad-CAM), as IMAGE.gradcam.png beside it.
        explain_dir: draw these pictures into this folder instead.

    Raises:
        UsageError: an option's value is out of its range.
        UserError: no image is found, the model can't be read, or a picture can't be written; with `int8`, the processor
            or the network is not fit for it, or the likeliest class of more than a tenth of the images changes.
        SystemExit: with code 1, an image could not be read.
    """
    for option, value in (("--top-k", top_k), ("--batch-size", batch_size)):
        if value < 1:
            raise UsageError(f"{option}: got {value}, expected 1 or more")
    if int8 and dtype != "auto":
        raise UsageError(f"--int8 --dtype {dtype}: got both, expected one of them")
    if json and csv:
        raise UsageError("--json --csv: got both, expected one of them")
    found = find_images(images)
    calibration = find_images([str(int8)]) if int8 else []
    overlays = _overlays([name for name, _ in found], explain_dir) if explain or explain_dir else {}

    size = min(batch_size, 1 << (len(found) - 1).bit_length())  # powers of 2: few programs to compile, and cached ones
    if "jax" not in sys.modules and not has_onednn():  # which uses all cores; JAX reads this when it is imported
        devices = max(min(os.cpu_count() or 1, size // IMAGES_PER_DEVICE), 1)
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(devices))

    from resnet_jax.classifier.files import classify
    from resnet_jax.commands.loading import load

    classifier = load(model, arch)
    precision: Any = dtype
    if calibration:
        from resnet_jax.classifier.calibration import quantize

        with waiting("calibrating with images of --int8", plain=not (json or csv)):
            precision, verdict = quantize(classifier, calibration)
        print(verdict, file=sys.stderr)
    results = classify(classifier, found, batch_size=size, top_k=top_k, overlays=overlays, precision=precision)
    with waiting("compiling the network and reading the first images", plain=not (json or csv)):
        first = next(results)
    write = _write_json if json else _csv_writer() if csv else _table_writer([name for name, _ in found])
    if _write_all(chain([first], results), len(found), write):
        raise SystemExit(1)


def _overlays(paths: Sequence[str], folder: Path | None) -> dict[str, Path]:
    """Return where to draw the overlays: beside the images, or in `folder`, by their paths below a common folder."""
    if folder is None:
        return {path: Path(path + OVERLAY) for path in paths}
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return {path: folder / (os.path.relpath(path, common) + OVERLAY) for path in paths}


def _write_all(results: Iterator[list["Result"]], count: int, write: Callable[["Result"], None]) -> int:
    """Write results as they come, with a progress bar unless they go to the terminal; return how many failed."""
    console, failed = Console(stderr=True), 0
    columns = (BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = sys.stdout.isatty() or not console.is_terminal or count == 1
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, disable=hidden) as bar:
        task = bar.add_task("", total=count)
        for batch in results:
            for result in batch:
                write(result)
                failed += result.error is not None
            sys.stdout.flush()
            bar.advance(task, len(batch))
    return failed


def _write_json(result: "Result") -> None:
    guesses = [{"class": name, "index": index, "probability": share} for index, name, share in result.guesses]
    outcome = {"predictions": guesses} if result.error is None else {"error": result.error}
    print(json_format.dumps({"path": result.path} | outcome))


def _csv_writer() -> Callable[["Result"], None]:
    rows = csv_format.writer(sys.stdout, lineterminator="\n")
    rows.writerow(("path", "rank", "index", "class", "probability", "error"))

    def write(result: "Result") -> None:
        for rank, (index, name, share) in enumerate(result.guesses, 1):
            rows.writerow((cell(result.path), rank, index, cell(name), share, ""))
        if result.error is not None:
            rows.writerow((cell(result.path), "", "", "", "", cell(result.error)))

    return write


def _table_writer(paths: Sequence[str]) -> Callable[["Result"], None]:
    """Write rows for the terminal as they come, in columns of a fixed width."""
    console = Console(highlight=False)
    width = min(max(cell_len(printable(path)) for path in paths), console.width // 2 - 4)

    def write(result: "Result") -> None:
        path = _shortened(printable(result.path), width)
        if result.error is not None:
            console.print(Text.assemble(path, "  ", (f"error: {printable(result.error)}", "red")))
        for rank, (_, name, share) in enumerate(result.guesses):
            row = (
                set_cell_size("" if rank else path, width),
                (f" {share:6.1%} {printable(name)}", "dim" if rank else "bold"),
            )
            console.print(Text.assemble(*row), no_wrap=True, overflow="ellipsis")

    return write


def _shortened(path: str, width: int) -> str:
    """Return a path, without its beginning if it is wider than `width`."""
    while cell_len(path) > width:
        path = "\u2026" + path[2:]
    return path
