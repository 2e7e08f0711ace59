"""How far each suite has come, and what is under way; counted by the database, so that it takes no time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import case, func, select

from harness.store.read.latest import latest_suites, read_results
from harness.store.read.origins import origin_names
from harness.store.tables import ArrivalRow, CellRow, MemberRow, ResultRow, SuiteRow
from harness.store.write.store import Store

if TYPE_CHECKING:
    from harness.store.write.queue import Count, Pace


class SuiteStatus(NamedTuple):
    """The cells of a suite by status, the examples that were judged, and the database it was run in, if another."""

    name: str
    done: int
    partial: int
    missing: int
    skipped: int
    examples: int
    origin: str = ""


@dataclass(frozen=True)
class Status:
    """What ``purebench status`` shows.

    Attributes:
        counts: jobs by kind and status.
        paces: how fast the latest jobs of each kind were.
        drivers: runs that are under way.
        workers: jobs that are under way.
        troubles: a line for every job that is running or did not end well, the first hundred.
    """

    suites: tuple[SuiteStatus, ...]
    counts: tuple[Count, ...]
    paces: tuple[Pace, ...]
    drivers: int
    troubles: tuple[str, ...]

    def jobs(self, *statuses: str) -> int:
        """Count the jobs in some statuses."""
        return sum(count.jobs for count in self.counts if count.status in statuses)

    @property
    def seconds_left(self) -> float | None:
        """How long the queued jobs take at the latest pace; None where nobody works or nothing is known."""
        pace = {one.kind: one.seconds for one in self.paces}
        running = self.jobs("running")
        waiting = [one for one in self.counts if one.status in ("queued", "running") and one.jobs]
        if not self.drivers or not running or not waiting or any(one.kind not in pace for one in waiting):
            return None
        # a running job is half done on average
        work = sum(pace[one.kind] * one.jobs * (0.5 if one.status == "running" else 1.0) for one in waiting)
        return work / running


def status(url: str) -> Status:
    """Return how a database stands.

    Raises:
        UserError: if there is no such database.
    """
    store = Store.open(url)
    with store.engine.connect() as connection:
        names = origin_names(connection)
        origins = {
            row.id: names.get(row.origin, "") for row in connection.execute(select(*ArrivalRow.__table__.columns))
        }
    return Status(
        tuple(_suite(store, row, origins.get(row.arrival or 0, "")) for row in latest_suites(store).values()),
        tuple(store.queue.counts()),
        tuple(store.queue.paces()),
        store.queue.drivers(),
        tuple(store.queue.troubles()),
    )


def _suite(store: Store, suite: SuiteRow, origin: str) -> SuiteStatus:
    """Count what lies within the places and repeats that the suite asks for."""
    repeats = case((CellRow.random, suite.repeats), else_=1)
    places = case((ResultRow.stop < suite.n_examples, ResultRow.stop), else_=suite.n_examples) - ResultRow.start
    rounds = case((ResultRow.stop_repeat < repeats, ResultRow.stop_repeat), else_=repeats) - ResultRow.first_repeat
    within = (ResultRow.start < suite.n_examples) & (ResultRow.first_repeat < repeats)
    measured = (
        select(ResultRow.cell, func.sum(places * rounds).label("outcomes"))
        .join(CellRow, CellRow.digest == ResultRow.cell)
        .where(within, read_results([suite.id]))
        .group_by(ResultRow.cell)
        .subquery()
    )
    query = (
        select(MemberRow.cell, repeats.label("repeats"), measured.c.outcomes)
        .outerjoin(CellRow, CellRow.digest == MemberRow.cell)
        .outerjoin(measured, measured.c.cell == MemberRow.cell)
        .where(MemberRow.suite_id == suite.id)
    )
    words = {"done": 0, "partial": 0, "missing": 0, "skipped": 0}
    examples = 0
    with store.engine.connect() as connection:
        for cell, times, outcomes in connection.execute(query):
            wanted = suite.n_examples * (times or 1)
            if cell is None:
                words["skipped"] += 1
            elif not outcomes:
                words["missing"] += 1
            else:
                words["done" if outcomes >= wanted else "partial"] += 1
                examples += int(outcomes) // times
    return SuiteStatus(suite.name, **words, examples=examples, origin=origin)
