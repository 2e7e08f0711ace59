import math
from dataclasses import replace

import numpy as np
import pytest

from harness.core.rectangle import Rectangle
from harness.core.result import Done, Outcome
from harness.core.spec import Spec
from harness.execution.recheck.result_comparison import (
    MeasuredAgain,
    Tolerance,
    beyond_tolerance,
    changes,
    first_difference,
)
from harness.store.read.measures import MetricNumbers
from harness.store.read.results import Attempted, RecordedMeasure

SEEN = [Outcome(100 + place, place, repeat, 3, 3, True) for place in range(50) for repeat in range(2)]
HERE = {"torch": "2.9", "device": "cpu", "commit": "a", "dirty": "false"}


def changed(number, **values):
    """The outcomes with the first so many changed."""
    return [replace(one, **values) if place < number else one for place, one in enumerate(SEEN)]


def test_equal_outcomes_differ_in_nothing():
    assert first_difference(SEEN, list(SEEN)) == ""
    assert beyond_tolerance(SEEN, list(SEEN), Tolerance(0.0, 0.0)) == ""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prediction": 5}, "place 0, repeat 0: prediction 5, recorded 3"),
        ({"fault": "not finite"}, "place 0, repeat 0: fault not finite, recorded None"),
        ({"radius": 0.5}, "place 0, repeat 0: radius 0.5, recorded None"),
    ],
)
def test_the_first_difference_is_named(values, said):
    assert first_difference(SEEN, changed(1, **values)) == said


def test_too_few_outcomes_are_a_difference():
    assert first_difference(SEEN, SEEN[1:]) == "99 outcomes, recorded 100"


@pytest.mark.parametrize(("flips", "within"), [(1, True), (2, True), (3, False)])
def test_two_of_a_hundred_predictions_may_differ_elsewhere(flips, within):
    said = beyond_tolerance(SEEN, changed(flips, prediction=5, correct=False), Tolerance())
    assert said == ("" if within else "3 of 100 predictions differ, first place 0, repeat 0: prediction 5, recorded 3")


def test_one_prediction_may_differ_however_few_there_are():
    mine = [replace(SEEN[0], prediction=5), SEEN[1]]
    assert beyond_tolerance(SEEN[:2], mine, Tolerance(flips=0.0)) == ""
    assert beyond_tolerance(SEEN[:2], [replace(one, prediction=5) for one in mine], Tolerance(flips=0.0)) != ""


def measured(numbers, now):
    """What a metric of one column gave of places 4 to 6 in repeats 1 and 2, and what it gives now."""
    taken = MetricNumbers(1, "m", ("linf",), Rectangle(4, 7, 1, 3), np.array(numbers).reshape(1, 3, 2), "s")
    return MeasuredAgain(
        RecordedMeasure(Spec.of("metric", "toy", 1, {}), taken, {}, {}), np.array(now).reshape(1, 3, 2), {}
    )


TENTH = [0.1] * 6


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (TENTH, ""),
        ([0.1, 0.1, 0.1, 0.1 + 2e-17, 0.1, 0.1], "place 5, repeat 2: linf 0.10000000000000002, recorded 0.1"),
        ([math.nan, *TENTH[1:]], "place 4, repeat 1: linf nan, recorded 0.1"),
    ],
)
def test_the_first_number_that_differs_is_named(now, said):
    assert measured(TENTH, now).first_difference() == said


def test_what_was_not_finite_and_is_not_again_is_equal():
    assert measured([math.nan] * 6, [math.nan] * 6).first_difference() == ""


@pytest.mark.parametrize(("factor", "said"), [(1.04, ""), (1.06, "the mean of linf is 0.106, recorded 0.1")])
def test_means_may_differ_a_little_elsewhere(factor, said):
    assert measured(TENTH, [factor * one for one in TENTH]).beyond_tolerance(Tolerance()) == said


def test_a_metric_that_is_gone_is_never_within():
    said = measured(TENTH, [math.nan] * 6).beyond_tolerance(Tolerance(1.0, 1.0))
    assert said == "linf is missing"


@pytest.mark.parametrize("name", ["example", "label"])
def test_other_examples_are_never_within(name):
    said = beyond_tolerance(SEEN, changed(1, **{name: 7}), Tolerance(1.0, 1.0))
    assert said.startswith(f"place 0, repeat 0: {name} 7")


def test_hardware_versions_and_images_at_a_time_excuse_a_difference_and_a_commit_does_not():
    def told(before, size=8):
        return list(changes(before, Done(environment={**HERE, "commit": "b", "dirty": "true"}), size))

    assert told(Attempted(8, HERE)) == []
    assert told(Attempted(8, {**HERE, "torch": "2.8"})) == ["torch 2.8 -> 2.9"]
    assert told(Attempted(8, {**HERE, "gpu": "H100"})) == ["gpu H100 -> -"]
    assert told(Attempted(8, HERE), 4) == ["images at a time 8 -> 4"]
    assert told(Attempted()) == ["where some of it was done is not recorded"]
