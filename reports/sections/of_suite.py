"""Sections below all boards of a suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components import Section
from harness.core.table import Heading, Item, Notes
from reports.attention.tables import introduction, tables
from reports.attention.verdicts import verdicts
from reports.charts.attention import scatters
from reports.charts.budget import curve_table, curves_of
from reports.sections.drawing import Drawings
from reports.tables.cells import cell_table
from reports.tables.describe import BESIDE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.core.table import Part
    from reports.cell import Entry
    from reports.model.leaderboard import Leaderboard
    from reports.model.leaderboard import Section as Suite


def _reasons(entries: Iterable[Entry]) -> Notes:
    return Notes([Item(entry.outcome, entry.full_name, entry.anchor) for entry in entries])


class Certificates(Section):
    """What no attack can change, by radius."""

    def of_suite(self, suite: Suite, report: Leaderboard) -> Iterator[Part | Drawings]:
        """Yield a table for each dataset and classifier, with its chart."""
        for certified in suite.certified:
            yield Heading(certified.title)
            yield certified.table
            if certified.drawing:
                yield Drawings("certified", ((certified.drawing, f"{certified.dataset} / {certified.classifier}"),))
            if certified.reasons:
                yield _reasons(certified.reasons)


class Refused(Section):
    """Refused cells whose budget is not known."""

    def of_suite(self, suite: Suite, report: Leaderboard) -> Iterator[Part]:
        """Yield the list."""
        if suite.homeless:
            yield Heading("Refused, on no board")
            yield "No other cell shares their threat model, so their budget is not known."
            yield _reasons(suite.homeless)


class Attention(Section):
    """What purification does to attention."""

    def of_suite(self, suite: Suite, report: Leaderboard) -> Iterator[Part | Drawings]:
        """Yield the verdicts, the charts and the tables of each study."""
        for study in report.studies:
            if study.suite != suite.suite.name:
                continue
            yield Heading(f"What purification does to attention: {study.title}")
            yield introduction(study)
            if found := verdicts(study):
                yield Notes([Item(" ".join(v.reasons), f"{v.defense}, {v.column}: {v.answer}.") for v in found])
            if plots := tuple(scatters(study)):
                yield Drawings("scatter", plots)
            yield from tables(study)


class Budget(Section):
    """Accuracy against the radius of the budget."""

    def of_suite(self, suite: Suite, report: Leaderboard) -> Iterator[Part | Drawings]:
        """Yield the charts."""
        if plots := tuple(curves_of(suite)):
            yield Heading("Accuracy against eps")
            yield Drawings("lines", plots, tuple(map(curve_table, plots)))


class Disputes(Section):
    """What others measured of the same cells."""

    def of_suite(self, suite: Suite, report: Leaderboard) -> Iterator[Part]:
        """Yield the list."""
        if suite.suite.disputes:
            yield Heading(BESIDE)
            yield Notes([str(one) for one in suite.suite.disputes])


class Cells(Section):
    """Every cell."""

    def of_suite(self, suite: Suite, report: Leaderboard) -> Iterator[Part]:
        """Yield the table."""
        yield Heading(f"Every cell of {suite.suite.name}")
        yield cell_table("", (*suite.entries, *suite.elsewhere), report.metrics)
