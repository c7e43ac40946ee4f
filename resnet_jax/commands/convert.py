"""`resnet-jax convert`: weights from one format to another."""

import sys
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table

from resnet_jax.commands.usage import AnyArchitecture, Model, Target
from resnet_jax.errors import printable, writing

if TYPE_CHECKING:
    import numpy as np


def convert(
    source: Model,
    target: Target,
    *,
    arch: AnyArchitecture = None,
    report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Convert a trained network; the suffix of the target decides: .pth, .safetensors, or none for a folder.

    Keys and layouts are torchvision's, so torchvision and timm load the result. A weights file keeps its types, bit for
    bit. A folder and .safetensors keep class names and preprocessing, .pth can't.

    Example: resnet-jax convert runs/cifar10-1 resnet18.pth

    Args:
        source: a run folder, a folder of `save_pretrained`, timm or transformers, a .pth or .safetensors file, or a
            published name (see resnet-jax list); FILE#NAME is one of several networks in a file.
        target: a file name that ends in .pth or .safetensors, or a folder.
        arch: architecture that the weights must have; found by their shapes if left out.
        report: list every tensor and, if torchvision is installed, the largest difference to it after each layer.

    Raises:
        UsageError: the target has another suffix.
        UserError: the source can't be read, or the target can't be written.
    """
    from resnet_jax.classifier.classifier import classifier_of
    from resnet_jax.classifier.saving import save_pretrained, write_file
    from resnet_jax.classifier.trained import read_trained
    from resnet_jax.commands.loading import tell
    from resnet_jax.exporting.layers import differences_to_torchvision

    console = Console(soft_wrap=True, highlight=False)
    trained = read_trained(source)
    classifier = tell(source, classifier_of(trained, source, arch))
    lost = None
    with writing(target, "give another path, or free space"):
        if target.suffix:
            target.parent.mkdir(parents=True, exist_ok=True)
            lost = write_file(target, trained)
        else:
            save_pretrained(
                classifier.model, target, class_names=classifier.class_names, preprocessing=classifier.preprocessing
            )
    if report:
        _print_tensors(console, trained.tensors)
        _print_differences(console, differences_to_torchvision(classifier.model, trained.tensors, classifier.network))
    size = sum(file.stat().st_size for file in (target.iterdir() if target.is_dir() else [target])) / 1e6
    line = f"{classifier.network.arch}, {len(trained.tensors)} tensors -> {target} ({size:.1f} MB)"
    console.print(printable(line), markup=False)
    if lost:
        print(printable(lost), file=sys.stderr)


def _print_tensors(console: Console, tensors: "dict[str, np.ndarray]") -> None:
    table = Table("tensor", "shape", "type")
    for key, tensor in tensors.items():
        table.add_row(key, "x".join(map(str, tensor.shape)) or "scalar", str(tensor.dtype))
    console.print(table)


def _print_differences(console: Console, differences: list[tuple[str, float, float]] | str) -> None:
    if isinstance(differences, str):
        console.print(f"differences to torchvision: not measured, {differences}")
        return
    table = Table("layer", "largest difference", "relative to the largest value")
    for name, worst, largest in differences:
        table.add_row(name, f"{worst:.1e}", f"{worst / largest:.1e}")
    console.print(table)
