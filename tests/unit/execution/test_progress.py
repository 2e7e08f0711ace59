"""What a log hears of a run."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from harness.core.job import Train
from harness.core.spec import Spec
from harness.execution.driver.progress import Lines, duration

SLOW, QUICK, SILENT = (Train(Spec.of("recipe", "cnn", 1, {}, label=name)) for name in ("slow", "quick", "silent"))


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    time = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("harness.execution.driver.progress.time", SimpleNamespace(monotonic=lambda: time.now))
    return time


@pytest.fixture
def heard():
    return io.StringIO()


@pytest.fixture
def lines(heard):
    lines = Lines(Console(file=heard, width=40))
    lines.planned([SLOW, QUICK, SILENT])
    return lines


def test_a_job_under_way_is_told_of_every_minute_with_what_is_left(clock, lines, heard):
    lines.started(1, SLOW)
    for clock.now, share in ((1030.0, 0.02), (1060.0, 0.05), (1100.0, 0.08), (1120.0, 0.1), (2800.0, 0.9)):
        lines.moved({1: share})
    assert heard.getvalue().splitlines() == [
        "train slow: 5% after 60 s, about 19 min left",
        "train slow: 10% after 2 min, about 18 min left",
        "train slow: 90% after 30 min, about 3 min left",
    ]


def test_a_job_that_moves_in_large_steps_has_less_left_between_them(clock, lines, heard):
    lines.started(1, SLOW)
    for clock.now, share in ((1050.0, 0.0), (1200.0, 0.1), (1300.0, 0.1), (9000.0, 0.1)):
        lines.moved({1: share})
    assert heard.getvalue().splitlines() == [
        "train slow: 10% after 3 min, about 30 min left",  # 200 s for a tenth
        "train slow: 10% after 5 min, about 28 min left",
        "train slow: 10% after 2.2 h",
    ]


def test_where_nobody_knows_how_far_a_job_is_only_its_time_is_told(clock, lines, heard):
    lines.started(1, SILENT)
    lines.started(2, SLOW)
    clock.now += 300.0
    lines.moved({2: 0.0})
    assert heard.getvalue().splitlines() == [
        "train silent: under way for 5 min",
        "train slow: under way for 5 min",
    ]


def test_what_ends_within_a_minute_or_has_ended_is_told_of_once(clock, lines, heard):
    lines.started(1, QUICK)
    clock.now += 59.0
    lines.moved({1: 0.9})
    lines.ended(1, QUICK, 59.5, "")
    clock.now += 600.0
    lines.moved({})
    lines.ended(2, SLOW, 0.1, "no more memory", again=True)
    assert heard.getvalue().splitlines() == ["[1/3] train quick: 59.5 s", "[1/3] train slow: no more memory"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (89.0, "89 s"), (90.0, "2 min"), (5399.0, "90 min"), (5400.0, "1.5 h")]
)
def test_a_time_is_told_as_people_say_it(seconds, said):
    assert duration(seconds) == said
