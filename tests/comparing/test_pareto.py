"""The Pareto front of accuracy against a cost."""

import numpy as np

from resnet_jax.comparing.pareto import Point, pareto_front


def test_the_front_is_what_no_other_point_beats():
    rng = np.random.default_rng(0)
    points = [Point(str(number), *map(float, pair)) for number, pair in enumerate(rng.integers(0, 12, (60, 2)))]
    front = pareto_front(points)
    for point in points:
        beaten = any(
            other.cost <= point.cost
            and other.accuracy >= point.accuracy
            and (other.cost < point.cost or other.accuracy > point.accuracy)
            for other in points
        )
        assert (point in front) != beaten


def test_the_front_rises_with_the_cost():
    points = [Point("c", 3.0, 72.0), Point("a", 1.0, 60.0), Point("dear", 4.0, 71.0), Point("b", 2.0, 70.0)]
    assert [point.name for point in pareto_front(points)] == ["a", "b", "c"]


def test_equal_points_are_all_on_the_front():
    assert len(pareto_front([Point("a", 1.0, 60.0), Point("b", 1.0, 60.0)])) == 2


def test_no_points_have_no_front():
    assert pareto_front([]) == []
