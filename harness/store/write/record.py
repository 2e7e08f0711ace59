"""Recording: a measurement into rows, each place and repeat once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, insert, select, true, update

from harness.core.code_hashes import unlike
from harness.core.rectangle import Rectangle, unmeasured
from harness.core.result import TOTALS, Cost, Outcome
from harness.core.spec import digest_of
from harness.store.database import insert_new
from harness.store.tables import CellRow, OutcomeRow, ResultRow, WeightsRow
from harness.store.write.aggregates import aggregate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement


class Arrival(NamedTuple):
    """A merge that brings results.

    Attributes:
        id: its number.
        origin: the number of the database that they come from; None where they count as computed here.
        database: the name of that database.
    """

    id: int
    origin: int | None
    database: str


@dataclass(frozen=True)
class Measured:
    """What an attempt measured of a cell.

    Attributes:
        weights: content hash by recipe digest.
        code: hashes of the code that measured it, by role.
        counted: the code that it counts under, where that is another; see ``counted_under``.
        within: the set of weights and code that it was meant to add to, by digest, whatever its own code.
        read: whether it is what is read of the cell from now on.
        arrival: the merge that brought it; None for what was measured into this database.
        notes: what was noted of the attack, by name: mean and number of what it is the mean of; None if nobody looked.
    """

    cell: str
    rectangle: Rectangle
    weights: Mapping[str, str]
    outcomes: Sequence[Outcome]
    defense_cost: Cost
    attack_cost: Cost | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, tuple[float, int]] | None = None
    counted: Mapping[str, str] | None = None
    within: str | None = None
    read: bool = True
    arrival: Arrival | None = None

    @property
    def origin(self) -> int | None:
        """The number of the database that it comes from; None where it counts as computed here."""
        return None if self.arrival is None else self.arrival.origin


def record(connection: Connection, attempt: int, measured: Measured) -> int:
    """Record what is new of a measurement; return how many outcomes that was.

    What was measured before with the same weights, code and origin stays and counts; of a measurement that overlaps it,
    the rest is recorded, with its share of the cost.
    """
    # two drivers that record the same cell do so one after the other
    connection.execute(select(CellRow.digest).where(CellRow.digest == measured.cell).with_for_update())
    whole, recorded = measured.rectangle, 0
    weights = counted_under(connection, measured)
    for part in remaining(connection, measured.cell, weights, whole):
        mine = [one for one in measured.outcomes if part.holds(one.place, one.repeat)]
        costs = _columns("defense", _share(measured.defense_cost, part.size, whole.size))
        if measured.attack_cost is not None:
            costs |= _columns("attack", _share(measured.attack_cost, part.places, whole.places))
        key = connection.execute(
            insert(ResultRow).values(
                cell=measured.cell,
                weights=weights,
                attempt=attempt,
                **part._asdict(),
                **aggregate(mine, *part)._asdict(),
                code=dict(measured.code),
                notes=None if measured.notes is None else {name: list(pair) for name, pair in measured.notes.items()},
                arrival=None if measured.arrival is None else measured.arrival.id,
                **costs,
            )
        ).inserted_primary_key
        if key is None:
            raise RuntimeError("expected the database to number the result")
        connection.execute(insert(OutcomeRow), [{"result": key[0], **vars(outcome)} for outcome in mine])
        recorded += part.size
    its = update(CellRow).where(CellRow.digest == measured.cell)
    connection.execute(its.where(_gives_way(measured)).values(current=weights))
    if recorded and measured.arrival is not None:  # what arrives later has not been computed again
        connection.execute(its.where(CellRow.adopted == weights).values(adopted=None))
    return recorded


def _gives_way(measured: Measured) -> ColumnElement[bool]:
    """Return the condition that what is read of a cell gives way to a measurement.

    To what counts as computed here all of other origins does; what is of another origin changes nothing of ours.
    """
    nothing = CellRow.current.is_(None)
    if measured.origin is None:
        foreign = select(WeightsRow.digest).where(WeightsRow.origin.is_not(None))
        return true() if measured.read else nothing | CellRow.current.in_(foreign)
    its = select(WeightsRow.digest).where(WeightsRow.origin == measured.origin)
    return nothing | CellRow.current.in_(its) if measured.read else nothing


def counted_under(connection: Connection, measured: Measured) -> str:
    """Return the set of weights and code that a measurement counts under, by digest; it is made if it is new.

    It is one that the cell has results of, if there is one of the same origin and weights with code that is equal or
    was shown to give the same results; or the one that it was meant to add to.
    """
    hashes, code = dict(measured.weights), dict(measured.code if measured.counted is None else measured.counted)
    origin = measured.origin
    own = set_digest(hashes, code, measured.arrival.database if measured.arrival and origin is not None else None)
    mine = select(ResultRow.weights).where(ResultRow.cell == measured.cell)
    columns = (WeightsRow.digest, WeightsRow.hashes, WeightsRow.code)
    whose = WeightsRow.origin.is_(None) if origin is None else WeightsRow.origin == origin
    there = connection.execute(select(*columns).where(WeightsRow.digest.in_(mine), whose).order_by(WeightsRow.digest))
    alike: dict[str, dict[str, str]] = {row.digest: row.code or {} for row in there if row.hashes == hashes}
    read = connection.scalar(select(CellRow.current).where(CellRow.digest == measured.cell))
    if measured.within is not None and measured.within in alike:
        return measured.within
    for digest in sorted(alike, key=lambda one: (one != read, one != own)):
        if digest == own or (code and alike[digest] and not unlike(alike[digest], code)):
            return digest
    insert_new(connection, WeightsRow, [{"digest": own, "hashes": hashes, "code": code or None, "origin": origin}])
    return own


def set_digest(hashes: Mapping[str, str], code: Mapping[str, str] | None, database: str | None = None) -> str:
    """Return the digest of a set of weights and code, and of the database it comes from, if that is another's."""
    if database is not None:
        return digest_of([dict(hashes), dict(code or {}), database])
    return digest_of([dict(hashes), dict(code)] if code else dict(hashes))


def remaining(connection: Connection, cell: str, weights: str, wanted: Rectangle) -> list[Rectangle]:
    """Return what of a rectangle has not been measured with a set of weights and code, as rectangles."""
    columns = (ResultRow.start, ResultRow.stop, ResultRow.first_repeat, ResultRow.stop_repeat)
    there = select(*columns).where(ResultRow.cell == cell, ResultRow.weights == weights)
    return list(unmeasured(wanted, [Rectangle(*row) for row in connection.execute(there)]))


def _share(cost: Cost, part: int, whole: int) -> Cost:
    """Return a part's share of a cost; counts are whole numbers per image, so theirs is exact. A peak is not shared."""
    if part == whole:
        return cost
    scaled = {name: getattr(cost, name) * part / whole for name in TOTALS}
    return replace(cost, **{name: value if name == "seconds" else round(value) for name, value in scaled.items()})


def _columns(side: str, cost: Cost) -> dict[str, Any]:
    return {f"{side}_{name}": value for name, value in vars(cost).items()}
