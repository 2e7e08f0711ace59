"""What can be named in a suite, on the screen and in the help."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import render
from harness.suite import catalog

PAGE = Path(__file__).parents[2] / "harness" / "help" / "defenses.md"


def shipped(kind):
    """Components of this distribution alone; others may be installed beside it."""
    return [one for one in catalog.components(kind) if one.origin.startswith("purebench ")]


def test_its_page_has_the_table_of_defenses_as_it_is_printed():
    start, end = "<!-- defenses: purebench ls defenses --markdown -->\n", "<!-- /defenses -->"
    written = PAGE.read_text().partition(start)[2].partition(end)[0]
    assert written == render.components_markdown("defense", shipped("defense")), (
        "put the output of `purebench ls defenses --markdown` between the two marks in harness/help/defenses.md"
    )


@pytest.mark.parametrize("kind", ["dataset", "classifier", "defense", "attack", "certificate"])
def test_every_component_says_what_it_is_and_what_its_options_mean(kind):
    for one in shipped(kind):
        assert not one.fault
        assert one.summary.endswith("."), one.name
        assert all(option.description for option in one.options), one.name


def test_every_defense_names_its_source_and_its_flags():
    for one in shipped("defense"):
        assert one.source, one.name
        assert one.traits is not None, one.name


def test_a_default_in_grey_levels_is_shown_as_one():
    nim = next(one for one in shipped("defense") if one.name == "nim-mae")
    assert next(option.default for option in nim.options if option.name == "sigma") == "70/255"


def test_a_line_of_the_table_keeps_its_cells_when_a_text_has_a_bar():
    info = catalog.ComponentInfo("defense", "odd", "This | that.", "purebench 0", source="here")
    row = render.components_markdown("defense", [info]).splitlines()[2]
    assert row == "| `odd` | This \\| that. | - | - | here |"
