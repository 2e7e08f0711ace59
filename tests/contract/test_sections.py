"""The contract of sections on those that ship, and on some that break it."""

from __future__ import annotations

import itertools

import pytest

import harness
from harness.core.errors import UserError
from harness.core.registry import find
from harness.core.table import Column, Table
from harness.testing import SectionContract


class TestWhatAllSay(SectionContract):
    """A section of texts and of a table with the figures of the frames."""

    def make(self):
        class Mine(harness.Section):
            def of_suite(self, suite, report):
                cells = report.results.cells
                mine = cells[cells["suite"] == suite.suite.name]
                columns = [Column("defense", "defense"), Column("n", "examples", "count")]
                return [f"{len(mine)} cells", Table("cells", columns, mine[["defense", "n"]].to_numpy().tolist())]

        return Mine()


@pytest.mark.parametrize("name", ["costs", "decisions", "published", "transfer"])
def test_tables_of_ours_keep_it_too(name):
    contract = _of(find("section", name).load()())
    contract.test_it_is_made_of_parts()
    contract.test_the_same_report_gives_the_same_parts()


def _of(section):
    contract = SectionContract()
    contract.make = lambda: section
    return contract


def _saying(say):
    class Mine(harness.Section):
        def of_suite(self, suite, report):
            return say(suite)

    return _of(Mine())


def test_what_is_no_part_is_told():
    with pytest.raises(UserError, match="expected a section to be made of parts"):
        _saying(lambda suite: [1]).test_it_is_made_of_parts()


def test_silence_is_told():
    with pytest.raises(AssertionError, match="expected some part"):
        _saying(lambda suite: None).test_it_says_something()


def test_other_parts_of_the_same_report_are_told():
    count = itertools.count()
    with pytest.raises(AssertionError, match="expected the same parts"):
        _saying(lambda suite: [str(next(count))]).test_the_same_report_gives_the_same_parts()


def test_other_columns_under_the_same_title_are_told():
    with pytest.raises(AssertionError, match="expected the same columns in each table 't', got declared"):
        _saying(
            lambda suite: [Table("t", [Column(suite.suite.name, "a")], [])]
        ).test_tables_of_one_title_have_the_same_columns()
