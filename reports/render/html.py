"""A report as one page that stands alone: no request leaves it, and everything from the database is escaped."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.core import table as parts
from harness.core.spec import short
from harness.topics import topics
from reports import format as numbers
from reports.charts.plot import drawing
from reports.flags.glossary import COMPARED, MEANINGS, STATES
from reports.model.columns import DECISIONS, legend
from reports.render.html_table import flags_of, heads, prose, row, runs
from reports.sections import PAGE
from reports.sections.drawing import Drawings, FlagsInFull
from reports.sections.made import made
from reports.tables.board import board_table
from reports.tables.describe import describe, from_elsewhere, measured

if TYPE_CHECKING:
    from reports.model.leaderboard import Leaderboard

#: which macro of ``parts.html.j2`` shows a part
KINDS = {
    str: "text",
    parts.Heading: "heading",
    parts.Notes: "notes",
    parts.Table: "table",
    parts.Plot: "plot",
    Drawings: "drawings",
    FlagsInFull: "flags",
}


@functools.cache
def environment() -> Environment:
    """Return what templates are filled in with."""
    made_of = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made_of.globals |= {"numbers": numbers, "describe": describe, "board_table": board_table, "drawing": drawing}
    made_of.globals |= {"heads": heads, "row": row, "flags_of": flags_of}
    made_of.globals |= {"topics": topics(), "kind": lambda part: KINDS[type(part)]}
    made_of.filters |= {"short": short, "prose": prose, "runs": runs}
    return made_of


def html(report: Leaderboard) -> str:
    """Return the page."""
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            sections=report.sections,
            made=functools.partial(made, report, PAGE),
            origin=report.provenance,
            measured=measured(report.provenance),
            legend=legend(report.metrics),
            decisions=DECISIONS,
            meanings=MEANINGS,
            states=STATES,
            compared=COMPARED,
            from_elsewhere=from_elsewhere,
        )
    )
