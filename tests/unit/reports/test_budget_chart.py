"""Accuracy against eps: which cells make a curve, and where it stands."""

from __future__ import annotations

import pytest

from harness.core.threat import Norm
from reports.charts.budget import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, curves_of
from reports.model.leaderboard import read_leaderboard
from reports.render.html import html
from reports.render.markdown import markdown


@pytest.fixture
def several(trial):
    made = trial()
    for name, rights in (("a", (24, 8)), ("b", (26, 8))):
        made.clean(name)
        for eps, right in zip((0.1, 0.2), rights, strict=True):
            made.attack(name, right=right, eps=eps)
    return made


def test_a_curve_goes_from_clean_input_to_the_largest_radius(several):
    several.attack("a", right=0, eps=1.0)  # a check
    several.attack("a", right=3, fixed=True)
    several.attack("a", right=3, source="b")
    several.attack("a", right=3, threat="bpda")
    several.attack("a", right=3, norm=Norm.L2, eps=1.5)
    (plot,) = curves_of(read_leaderboard(several.write()).sections[0])
    assert (plot.title, plot.norm) == ("digits / cnn, pgd, full", "Linf")
    first = plot.curves[0]
    assert [(point.eps, point.accuracy.share) for point in first.points] == [(0.0, 1.0), (0.1, 0.75), (0.2, 0.25)]
    height = HEIGHT - TOP - BOTTOM
    places = [(LEFT, TOP), ((LEFT + WIDTH - RIGHT) / 2, TOP + height / 4), (WIDTH - RIGHT, TOP + 3 * height / 4)]
    assert [(point.x, point.y) for point in first.points] == [pytest.approx(place, abs=0.06) for place in places]
    assert all(point.high <= point.y <= point.low for point in first.points)
    assert [tick.text for tick in plot.x_ticks] == ["0", "0.1", "0.2"]


def test_names_of_lines_that_end_together_do_not_cover_each_other(several):
    (plot,) = curves_of(read_leaderboard(several.write()).sections[0])
    heights = sorted(curve.label_y for curve in plot.curves)
    assert heights[1] - heights[0] >= 15.0


def test_another_suites_radius_is_a_point_too(trial):
    made = trial()
    made.clean()
    made.attack(right=20)
    made.write()
    assert curves_of(read_leaderboard(str(made.path)).sections[0]) == []
    other = trial(name="other")
    other.attack(right=30, eps=0.1)
    other.write()
    (plot,) = curves_of(read_leaderboard(str(made.path), "toy").sections[0])
    assert [point.eps for point in plot.curves[0].points] == [0.0, 0.1, 0.2]


def test_the_page_draws_what_markdown_tells(several):
    found = read_leaderboard(several.write())
    page, text = html(found), markdown(found)
    assert page.count('<g class="eps hue-') == 2
    row = next(line for line in text.splitlines() if line.startswith("| a | 100.0"))
    assert [cell.split()[0] for cell in row.split(" | ")[1:]] == ["100.0", "75.0", "25.0"]
