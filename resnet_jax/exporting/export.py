"""One export: written to a temporary folder, compared with the network, and moved to its place if it agrees."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.errors import writing
from resnet_jax.exporting.folder import export_safetensors
from resnet_jax.exporting.int8 import export_int8
from resnet_jax.exporting.onnx_file import export_onnx
from resnet_jax.exporting.served import Served
from resnet_jax.exporting.stablehlo import export_stablehlo

Format = Literal["stablehlo", "onnx", "safetensors"]
FORMATS: dict[Format, Callable[[Served, Path], str]] = {
    "stablehlo": export_stablehlo,
    "onnx": export_onnx,
    "safetensors": export_safetensors,
}


def export_to(path: Path, served: Served, format: Format, int8: Sequence[tuple[str, Path]] = ()) -> str:
    """Export a network; what is at `path` is replaced only if the export agrees with the network.

    Args:
        path: a file; a folder for "safetensors".
        served: the network with the input that its users will give it.
        format: of the result.
        int8: names and files of images to calibrate 8-bit integers with, for "onnx".

    Returns:
        Its size and how it compares with the network, for the user.

    Raises:
        UserError: it can't be written, or gives other logits.
    """
    write = partial(export_int8, images=int8) if int8 else FORMATS[format]
    with _replacing(path, whole_folder=format == "safetensors") as new:
        verdict = write(served, new)
        files = [new] if new.is_file() else list(new.iterdir())
        size = sum(file.stat().st_size for file in files) / 1e6
    return f"{size:.1f} MB, {verdict}"


def of_size(preprocessing: Preprocessing, image_size: int) -> Preprocessing:
    """Return the preprocessing that crops the same share of the resized image to another size."""
    resize = round(preprocessing.resize * image_size / preprocessing.image_size)
    return replace(preprocessing, image_size=image_size, resize=resize)


@contextmanager
def _replacing(path: Path, *, whole_folder: bool) -> Iterator[Path]:
    """Yield a path to write to; what is written then replaces `path`, unless an error is raised."""
    with writing(path, "give another --out, or free space"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
            yield Path(temporary) if whole_folder else Path(temporary) / path.name
            folder = path if whole_folder else path.parent
            folder.mkdir(exist_ok=True)
            for file in sorted(Path(temporary).iterdir()):
                file.replace(folder / file.name)
