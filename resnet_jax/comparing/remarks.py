"""What a reader of a comparison should know about single networks."""

from collections.abc import Mapping
from typing import Any

ABOVE_GUESSING = 0.02
"""Share by which the accuracy of a network that has learned something is above that of guessing."""


def learned_nothing(network: Mapping[str, Any], classes: int) -> bool:
    """Tell whether a network was trained here and is about as good as guessing."""
    accuracy = (network["trained"] or {}).get("accuracy_mean")
    return accuracy is not None and accuracy < 1 / classes + ABOVE_GUESSING


def remarks_of(comparison: Mapping[str, Any]) -> list[str]:
    """Return a sentence on each network that could not be trained here, or that has learned nothing."""
    found = []
    for network in comparison["networks"]:
        if network.get("remark"):
            found.append(f"{network['arch']}: {network['remark']}")
        if learned_nothing(network, comparison["settings"]["classes"]):
            accuracy = network["trained"]["accuracy_mean"]
            found.append(
                f"{network['arch']}: {accuracy:.1%} is about as good as guessing, so this recipe says nothing about "
                "the network: it may need a lower learning rate, or more epochs for its running statistics to settle."
            )
    return found
