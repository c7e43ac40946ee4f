"""Places for the names of points, so that no name covers a point, a line or another name."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

Position = tuple[float, float]
"""Horizontal and vertical, in points (1/72 inch)."""
DISTANCES = (6.0, 14.0, 24.0, 36.0, 50.0, 70.0)  # of a name from its point, in points
ANGLES = (0, 180, 90, 270, *(angle for angle in range(0, 360, 15) if angle % 90))  # degrees; 0 is to the right
RADIUS = 4.0  # of a marker with its margin, in points


class Box(NamedTuple):
    """A rectangle, in points."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "Box") -> bool:
        """Tell whether two rectangles have an area in common."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.top <= other.bottom or other.top <= self.bottom)

    def within(self, other: "Box") -> bool:
        """Tell whether no part is outside of the other rectangle."""
        left_and_right = other.left <= self.left and self.right <= other.right
        return left_and_right and other.bottom <= self.bottom and self.top <= other.top


def place_labels(
    points: Sequence[Position], widths: Sequence[float], height: float, frame: Box, line: Sequence[Position] = ()
) -> list[Box | None]:
    """Find a place for the label of each point, for the first ones first.

    Args:
        points: of the plot.
        widths: of the labels, in points.
        height: of a label, in points.
        frame: where labels may be.
        line: corners of a line of horizontal and vertical pieces, which no label covers.

    Returns:
        The rectangle of each label; None for a label that finds no place near its point.
    """
    taken = [_around_both(point, point, RADIUS) for point in points]
    pieces = [_around_both(one, other, 1.0) for one, other in pairwise(line)]
    places: list[Box | None] = []
    for point, width in zip(points, widths, strict=True):
        places.append(None)
        for box in _around(point, width, height):
            if not box.within(frame) or any(map(box.overlaps, (*taken, *pieces))):
                continue
            way = list(_way(point, box))
            if not any(one.overlaps(other) for one in way for other in taken):
                places[-1] = box
                taken += [box, *way]
                break
    return places


def _way(point: Position, box: Box) -> Iterator[Box]:
    """Yield small rectangles on the line from a point to its label, if that is far enough for a line."""
    right, up = (box.left + box.right) / 2 - point[0], (box.bottom + box.top) / 2 - point[1]
    length = math.hypot(right, up)
    for distance in range(math.ceil(RADIUS + 3), math.floor(length), 3):
        x, y = point[0] + right * distance / length, point[1] + up * distance / length
        if not (box.left <= x <= box.right and box.bottom <= y <= box.top):
            yield Box(x - 1, y - 1, x + 1, y + 1)


def _around_both(one: Position, other: Position, margin: float) -> Box:
    (left, right), (bottom, top) = sorted((one[0], other[0])), sorted((one[1], other[1]))
    return Box(left - margin, bottom - margin, right + margin, top + margin)


def _around(point: Position, width: float, height: float) -> Iterator[Box]:
    """Yield the places near a point, the best first: beside it, above and below it, then further away."""
    for distance, angle in product(DISTANCES, ANGLES):
        x = point[0] + (distance + width / 2) * math.cos(math.radians(angle))
        y = point[1] + (distance + height / 2) * math.sin(math.radians(angle))
        yield Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
