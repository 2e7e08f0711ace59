"""Where the figures of a board put their marks, curves and labels."""

import itertools
import re
from dataclasses import replace

import pytest

from reports.charts.cost import AXES, LEFT, MANY, NAMED, RIGHT, figure_of, figures_of
from reports.model.leaderboard import read_leaderboard
from reports.render.html import html

TIME, EVALUATIONS = AXES


@pytest.fixture
def crowd(bench):
    """Twelve defenses that take the same time, half of them with nothing left under attack."""
    made = bench(repeats=1)
    for number in range(12):
        name = f"a-defense-{number}" + "-and-more" * (number % 3)
        made.add(name, None, "1", "1", "1", "1")
        made.add(name, "oblivious-0.2", *("1" if place < number - 6 else "0" for place in range(4)))
    return made


@pytest.fixture
def priced(bench):
    """Adds a defense of some steps, time and evaluations; of the four examples, as many hold as are told."""
    made = bench(repeats=1)

    def add(name, seconds, evaluations, holds=2, use=None, clean=4, **options):
        cost = replace(made.usual, seconds=seconds, evaluations=evaluations)
        for threat, right in ((None, clean), ("bpda-0.2", holds)):
            made.add(name, threat, *("1" * right + "0" * (4 - right)), cost=cost, use=use, **options)

    made.priced = add
    return made


def read(bench):
    board = read_leaderboard(bench.write())
    ((section),) = board.sections
    return section.boards[0], board.provenance


def drawn(bench, axis=TIME):
    return figure_of(*read(bench), axis)


def by_name(figure):
    return {mark.name: mark for mark in figure.marks}


def box(mark):
    length = 6.9 * len(mark.name)
    left = mark.label.x - length if mark.label.end else mark.label.x
    return left, left + length, mark.label.y - 15.0, mark.label.y


def test_no_label_lies_on_another_or_below_the_axis(crowd):
    figure = drawn(crowd)
    assert len(figure.marks) == 12
    for one, other in itertools.combinations(map(box, figure.marks), 2):
        assert one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] + 0.1 or other[3] <= one[2] + 0.1
    assert all(mark.label.y <= figure.bottom for mark in figure.marks)
    assert all(box(mark)[0] >= 0 and box(mark)[1] <= figure.size.width for mark in figure.marks)


def test_a_label_that_stands_away_from_its_dot_is_led_back_to_it(crowd):
    marks = drawn(crowd).marks
    assert {mark.leader is None for mark in marks} == {True, False}
    for mark in marks:
        near = abs(mark.label.y - 4 - mark.worst) <= 12
        assert (mark.leader is None) == near


def test_labels_stand_neither_on_dots_nor_on_curves_where_there_is_room(priced):
    for steps in (1, 10, 100):
        priced.priced(f"steps-{steps}", 0.01 * steps, steps, use="d", params={"steps": steps})
    figure = drawn(priced)
    level = figure.marks[0].worst
    assert {mark.worst for mark in figure.marks} == {level}
    for mark, other in itertools.product(figure.marks, figure.marks):
        left, right, top, bottom = box(mark)
        assert not (left < other.x < right and top < other.worst < bottom)
    # the curve runs along the level of the dots: left of the first and right of the last is the only room there
    begin, end = min(mark.x for mark in figure.marks), max(mark.x for mark in figure.marks)
    for mark in figure.marks:
        left, right, top, bottom = box(mark)
        assert not (top < level < bottom and left < end and right > begin)


def test_marks_stand_at_their_accuracy_between_the_axes(toy):
    figure = drawn(toy)
    none = by_name(figure)["none"]
    assert none.reference
    assert none.worst == figure.bottom  # every example fell to one of the attacks
    assert none.clean == figure.top
    assert all(LEFT <= mark.x <= figure.size.width - RIGHT for mark in figure.marks)


def test_a_board_of_one_defense_has_no_figure(bench):
    alone = bench()
    alone.add("none", None, "1")
    alone.add("none", "oblivious-0.2", "0")
    assert figures_of(*read(alone)) == []


@pytest.mark.parametrize("axis", AXES)
def test_equal_factors_of_cost_are_equally_far_apart(priced, axis):
    for power in range(4):
        priced.priced(f"d{power}", 10.0**power / 1000, 10**power, holds=power)
    figure = drawn(priced, axis)
    at = [by_name(figure)[f"d{power}"].x for power in range(4)]
    gaps = [b - a for a, b in itertools.pairwise(at)]
    assert gaps == pytest.approx([gaps[0]] * 3, abs=0.2)
    assert gaps[0] > 0
    ticks = {tick.text: tick.at for tick in figure.x_ticks}
    texts = ["1 ms", "10 ms", "100 ms", "1 s"] if axis is TIME else ["1", "10", "100", "1000"]
    assert [ticks[text] for text in texts] == pytest.approx(at, abs=0.1)


def test_two_axes_have_a_figure_each(priced):
    priced.priced("slow", 2.0, 3)
    priced.priced("quick", 0.001, 300)
    time, evaluations = figures_of(*read(priced))
    assert by_name(time)["quick"].x < by_name(time)["slow"].x
    assert by_name(evaluations)["quick"].x > by_name(evaluations)["slow"].x
    assert "2.00 s and 3 evaluations per image" in by_name(evaluations)["slow"].sentence


