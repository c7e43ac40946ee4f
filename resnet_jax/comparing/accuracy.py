"""The accuracy by which networks are compared: the one trained here, otherwise the published one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

WEIGHTS = "IMAGENET1K_V1"
"""The published weights that are compared, as nearly every network has them."""


class Accuracy(NamedTuple):
    """The accuracy of one network."""

    percent: float
    """Share of the images classified correctly; the mean over the seeds if it was trained here."""
    spread: float | None = None
    """Standard deviation over the seeds, points; None for one seed and for published accuracies."""


def was_trained(networks: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a network of the comparison was trained."""
    return any(network.get("trained") for network in networks)


def accuracies_of(networks: Sequence[Mapping[str, Any]]) -> dict[str, Accuracy]:
    """Return the accuracies by name: those trained here if there are any, otherwise the published top-1 of `WEIGHTS`.

    The two are never mixed, since they are accuracies on different images. A network without one is left out.

    Args:
        networks: of a comparison.
    """
    find = _trained if was_trained(networks) else _published
    found = {network["arch"]: find(network) for network in networks}
    return {name: accuracy for name, accuracy in found.items() if accuracy is not None}


def _trained(network: Mapping[str, Any]) -> Accuracy | None:
    trained = network.get("trained")
    if not trained or trained.get("accuracy_mean") is None:
        return None
    spread = trained.get("accuracy_std")
    return Accuracy(100 * trained["accuracy_mean"], None if spread is None else 100 * spread)


def _published(network: Mapping[str, Any]) -> Accuracy | None:
    found = (each["top1"] for each in network.get("published") or () if each["weights"] == WEIGHTS)
    percent = next(found, None)
    return None if percent is None else Accuracy(percent)
