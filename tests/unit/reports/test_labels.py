"""Labels: the geometry against points tried one by one, the placing against rooms that leave one place."""

import random

import pytest

from reports.charts.labels import LETTER, LINE, Box, Point, place

FRAME = Box(0, 400, 0, 200)


def inside(box, x, y):
    return box.left < x < box.right and box.top < y < box.bottom


def test_a_line_crosses_a_box_if_one_of_its_points_lies_in_it():
    draw, met = random.Random(0), []
    for _ in range(150):
        box = Box(10, 20 + draw.randrange(10), 10, 15 + draw.randrange(10))
        start, end = ((draw.uniform(0, 40), draw.uniform(0, 40)) for _ in range(2))
        tried = [tuple(a + (b - a) * step / 1500 for a, b in zip(start, end, strict=True)) for step in range(1501)]
        crossed = any(inside(box, *point) for point in tried)
        assert box.crossed((start, end)) == crossed
        met.append(crossed)
    assert 30 < sum(met) < 120


@pytest.mark.parametrize(
    ("line", "crossed"),
    [
        (((0, 12), (40, 12)), True),
        (((0, 10), (40, 10)), False),  # along an edge
        (((12, 0), (12, 40)), True),
        (((12, 0), (12, 9)), False),
        (((12, 12), (13, 13)), True),  # within
        (((0, 5), (40, 5)), False),
    ],
)
def test_lines_along_an_axis(line, crossed):
    assert Box(10, 20, 10, 20).crossed(line) is crossed


def test_boxes_that_touch_do_not_meet():
    one = Box(0, 10, 0, 10)
    assert not one.meets(Box(10, 20, 0, 10))
    assert not one.meets(Box(0, 10, 10, 20))
    assert one.meets(Box(9, 20, 9, 20))


def test_a_lonely_label_stands_right_of_its_point_and_level_with_it():
    (label,) = place([Point("abc", 100, 100, ())], FRAME)
    assert (label.x, label.y, label.end) == (110, 104, False)
    assert (label.box.right - label.box.left, label.box.bottom - label.box.top) == (pytest.approx(3 * LETTER), LINE)


def test_a_label_at_the_right_edge_stands_left_of_its_point():
    (label,) = place([Point("abc", 395, 100, ())], FRAME)
    assert (label.x, label.y, label.end) == (385, 104, True)


def test_a_label_at_the_foot_stays_in_the_frame():
    (label,) = place([Point("abc", 100, 200, ())], FRAME)
    assert label.y == 200


def test_a_label_makes_room_for_a_mark_and_for_a_curve():
    right = Box(105, 160, 90, 110)
    (label,) = place([Point("abc", 100, 100, (right,))], FRAME)
    assert not label.box.meets(right)
    assert label.end
    curve = ((100, 100), (400, 100))
    (label,) = place([Point("abc", 100, 100, ())], FRAME, [curve])
    assert not label.box.crossed(curve)


def test_no_two_labels_of_one_point_cover_each_other():
    labels = place([Point(f"label-{number}", 200, 100, ()) for number in range(20)], FRAME)
    for place_, one in enumerate(labels):
        assert one.box.within(FRAME)
        assert not any(one.box.meets(other.box) for other in labels[:place_])