def test_what_evaluates_no_network_stands_at_a_marked_place_left_of_the_logarithms(priced):
    priced.priced("none", 0.001, 0)
    priced.priced("blur", 0.002, 0)
    priced.priced("a", 0.1, 1)
    priced.priced("b", 0.1, 100)
    figure = drawn(priced, EVALUATIONS)
    marks = by_name(figure)
    assert marks["none"].x == marks["blur"].x == figure.nothing.at
    assert figure.nothing.text == "0"
    assert figure.left < figure.nothing.at < figure.begin
    assert all(tick.at >= figure.begin for tick in figure.x_ticks)
    assert figure.begin <= marks["a"].x < marks["b"].x <= figure.right
    assert drawn(priced, TIME).nothing is None
    assert by_name(drawn(priced, TIME))["none"].x < figure.begin  # there the logarithms begin at the axis


def test_where_no_defense_evaluates_a_network_there_is_no_figure_of_it(priced):
    priced.priced("none", 0.001, 0)
    priced.priced("blur", 0.002, 0)
    assert [figure.axis for figure in figures_of(*read(priced))] == [TIME]


def test_rows_that_differ_in_steps_or_rounds_alone_are_joined_in_order_of_cost(priced):
    # names, declaration and worst cases all have another order than the cost
    for name, evaluations, holds, params in (
        ("c-ten", 10, 1, {"steps": 10}),
        ("a-two-rounds", 40, 2, {"steps": 20, "rounds": 2}),
        ("b-one", 1, 3, {"steps": 1}),
    ):
        priced.priced(name, 0.01 * evaluations, evaluations, holds, use="d", params=params)
    priced.priced("none", 0.001, 0)
    for axis in AXES:
        figure = drawn(priced, axis)
        (curve,) = figure.curves
        assert curve.names == ("b-one", "c-ten", "a-two-rounds")
        marks = [by_name(figure)[name] for name in curve.names]
        assert curve.worst == tuple((mark.x, mark.worst) for mark in marks)
        assert curve.clean == tuple((mark.x, mark.clean) for mark in marks)
        assert [x for x, _ in curve.worst] == sorted(x for x, _ in curve.worst)


@pytest.mark.parametrize(
    "other",
    [
        {"use": "another", "params": {"steps": 20}},
        {"params": {"steps": 20, "sampler": "ode"}},
        {"params": {"steps": 20, "t_star": 50}},
        {"params": {"steps": 20}, "own_classifier": True},
    ],
)
def test_rows_that_differ_in_anything_else_are_not_joined(priced, other):
    priced.priced("ten", 0.1, 10, use="d", params={"steps": 10, "t_star": 100})
    priced.priced("twenty", 0.2, 20, **{"use": "d", **other, "params": {"t_star": 100, **other["params"]}})
    assert [figure.curves for figure in figures_of(*read(priced))] == [(), ()]


def test_two_families_have_a_curve_each(priced):
    for use, steps in itertools.product(("d", "m"), (1, 5, 20)):
        priced.priced(f"{use}-{steps}", 0.1 * steps, steps, use=use, params={"steps": steps})
    curves = drawn(priced, EVALUATIONS).curves
    assert {curve.names for curve in curves} == {("d-1", "d-5", "d-20"), ("m-1", "m-5", "m-20")}


def test_a_defense_without_a_worst_case_is_named_as_absent(priced):
    priced.priced("a", 0.1, 10)
    priced.priced("b", 0.2, 20)
    priced.add("c", None, "1111")
    figure = drawn(priced)
    assert figure.absent == ("c",)
    assert "Not drawn, without a worst case or this cost: c." in html(read_leaderboard(priced.write()))


def test_many_marks_take_the_whole_width_and_the_best_of_them_have_names(priced):
    for number in range(NAMED + 5):
        priced.priced(f"d{number}", 0.1 * (number + 1), number + 1, holds=0 if number < 5 else 3)
    figure = drawn(priced)
    assert len(figure.marks) == NAMED + 5
    assert figure.unnamed == 5
    assert {mark.name for mark in figure.marks if mark.label is None} == {f"d{number}" for number in range(5)}
    assert figure.wide
    assert "The 5 of the lowest worst cases have no label here." in html(read_leaderboard(priced.write()))


def test_few_marks_stand_side_by_side(priced):
    for number in range(MANY):
        priced.priced(f"d{number}", 0.1 * (number + 1), number + 1)
    assert not drawn(priced).wide


def test_the_page_shows_both_figures_without_a_script(priced):
    for steps in (1, 5):
        priced.priced(f"d-{steps}", 0.1 * steps, steps, use="d", params={"steps": steps})
    priced.priced("none", 0.001, 0)
    text = html(read_leaderboard(priced.write()))
    body = text[: text.index("<script>")]
    assert body.count("<svg ") == body.count("<figure") == 2
    assert body.count("<polyline ") == 4  # clean and worst case on each
    assert body.count("A thin line joins rows") == 2
    assert body.count("What needs none stands at 0") == 1
    assert body.count('class="break"') == 1
    assert not re.search(r"<(svg|figure|g|table)[^>]*(hidden|display)", body)
    assert "time per image on clean input, log scale" in body
    assert "network evaluations (NFE) per image on clean input, log scale" in body
