"""A recommendation by stated rules: limits first, then accuracy, then cost."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from resnet_jax.comparing.accuracy import Accuracy, accuracies_of, was_trained

MARGIN = 1.0  # points of accuracy that are given up for a lower cost
FRACTIONS = {3 / 4: "three quarters", 2 / 3: "two thirds", 1 / 2: "half", 1 / 3: "a third", 1 / 4: "a quarter"}
FRACTION_TOLERANCE = 0.07  # of the fraction's value; beyond it the percentage is said
RULES = (
    "A network is left out if it exceeds a limit, or if the figure that a limit is about is missing.",
    "The best of the others is the one with the highest accuracy: the mean over the seeds if networks were trained "
    "here, otherwise the published ImageNet top-1 of torchvision's V1 weights.",
    f"Recommended is the network with the lowest cost among those within {MARGIN:g} point of the best. The cost is the "
    "latency of one image if it was measured for all of them, otherwise the number of multiply-adds.",
)


class Exclusion(NamedTuple):
    """Why a network was left out."""

    reason: str
    """The limit that it exceeds, or the missing figure."""
    got: str = ""
    """Its figure; empty if that is missing."""


class Recommendation(NamedTuple):
    """The recommended network, and why."""

    chosen: str | None
    """Its name; None if there is nothing to recommend."""
    sentences: list[str]
    excluded: dict[str, Exclusion]
    """What excluded networks, by name."""


class Candidate(NamedTuple):
    """A network within the limits."""

    name: str
    accuracy: Accuracy
    cost: float
    """Milliseconds or multiply-adds."""


def recommend(comparison: Mapping[str, Any]) -> Recommendation:
    """Choose a network by `RULES`.

    Args:
        comparison: with `networks`, and the limits among its `settings`: `max_latency_ms`, `max_parameters` and
            `min_accuracy` (percent), each None if there is no such limit.
    """
    networks, settings = comparison["networks"], comparison["settings"]
    accuracies, trained = accuracies_of(networks), was_trained(networks)
    found = {network["arch"]: _excluded(network, settings, accuracies, trained=trained) for network in networks}
    excluded = {name: exclusion for name, exclusion in found.items() if exclusion}
    kept = [network for network in networks if network["arch"] not in excluded]
    if not kept:
        nothing = "Nothing to recommend: no network has an accuracy and is within the limits."
        return Recommendation(None, [nothing, *_left_out(excluded)], excluded)
    timed = all(network.get("latency_seconds") is not None for network in kept)
    candidates = [
        Candidate(network["arch"], accuracies[network["arch"]], cost)
        for network in kept
        if (cost := 1e3 * network["latency_seconds"] if timed else network.get("multiply_adds")) is not None
    ]
    if not candidates:
        return Recommendation(None, ["Nothing to recommend: no network was measured.", *_left_out(excluded)], excluded)
    chosen, sentences = _choose(candidates, timed=timed, trained=trained)
    return Recommendation(chosen, [*sentences, *_left_out(excluded)], excluded)


def _excluded(
    network: Mapping[str, Any], settings: Mapping[str, Any], accuracies: Mapping[str, Accuracy], *, trained: bool
) -> Exclusion | None:
    """Return what excludes a network; None if it is within all limits."""
    accuracy = accuracies.get(network["arch"])
    if accuracy is None:
        return Exclusion("not trained" if trained else "no published accuracy of V1 weights")
    latency, parameters = network.get("latency_seconds"), network.get("parameters")
    slowest, largest, least = (settings.get(key) for key in ("max_latency_ms", "max_parameters", "min_accuracy"))
    if slowest is not None and (latency is None or 1e3 * latency > slowest):
        got = "" if latency is None else f"{1e3 * latency:.3g} ms"
        return Exclusion(f"more than {slowest:g} ms for one image" if got else "latency not measured", got)
    if largest is not None and (parameters is None or parameters > largest):
        got = "" if parameters is None else f"{parameters:,}"
        return Exclusion(f"more than {largest:,} parameters" if got else "parameters not counted", got)
    if least is not None and accuracy.percent < least:
        return Exclusion(f"accuracy below {least:g}%", f"{accuracy.percent:.2f}%")
    return None


def _choose(candidates: Sequence[Candidate], *, timed: bool, trained: bool) -> tuple[str, list[str]]:
    """Return the name of the recommended network, and the sentences that say why."""
    best = max(candidates, key=lambda each: (each.accuracy.percent, -each.cost))
    near = [each for each in candidates if each.accuracy.percent >= best.accuracy.percent - MARGIN]
    chosen = min(near, key=lambda each: (each.cost, -each.accuracy.percent))
    kind = "accuracy trained here" if trained else "published ImageNet top-1 (V1 weights)"
    sentences = [f"{best.name} has the highest {kind}, {_percent(best)}."]
    if chosen is best:
        sentences.append(f"Recommended: {best.name}. No other network within {MARGIN:g} point of it costs less.")
        others = sorted((each for each in near if each is not best), key=lambda each: -each.accuracy.percent)
        return best.name, sentences + (_separation(best, others[0]) if trained and others else [])
    unit, name = (1, "ms for one image") if timed else (1e9, "billion multiply-adds")
    costs = f"{chosen.cost / unit:.3g} against {best.cost / unit:.3g} {name}"
    sentences.append(
        f"Recommended: {chosen.name}, {_percent(chosen)}, within {MARGIN:g} point of the best at "
        f"{_fraction(chosen.cost / best.cost)} of its cost ({costs})."
    )
    return chosen.name, sentences + (_separation(best, chosen) if trained else [])


def _separation(best: Candidate, other: Candidate) -> list[str]:
    """Say it if the difference of two accuracies may be due to the seeds alone."""
    difference = best.accuracy.percent - other.accuracy.percent
    spreads = [each.accuracy.spread for each in (best, other) if each.accuracy.spread is not None]
    if not spreads:
        return [f"With one seed, it is unknown whether {best.name} and {other.name} differ by more than chance."]
    if max(spreads) <= difference:
        return []
    return [
        f"The seeds do not separate {best.name} and {other.name}: they differ by {difference:.2f} points, and the "
        f"accuracy varies between seeds by {max(spreads):.2f} points (standard deviation)."
    ]


def _left_out(excluded: Mapping[str, Exclusion]) -> list[str]:
    """Return a sentence for each limit and each missing figure, with the networks that it excluded."""
    by_reason: dict[str, list[str]] = {}
    for name, exclusion in excluded.items():
        by_reason.setdefault(exclusion.reason, []).append(f"{name} ({exclusion.got})" if exclusion.got else name)
    return [f"Left out ({reason}): {', '.join(names)}." for reason, names in by_reason.items()]


def _percent(candidate: Candidate) -> str:
    spread = candidate.accuracy.spread
    return f"{candidate.accuracy.percent:.2f}%" + ("" if spread is None else f" +- {spread:.2f}")


def _fraction(ratio: float) -> str:
    """Return a ratio below 1 in words."""
    near = (words for value, words in FRACTIONS.items() if abs(ratio / value - 1) <= FRACTION_TOLERANCE)
    return next(near, f"{ratio:.0%}")
