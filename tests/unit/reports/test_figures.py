"""Where the figure of a board puts its marks and labels."""

import itertools

import pytest

from reports.figures import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, accuracy_against_time
from reports.leaderboard import read_leaderboard


@pytest.fixture
def crowd(bench):
    """Twelve defenses that take the same time, half of them with nothing left under attack."""
    made = bench(repeats=1)
    for number in range(12):
        name = f"a-defense-{number}" + "-and-more" * (number % 3)
        made.add(name, None, "1", "1", "1", "1")
        made.add(name, "oblivious-0.2", *("1" if place < number - 6 else "0" for place in range(4)))
    return made


def figure_of(bench):
    ((section,)) = read_leaderboard(bench.write()).sections
    return accuracy_against_time(section.boards[0])


def box(mark):
    length = 6.9 * len(mark.name)
    left = mark.label_x - length if mark.label_end else mark.label_x
    return left, left + length, mark.label_y - 15.0, mark.label_y


def test_no_label_lies_on_another_or_below_the_axis(crowd):
    marks = figure_of(crowd).marks
    assert len(marks) == 12
    for one, other in itertools.combinations(map(box, marks), 2):
        assert one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] + 0.1 or other[3] <= one[2] + 0.1
    assert all(mark.label_y <= HEIGHT - BOTTOM for mark in marks)


def test_marks_stand_at_their_accuracy_between_the_axes(toy):
    figure = figure_of(toy)
    none = next(mark for mark in figure.marks if mark.name == "none")
    assert none.reference
    assert none.worst == figure.bottom  # every example fell to one of the attacks
    assert none.clean == figure.top
    assert all(LEFT <= mark.x <= WIDTH - RIGHT for mark in figure.marks)


def test_a_board_of_one_defense_has_no_figure(bench):
    alone = bench()
    alone.add("none", None, "1")
    alone.add("none", "oblivious-0.2", "0")
    assert figure_of(alone) is None
