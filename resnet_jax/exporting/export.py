"""One export: written to a temporary folder, compared with the network, and moved to its place if it agrees."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.errors import writing
from resnet_jax.exporting.folder import export_safetensors
from resnet_jax.exporting.onnx_file import export_onnx
from resnet_jax.exporting.served import Served
from resnet_jax.exporting.stablehlo import export_stablehlo

Write = Callable[[Served, Path], str]
"""From a network and a path to how what was written there compares with the network."""
FORMATS: dict[Literal["stablehlo", "onnx", "safetensors"], Write] = {
    "stablehlo": export_stablehlo,
    "onnx": export_onnx,
    "safetensors": export_safetensors,
}


def export_to(path: Path, served: Served, write: Write, *, folder: bool) -> str:
    """Export a network; what is at `path` is replaced only if the export agrees with the network.

    Args:
        path: of the result.
        served: the network with the input that its users will give it.
        write: one of `FORMATS`, or another function of their form.
        folder: whether the result is a folder, not a file.

    Returns:
        Its size and how it compares with the network, for the user.

    Raises:
        UserError: it can't be written, or gives other logits.
    """
    with _replacing(path, whole_folder=folder) as new:
        verdict = write(served, new)
        size = sum(file.stat().st_size for file in (new, *new.rglob("*")) if file.is_file()) / 1e6
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
            for file in sorted(it for it in Path(temporary).rglob("*") if it.is_file()):
                target = folder / file.relative_to(temporary)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
