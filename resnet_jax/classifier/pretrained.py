"""Published or trained weights into networks of this package."""

from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import jax.numpy as jnp
from jax.typing import DTypeLike

from resnet_jax.classifier.trained import KINDS, read_trained
from resnet_jax.errors import UserError
from resnet_jax.models.convnet import ConvNet
from resnet_jax.models.registry import REGISTRY, Architecture, Stem
from resnet_jax.weights.identify import advice, has_head, identify, sized
from resnet_jax.weights.reading import Weights, unwrap
from resnet_jax.weights.torchvision import Misfit, as_array, assign, torchvision_shapes


@runtime_checkable
class TorchModule(Protocol):
    """A `torch.nn.Module`; torch itself is not imported."""

    def state_dict(self) -> Mapping[str, Any]: ...


Source = Mapping[str, Any] | TorchModule | Path | str


def load_torchvision(model: ConvNet, source: Source, *, head: Literal["strict", "fresh"] = "strict") -> tuple[str, ...]:
    """Set the weights of `model`, in place, from weights with torchvision's keys.

    Args:
        model: a network of this package, or an abstract one (`nnx.eval_shape`).
        source: a state dict of arrays, or of torch tensors on any device; a torch module; or anything else that holds
            weights: the path of a .pth or .safetensors file ("FILE#NAME" chooses one of several networks in it), a run
            folder, a folder of `save_pretrained`, or a published model's name such as
            "torchvision/resnet18.IMAGENET1K_V1".
        head: "strict": the classifier must fit; "fresh": the model keeps its own classifier.

    Returns:
        What was renamed and left out, such as a prefix `module.`; a phrase each.

    Raises:
        UserError: the source can't be read, or its tensors don't fit; `model` is unchanged then.
    """
    tensors, notes = _read(source, torchvision_shapes(model).keys())
    try:
        assign(model, tensors, head=head)
    except Misfit as misfit:
        raise UserError(f"{misfit}; {advice(model, tensors)}") from None
    return notes


def from_pretrained(
    arch: Architecture,
    source: Source,
    *,
    num_classes: int | None = None,
    stem: Stem | None = None,
    dtype: DTypeLike = jnp.float32,
) -> ConvNet:
    """Build a network with the weights of `source`.

    Args:
        arch: name of the network; its width, stem and number of classes are those of the weights.
        source: as for `load_torchvision`.
        num_classes: with another number than that of the weights, the network gets a fresh classifier; needed where
            the weights have no classifier.
        stem: for networks whose stems have weights of the same shapes, such as MobileNetV2; "imagenet" by default.
        dtype: type of the computation.

    Raises:
        UserError: the source can't be read, or belongs to another architecture.
    """
    if arch not in REGISTRY:
        raise UserError(f"there is no architecture {arch!r}: expected one of {', '.join(REGISTRY)}")
    trained = read_trained(source) if isinstance(source, str | Path) else None
    tensors = trained.tensors if trained else _read(source).tensors
    network, headed = sized(arch, tensors), has_head(tensors, arch)
    known = trained.network.stem if trained and trained.network.arch == arch else network.stem
    network = replace(network, stem=stem or known)
    if num_classes is None and not headed:
        raise UserError(f"the weights have no {REGISTRY[arch].head}.weight: give num_classes for a fresh classifier")
    try:
        if num_classes is None or (headed and num_classes == network.num_classes):
            model = network.abstract(dtype=dtype)
            assign(model, tensors)
        else:
            model = replace(network, num_classes=num_classes).build(dtype=dtype)
            assign(model, tensors, head="fresh")
    except Misfit as misfit:
        right = identify(tensors).arch
        raise UserError(f'{misfit}; they belong to a {right}: give the architecture "{right}"') from None
    return model


def _read(source: Source, expected: Set[str] = frozenset()) -> Weights:
    """Return the weights of `source`; a dictionary that has all the expected keys as it is."""
    if isinstance(source, str | Path):
        trained = read_trained(source)
        return Weights(trained.tensors, trained.info.get("notes", ()))
    if isinstance(source, TorchModule):
        source = source.state_dict()
    if not isinstance(source, Mapping):
        raise UserError(f"got a {type(source).__name__} as weights: expected a state dict, a torch module, {KINDS}")
    content = _with_arrays(source)
    return Weights(content, ()) if expected and expected <= content.keys() else unwrap(content, "the dictionary")


def _with_arrays(content: Any) -> Any:
    """Return nested dictionaries with their tensors as arrays and everything else as it is."""
    if isinstance(content, Mapping):
        return {key: _with_arrays(value) for key, value in content.items()}
    return as_array(content) if hasattr(content, "shape") else content
