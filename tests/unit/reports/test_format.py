from datetime import UTC, datetime

import pytest

from reports import format as numbers


def test_accuracies_have_one_decimal():
    assert numbers.percent(0.74) == "74.0"
    assert numbers.interval(0.7012, 0.7764) == "[70.1, 77.6]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.016, "0.0160"),
        (0.08, "0.0800"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1.2e-6, "1.20e-06"),
        (-0.5, "-0.500"),
    ],
)
def test_measures_have_three_digits(value, text):
    assert numbers.measure(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 s"), (4e-7, "0.400 µs"), (0.0123, "12.3 ms"), (1.2, "1.20 s"), (126, "2.10 min"), (7200, "2.00 h")],
)
def test_times_have_a_unit_that_suits_them(value, text):
    assert numbers.seconds(value) == text


def test_counts_are_whole_where_they_are_whole():
    assert numbers.count(40.0) == "40"
    assert numbers.count(40.25) == "40.2"


@pytest.mark.parametrize(
    ("eps", "text"), [(8 / 255, "8/255"), (0.2, "0.2"), (1.0, "1"), (0.5, "0.5"), (51 / 255, "0.2")]
)
def test_budgets_read_as_people_write_them(eps, text):
    assert numbers.radius(eps) == text


def test_times_are_utc_to_the_minute():
    assert numbers.moment(datetime(2030, 1, 31, 12, 0, 59, tzinfo=UTC)) == "2030-01-31 12:00 UTC"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (640_000, "640 kB"),
        (12_345_678, "12.3 MB"),
        (1_200_000_000, "1.20 GB"),
        (2.0**40, "1100 GB"),
    ],
)
def test_memory_has_a_unit_of_powers_of_ten(value, text):
    assert numbers.memory(value) == text


def test_differences_and_correlations_have_a_sign():
    assert [numbers.points(value) for value in (0.094, -0.211, 0.0)] == ["+9.4", "-21.1", "+0.0"]
    assert [numbers.correlation(value) for value in (0.417, -1.0)] == ["+0.42", "-1.00"]
