"""What can be named in a suite, on the screen and in the help."""

from __future__ import annotations

import pytest

from harness.cli import render
from harness.core import registry
from harness.suite import catalog
from harness.topics import topic


def shipped(kind):
    """Components of this distribution alone; others may be installed beside it."""
    return [one for one in catalog.components(kind) if one.origin.startswith("purebench ")]


def test_the_page_of_defenses_has_the_table_of_those_that_are_installed():
    written = topic("defenses")
    shown = render.page(written, shipped)
    table = render.components_markdown("defense", shipped("defense"))
    assert table.startswith("| defense |")
    assert table in shown
    assert shown.replace(table, "") == written.replace("<!-- purebench ls defenses --markdown -->\n", "")


@pytest.mark.parametrize("kind", registry.TABLES)
def test_every_component_says_what_it_is_and_what_its_options_mean(kind):
    for one in shipped(kind):
        assert not one.fault
        assert one.summary.endswith("."), one.name
        assert all(option.description for option in one.options), one.name


def test_a_network_is_listed_with_its_options_and_without_the_name_that_a_recipe_calls_it_by():
    (cnn,) = (one for one in shipped("network") if one.name == "cnn")
    assert [(one.name, one.default) for one in cnn.options] == [("width", "32"), ("hidden", "128")]
    (published,) = (one for one in shipped("objective") if one.name == "published")
    assert [(one.name, one.default) for one in published.options] == [("file", None), ("sha256", None)]


def test_every_defense_names_its_source_and_its_flags():
    for one in shipped("defense"):
        assert one.source, one.name
        assert one.traits is not None, one.name


def test_what_has_to_be_told_is_listed_first():
    for kind in ("dataset", "classifier", "defense", "attack", "certificate"):
        for one in shipped(kind):
            required = [option.default is None for option in one.options]
            assert required == sorted(required, reverse=True), one.name


def test_a_default_in_grey_levels_is_shown_as_one():
    nim = next(one for one in shipped("defense") if one.name == "nim-mae")
    assert next(option.default for option in nim.options if option.name == "sigma") == "70/255"


def test_a_line_of_the_table_keeps_its_cells_when_a_text_has_a_bar():
    info = catalog.ComponentInfo("defense", "odd", "This | that.", "purebench 0", source="here")
    row = render.components_markdown("defense", [info]).splitlines()[2]
    assert row == "| `odd` | This \\| that. | - | - | here |"


def test_an_option_that_is_a_mapping_shows_its_keys():
    (npz,) = (one for one in catalog.components("dataset") if one.name == "npz")
    assert next(option.type for option in npz.options if option.name == "test") == "list of {file, sha256}"
