"""`resnet-jax convert`: weights from one form to another."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from jaxtyping import Array, Float
from rich.console import Console
from rich.table import Table

from resnet_jax.errors import writing
from resnet_jax.models.registry import Architecture
from resnet_jax.models.resnet import ResNet, pool


def convert(
    source: tyro.conf.Positional[str],
    target: tyro.conf.Positional[Path],
    *,
    arch: Architecture | None = None,
    report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Converts a trained network: the suffix of the target decides, .pth, .safetensors or none for a folder.

    Keys and layouts are torchvision's, so torchvision and timm load the result; a weights file keeps its types, bit for
    bit.

    Example: resnet-jax convert runs/cifar10-1 resnet18.pth

    Args:
        source: a run folder, a folder of `save_pretrained`, a weights file, or a published name.
        target: a file name that ends in .pth or .safetensors, or a folder.
        arch: what a weights file is of; found by its shapes if left out.
        report: list every tensor and, where torchvision is installed, the largest difference to it after each layer.
    """
    from resnet_jax.classifier.classifier import load_classifier
    from resnet_jax.classifier.saving import save_pretrained
    from resnet_jax.weights.files import read_weights, write_weights
    from resnet_jax.weights.torchvision import to_torchvision

    console = Console(soft_wrap=True)
    classifier = load_classifier(source, arch=arch)
    for note in classifier.info.get("notes", ()):
        console.print(f"{source}: {note}", highlight=False, markup=False)
    stored = read_weights(Path(source)).tensors if Path(source).is_file() else to_torchvision(classifier.model)
    with writing(target, "give another path, or make room"):
        if target.suffix:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_weights(target, stored)
        else:
            save_pretrained(
                classifier.model, target, class_names=classifier.class_names, preprocessing=classifier.preprocessing
            )
    if report:
        _print_tensors(console, stored)
        _print_differences(console, classifier.model, stored, classifier.network.arch)
    size = sum(file.stat().st_size for file in (target.iterdir() if target.is_dir() else [target])) / 1e6
    console.print(f"{classifier.network.arch}, {len(stored)} tensors -> {target} ({size:.1f} MB)", highlight=False)


def layer_outputs(model: ResNet, images: Float[Array, "batch height width 3"]) -> Iterator[tuple[str, jax.Array]]:
    """Yields what torchvision's network calls by the same names, layer by layer, in evaluation."""
    maps = model.conv1(images)
    yield "conv1", maps
    maps = model.bn1(maps, train=False)
    yield "bn1", maps
    maps = jax.nn.relu(maps)
    if model.stem == "imagenet":
        maps = pool(maps)
        yield "maxpool", maps
    for stage in range(1, 5):
        for index, block in enumerate(getattr(model, f"layer{stage}")):
            maps = block(maps, train=False)
            yield f"layer{stage}.{index}", maps
    yield "fc", model.fc(maps.mean((1, 2)))


def _print_tensors(console: Console, tensors: dict[str, np.ndarray]) -> None:
    table = Table("tensor", "shape", "type")
    for key, tensor in tensors.items():
        table.add_row(key, "x".join(map(str, tensor.shape)) or "scalar", str(tensor.dtype))
    console.print(table)


def _print_differences(console: Console, model: ResNet, tensors: dict[str, np.ndarray], arch: str) -> None:
    try:
        import torch
        import torchvision
    except ImportError:
        console.print("differences to torchvision: not measured, it is not installed (pip install torchvision)")
        return
    reference = torchvision.models.get_model(arch, num_classes=tensors["fc.bias"].shape[0])
    if model.stem == "cifar":
        reference.conv1, reference.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity()
    try:
        state = {key: torch.tensor(tensor.astype(np.float32)) for key, tensor in tensors.items()}
        reference.eval().load_state_dict(state, strict=True)
    except RuntimeError:
        console.print("differences to torchvision: not measured, it has no network of this width")
        return
    outputs = {}
    for name, module in reference.named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output.numpy()}))
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    with torch.inference_mode():
        reference(torch.tensor(images.transpose(0, 3, 1, 2)))
    table = Table("layer", "largest difference", "relative to the largest value")
    for name, ours in layer_outputs(model, jax.numpy.asarray(images)):
        theirs = outputs[name] if outputs[name].ndim == 2 else outputs[name].transpose(0, 2, 3, 1)
        worst = float(np.abs(np.asarray(ours, np.float32) - theirs).max())
        table.add_row(name, f"{worst:.1e}", f"{worst / float(np.abs(theirs).max()):.1e}")
    console.print(table)
