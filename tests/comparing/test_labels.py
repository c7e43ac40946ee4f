"""Places for names in a plot."""

from itertools import combinations

import numpy as np

from resnet_jax.comparing.labels import Box, place_labels

FRAME = Box(0, 0, 300, 200)


def random_points(count: int) -> list[tuple[float, float]]:
    rng = np.random.default_rng(0)
    return [(float(x), float(y)) for x, y in rng.uniform((20, 20), (280, 180), (count, 2))]


def test_labels_overlap_neither_each_other_nor_a_point():
    points = random_points(25)
    boxes = [box for box in place_labels(points, [60.0] * 25, 11.0, FRAME) if box]
    assert len(boxes) > 15
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert not any(box.left < x < box.right and box.bottom < y < box.top for box in boxes for x, y in points)


def test_labels_stay_within_the_frame():
    boxes = place_labels([(1.0, 1.0), (299.0, 199.0)], [60.0, 60.0], 11.0, FRAME)
    assert all(box is not None and box.within(FRAME) for box in boxes)


def test_a_label_with_room_is_beside_its_point():
    (box,) = place_labels([(100.0, 100.0)], [60.0], 11.0, FRAME)
    assert (box.left, (box.bottom + box.top) / 2) == (106.0, 100.0)


def test_no_label_covers_the_line():
    line = [(100.0, 100.0), (200.0, 100.0), (200.0, 150.0)]
    (box,) = place_labels([(100.0, 100.0)], [60.0], 11.0, FRAME, line)
    assert box is not None
    assert not (box.bottom < 100 < box.top and box.right > 100 and box.left < 200)


def test_a_label_wider_than_the_frame_has_no_place():
    assert place_labels([(100.0, 100.0)], [301.0], 11.0, FRAME) == [None]
