"""Which count of the work predicts the speed: multiply-adds or activations."""

import math
from collections.abc import Mapping, Sequence
from statistics import correlation
from typing import Any

FEWEST = 4  # networks from which on a correlation says something
SUBJECT, EXAMPLE = "resnet18", "mobilenet_v3_large"
Network = Mapping[str, Any]


def speeds_of(networks: Sequence[Network]) -> dict[str, dict[str, float]]:
    """Return images per second by network, for the forward pass measured here and for each target's ceiling.

    Args:
        networks: of a comparison; those without a speed are left out, and so is a target without any.
    """
    speeds: dict[str, dict[str, float]] = {}
    for network in networks:
        if speed := network.get("forward_images_per_second"):
            speeds.setdefault("forward pass, measured here", {})[network["arch"]] = speed
        for target, ceiling in (network.get("ceilings") or {}).items():
            if speed := ceiling.get("images_per_second"):
                speeds.setdefault(f"training on {target}, at most", {})[network["arch"]] = speed
    return speeds


def prediction_of(networks: Sequence[Network], speeds: Mapping[str, float], count: str) -> float | None:
    """Compute how well a count predicts the speed: the correlation of their logarithms.

    Args:
        networks: of a comparison.
        speeds: images per second by network.
        count: "multiply_adds" or "activations".

    Returns:
        -1 if twice the work is always the same fraction of the speed, near 0 if they have nothing to do with each
        other; None if there are too few networks, or all are the same in one of the two.
    """
    done = [network for network in networks if network.get(count) and network["arch"] in speeds]
    known = [(math.log(network[count]), math.log(speeds[network["arch"]])) for network in done]
    if len(known) < FEWEST or any(len(set(values)) == 1 for values in zip(*known, strict=True)):
        return None
    return correlation(*zip(*known, strict=True))


def speed_sentences(networks: Sequence[Network]) -> list[str]:
    """Say what the figures of the comparison show."""
    sentences = _example({network["arch"]: network for network in networks if network.get("activations")})
    for where, speeds in speeds_of(networks).items():
        found = [prediction_of(networks, speeds, count) for count in ("multiply_adds", "activations")]
        if None in found:
            continue
        by_products, by_activations = (round(value, 2) for value in found if value is not None)
        better = "multiply-adds predict it" if by_products < by_activations else "activations predict it"
        verdict = "neither predicts it better" if by_products == by_activations else f"{better} better"
        sentences.append(
            f"{where[0].upper()}{where[1:]}: over {len(speeds)} networks, the speed has a correlation of "
            f"{by_products:.2f} with the multiply-adds and of {by_activations:.2f} with the activations (of the "
            f"logarithms; -1 is a perfect prediction). So here {verdict}."
        )
    return sentences


def _example(networks: Mapping[str, Network]) -> list[str]:
    """Compare the two networks of the text, if both are there."""
    if SUBJECT not in networks or EXAMPLE not in networks:
        return []
    (one, one_maps), (other, other_maps) = (
        (networks[arch]["multiply_adds"] / 1e9, networks[arch]["activations"] / 1e6) for arch in (SUBJECT, EXAMPLE)
    )
    return [
        f"In this comparison, {SUBJECT} takes {one:.2f} billion multiply-adds and {one_maps:.2f} million activations "
        f"for an image, {EXAMPLE} {other:.2f} billion and {other_maps:.2f} million: {one / other:.1f} times as many "
        f"multiply-adds, but {one_maps / other_maps:.2f} times as many activations."
    ]
