"""Published or trained weights into networks of this package."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from resnet_jax.classifier.trained import read_trained
from resnet_jax.errors import UserError
from resnet_jax.models.registry import Architecture
from resnet_jax.models.resnet import ResNet
from resnet_jax.weights.identify import advice, has_head, sized
from resnet_jax.weights.torchvision import Misfit, assign

Source = Mapping[str, ArrayLike] | Path | str


def load_torchvision(model: ResNet, source: Source, *, head: Literal["strict", "fresh"] = "strict") -> tuple[str, ...]:
    """Set the weights of `model`, in place, from weights with torchvision's keys.

    Args:
        model: a network of this package, or an abstract one (`nnx.eval_shape`).
        source: a state dict with torchvision's keys, or anything that holds weights: the path of a .pth or
            .safetensors file ("FILE#NAME" chooses one of several networks in it), a run folder, a folder of
            `save_pretrained`, or a published model's name such as "torchvision/resnet18.IMAGENET1K_V1".
        head: "strict": the classifier must fit; "fresh": the model keeps its own classifier.

    Returns:
        What was renamed and left out, such as a prefix `module.`; a phrase each.

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
        source: as for `load_torchvision`.
        num_classes: with another number than that of the weights, the network gets a fresh classifier; needed where
            the weights have no classifier.
        dtype: type of the computation.

    Raises:
        UserError: the source can't be read, or belongs to another architecture.
    """
    tensors, _ = _read(source)
    network = sized(arch, tensors)
    if num_classes is None and not has_head(tensors):
        raise UserError(f"the weights are an encoder without a classifier: give num_classes to {arch}'s fresh one")
    if num_classes is None or (num_classes == network.num_classes and has_head(tensors)):
        model = network.abstract(dtype=dtype)
        load_torchvision(model, tensors)
    else:
        model = replace(network, num_classes=num_classes).build(dtype=dtype)
        load_torchvision(model, tensors, head="fresh")
    return model


def _read(source: Source) -> tuple[Mapping[str, ArrayLike], tuple[str, ...]]:
    if isinstance(source, Mapping):
        return source, ()
    trained = read_trained(source)
    return trained.tensors, trained.info.get("notes", ())
