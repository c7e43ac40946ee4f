"""Published or trained weights into networks of this package."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.errors import UserError
from resnet_jax.models.registry import Architecture
from resnet_jax.models.resnet import ResNet
from resnet_jax.weights import hub
from resnet_jax.weights.files import read_weights
from resnet_jax.weights.identify import advice, sized
from resnet_jax.weights.torchvision import Misfit, assign, to_torchvision

Source = Mapping[str, ArrayLike] | Path | str


def load_torchvision(model: ResNet, source: Source, *, head: Literal["strict", "fresh"] = "strict") -> tuple[str, ...]:
    """Set the weights of `model`, in place, from weights with torchvision's keys.

    Args:
        model: a network of this package, or an abstract one (`nnx.eval_shape`).
        source: a state dict, the path of a .pth or .safetensors file, or a published model's name such as
            "torchvision/resnet18.IMAGENET1K_V1" or "timm/resnet18.a1_in1k".
        head: "strict": the classifier must fit; "fresh": the model keeps its own classifier.

    Returns:
        What was removed around the tensors, such as a prefix `module.`; a sentence each.

    Raises:
        UserError: the source can't be read, or its tensors don't fit; `model` is unchanged then.
    """
    tensors, notes = _read(source)
    try:
        assign(model, tensors, head=head)
    except Misfit as misfit:
        raise UserError(f"{misfit}; {advice(model, tensors)}") from None
    return notes


def from_pretrained(
    arch: Architecture, source: Source, *, num_classes: int | None = None, dtype: DTypeLike = jnp.float32
) -> ResNet:
    """Build a network with the weights of `source`.

    Args:
        arch: name of the network; its width, stem and number of classes are those of the weights.
        source: as for `load_torchvision`; or a run folder, or a folder of `save_pretrained`.
        num_classes: with another number than that of the weights, the network gets a fresh classifier.
        dtype: type of the computation.

    Raises:
        UserError: the source can't be read, or belongs to another architecture.
    """
    if isinstance(source, str | Path) and Path(source).is_dir():
        source = to_torchvision(load_classifier(source, arch=arch).model)
    tensors, _ = _read(source)
    network = sized(arch, tensors)
    if num_classes is None or num_classes == network.num_classes:
        model = network.abstract(dtype=dtype)
        load_torchvision(model, tensors)
    else:
        model = replace(network, num_classes=num_classes).build(dtype=dtype)
        load_torchvision(model, tensors, head="fresh")
    return model


def _read(source: Source) -> tuple[Mapping[str, ArrayLike], tuple[str, ...]]:
    if isinstance(source, Mapping):
        return source, ()
    if isinstance(source, str) and hub.is_name(source):
        source = hub.fetch(source)
    return read_weights(Path(source))
