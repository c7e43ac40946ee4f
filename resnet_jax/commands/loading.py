"""The network that a command has been given, with one line on standard error about what of it is used."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_jax.errors import printable
from resnet_jax.models.registry import Architecture

if TYPE_CHECKING:
    from resnet_jax.classifier.classifier import Classifier


def load(model: str, arch: Architecture | None) -> "Classifier":
    """Read a trained network, and print which checkpoint of a run it is, or what in a file was renamed and left out.

    Raises:
        UserError: see `load_classifier`.
    """
    from resnet_jax.classifier.classifier import load_classifier  # loads JAX

    return tell(model, load_classifier(model, arch=arch))


def tell(model: str, classifier: "Classifier") -> "Classifier":
    """Print what of `model` is used, and return the classifier."""
    for remark in classifier.remarks:
        print(printable(f"{model}: {remark}"), file=sys.stderr)
    return classifier


def name_of(model: str) -> str:
    """Return the last part of a model's path, without the suffix of a weights file."""
    name = Path(model).resolve().name
    return Path(name).stem if name.endswith((".pth", ".pt", ".safetensors")) else name
