"""The Pareto front: networks that no other one beats in both accuracy and cost."""

from collections.abc import Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """A network in a plot."""

    name: str
    cost: float
    """The less, the better."""
    accuracy: float
    """The more, the better."""


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other one dominates, the cheapest first.

    A point dominates another one if it is not worse in cost and accuracy, and better in one of them. Equal points are
    all returned.
    """
    return sorted((each for each in points if not any(_dominates(other, each) for other in points)), key=_cost)


def _dominates(one: Point, other: Point) -> bool:
    not_worse = one.cost <= other.cost and one.accuracy >= other.accuracy
    return not_worse and (one.cost, one.accuracy) != (other.cost, other.accuracy)


def _cost(point: Point) -> float:
    return point.cost
