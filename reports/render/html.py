"""The leaderboard as one page that stands alone: no request leaves it, and everything from the database is escaped."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.core.spec import short
from reports import format as numbers
from reports.attention.tables import introduction, tables
from reports.attention.verdicts import verdicts
from reports.charts.attention import scatters
from reports.charts.budget import curves_of
from reports.charts.cost import figures_of
from reports.flags.glossary import COMPARED, MEANINGS, STATES
from reports.model.columns import ATTACK, DECISIONS, DEFENSE, FACTS, IN_SHORT, LEGEND, groups
from reports.tables.costs import FORWARD, THROUGH, prices
from reports.tables.decisions import RULES, judged
from reports.tables.describe import BESIDE, describe, from_elsewhere, measured
from reports.tables.transfer import matrices

if TYPE_CHECKING:
    from reports.model.leaderboard import Leaderboard


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"numbers": numbers, "describe": describe, "figures_of": figures_of, "prices": prices}
    environment.globals |= {"verdicts": verdicts, "scatters": scatters, "tables": tables, "introduction": introduction}
    environment.globals |= {"judged": judged, "matrices": matrices, "curves_of": curves_of}
    environment.filters |= {"short": short, "prose": _prose}
    return environment


def _prose(text: str) -> Markup:
    """Return a sentence in which `names` between ticks are set as code; everything is escaped first."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def html(leaderboard: Leaderboard) -> str:
    """Return the page."""
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            sections=leaderboard.sections,
            studies=leaderboard.studies,
            origin=leaderboard.provenance,
            measured=measured(leaderboard.provenance),
            facts=FACTS,
            groups=groups(),
            starts=_starts(),
            costs=IN_SHORT,
            defense=DEFENSE,
            attack=ATTACK,
            forward=FORWARD,
            through=THROUGH,
            legend=LEGEND,
            decisions=DECISIONS,
            rules=RULES,
            meanings=MEANINGS,
            states=STATES,
            compared=COMPARED,
            beside=BESIDE,
            from_elsewhere=from_elsewhere,
        )
    )


def _starts() -> frozenset[str]:
    """Return the facts that begin a group, which a table sets apart."""
    first: dict[str, str] = {}
    for fact in FACTS:
        first.setdefault(fact.group, fact.key)
    return frozenset(first.values())
