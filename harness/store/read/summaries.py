"""Tallies: the numbers of every cell from the aggregates of its results, all cells at once.

Python meets a result once, to take it from the database; what is added up is added up by numpy, in the order of the
results, so that a sum is the same to the last digit however many cells there are.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from sqlalchemy import select

from harness.core.errors import UserError, nearest
from harness.core.result import MOST_OUTCOMES, TOTALS, Cost
from harness.store.read.latest import read_results
from harness.store.read.measures import columns, sums_by_metric, taken, wanted_part
from harness.store.tables import OutcomeRow, ResultRow
from harness.store.write.aggregates import bits_of
from harness.store.write.aggregates import sums as added

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement

    from harness.store.read.measures import Asked, Sums
    from harness.store.write.store import Store

    Shares = np.ndarray[Any, np.dtype[np.float64]]
    Numbers = np.ndarray[Any, np.dtype[Any]]

#: the columns that a cost per image has
SHARES = [name for name in TOTALS if name != "images"]

#: the columns of the largest memory that was needed
PEAK = ["peak_memory", "batch_size"]

#: the columns of a tally besides those of metrics; costs are per image, a peak is that of a batch
BEFORE = ["status", "n", "n_repeats", "faults", "accuracy"]
COSTS = [f"{side}_{name}" for side in ("defense", "attack") for name in (*SHARES, *PEAK)]

#: how the repeats of a random defense become one verdict per example
DECISIONS = ("mean", "any", "majority")

#: cells that are unpacked at a time: few enough that they stay in the processor's cache
BLOCK = 500


def decide(share: Shares, decision: str) -> Shares:
    """Return the verdict per example, 0 to 1, from the share of its repeats that were correct.

    ``mean``: that share. ``any``: 1 only if no repeat was wrong (any failure breaks it). ``majority``: 1 if more
    than half of the repeats were correct.

    Raises:
        UserError: if there is no such decision.
    """
    if decision == "mean":
        return share
    if decision == "any":
        return np.asarray(share == 1.0, float)
    if decision == "majority":
        return np.asarray(share > 0.5, float)
    raise UserError(f"expected a decision of {', '.join(DECISIONS)}, got {decision!r}; {nearest(decision, DECISIONS)}")


class Tallies(NamedTuple):
    """What was measured of the members of suites.

    Attributes:
        frame: a row per member: ``BEFORE``, the means of the metrics that its suite asks for, ``COSTS``.
        verdicts: of each finished member, by its row: the verdict per place.
        shares: of each member with results, by its row: the share of repeats that were correct, per place; not a number
            where a place was not measured.
        notes: of each member whose attack was looked at as it was made, by its row: mean and number by name.
        broken: of each member with faults, by its row: by what was wrong, the number of repeats that it befell, per
            place.
    """

    frame: pd.DataFrame
    verdicts: dict[int, Shares]
    shares: dict[int, Shares]
    notes: dict[int, dict[str, tuple[float, float]]]
    broken: dict[int, dict[str, Numbers]]


def tallies(
    store: Store,
    suites: Sequence[int],
    members: pd.DataFrame,
    others: Sequence[str] = (),
    asked: Mapping[str, Asked] | None = None,
    *,
    own: bool = False,
) -> Tallies:
    """Add up what the database holds of members: their ``cell``, and what their suite wants of it.

    They may stand for ``others`` as well, cells that the suites do not have. ``asked`` has the metrics by suite. With
    ``own`` what was computed elsewhere is left out.
    """
    condition = read_results(suites, others, own=own)
    found = _Results(store, condition)
    pairs = _pairs(found, members)
    owner, n = pairs["owner"].to_numpy(), len(members)
    frame = pd.DataFrame({"status": np.where(members["cell"].isna(), "skipped", "missing")}, index=members.index)
    repeats = np.zeros(n, np.int64)
    np.maximum.at(repeats, owner, pairs["end"].clip(upper=pairs["repeats"]).to_numpy())
    seen, accuracy, complete, verdicts, shares = _judged(found, pairs, n)
    frame.loc[seen > 0, "status"] = np.where(complete, "done", "partial")[seen > 0]
    frame["n"], frame["n_repeats"], frame["accuracy"] = seen, repeats, accuracy
    measured = _Measured(store, found, pairs, members["suite"].to_numpy(object), asked or {}, condition)
    frame["faults"] = _faults(store, found, pairs, n) + measured.lost
    means = pd.DataFrame({**measured.means, **_costs(found, pairs, n)}, index=members.index)
    frame = pd.concat([frame, means], axis=1)
    broken = _broken(store, found, pairs)
    for owner_, faults in measured.broken.items():
        broken[owner_] = {**broken.get(owner_, {}), **faults}
    return Tallies(frame[[*BEFORE, *measured.means, *COSTS]], verdicts, shares, _notes(found, pairs), broken)


class _Results:
    """The columns of the results that are read, in the order of cell, place and repeat."""

    def __init__(self, store: Store, condition: ColumnElement[bool]) -> None:
        columns = ["cell", "start", "stop", "first_repeat", "stop_repeat", "faults", "id", "correct", "notes"]
        costs = [f"{side}_{name}" for side in ("defense", "attack") for name in vars(Cost())]
        query = (
            select(*(getattr(ResultRow, name) for name in (*columns, *costs)))
            .where(condition)
            .order_by(ResultRow.cell, ResultRow.start, ResultRow.first_repeat)
        )
        with store.engine.connect() as connection:
            rows = connection.execute(query).all()
        found = list(zip(*rows, strict=True)) or [()] * (len(columns) + len(costs))
        cells, start, stop, first, end, faults, ids, correct, self.notes = found[: len(columns)]
        self.correct = np.array(correct, object)
        self.start, self.stop, self.first, self.end, self.faults, self.ids = (
            np.array(column, np.int64) for column in (start, stop, first, end, faults, ids)
        )
        self.costs = {name: np.array(column, float) for name, column in zip(costs, found[len(columns) :], strict=True)}
        for side in ("defense", "attack"):  # of what adds up, what was not measured counts nothing
            self.costs |= {f"{side}_{name}": np.nan_to_num(self.costs[f"{side}_{name}"]) for name in TOTALS}
        self.spans: dict[str, range] = {}
        for row, cell in enumerate(cells):
            self.spans[cell] = range(self.spans[cell].start if cell in self.spans else row, row + 1)


def _pairs(found: _Results, members: pd.DataFrame) -> pd.DataFrame:
    """Return a row per member and result that has something of what the member's suite wants."""
    spans = [found.spans.get(cell, range(0)) for cell in members["cell"]]
    owner = np.repeat(np.arange(len(members)), [len(span) for span in spans])
    row = np.array([row for span in spans for row in span], np.int64)
    wanted = members["wanted_repeats"].where(members["random"].eq(True), 1)
    pairs = pd.DataFrame(
        {
            "owner": owner,
            "row": row,
            **{name: getattr(found, name)[row] for name in ("start", "stop", "first", "end")},
            "places": members["wanted_examples"].to_numpy(np.int64)[owner],
            "repeats": wanted.to_numpy(np.int64)[owner],
            "decision": members["decision"].to_numpy(object)[owner],
        }
    )
    return pairs[(pairs["start"] < pairs["places"]) & (pairs["first"] < pairs["repeats"])]


def _judged(
    found: _Results, pairs: pd.DataFrame, n: int
) -> tuple[Numbers, Shares, Numbers, dict[int, Shares], dict[int, Shares]]:
    """Return for each member how many places were seen, its accuracy, whether it is complete; verdicts and shares."""
    seen, accuracy, complete = np.zeros(n, np.int64), np.full(n, np.nan), np.zeros(n, bool)
    verdicts: dict[int, Shares] = {}
    shares: dict[int, Shares] = {}
    most = (pairs["places"] * pairs["repeats"]).max() if len(pairs) else 0
    if most > MOST_OUTCOMES:
        raise UserError(f"expected a suite of at most {MOST_OUTCOMES} outcomes in a cell, got one of {most}")
    block_size = (MOST_OUTCOMES // (pairs["places"] * pairs["repeats"])).clip(1, BLOCK)
    wanted: Any
    for wanted, block in pairs.groupby(["places", "repeats", "decision", pairs["owner"] // block_size]):
        places, repeats, decision, _ = wanted
        owners, position = np.unique(block["owner"].to_numpy(), return_inverse=True)
        bits = np.full((repeats, len(owners), places), -1, np.int8)  # 1 correct, 0 wrong, -1 not measured
        rectangle: Any
        for rectangle, like in block.groupby(["start", "stop", "first", "end"]).indices.items():
            start, stop, first, end = rectangle
            unpacked = bits_of(found.correct[block["row"].to_numpy()[like]], stop - start, end - first)
            target = bits[first:end, :, start:stop]
            target[:, position[like]] = unpacked.transpose(2, 0, 1)[: len(target), :, : target.shape[2]]
        times = (bits >= 0).sum(0, dtype=np.int32)
        right = (bits == 1).sum(0, dtype=np.int32)
        seen[owners] = (times > 0).sum(1)
        whole = (times == repeats).all(1)
        complete[owners] = whole
        share = right[whole] / repeats
        verdict = decide(share, decision)
        accuracy[owners[whole]] = verdict.sum(1) / places
        verdicts |= dict(zip(owners[whole].tolist(), verdict, strict=True))
        shares |= dict(zip(owners[whole].tolist(), share, strict=True))
        for at in np.flatnonzero(~whole):
            there = times[at] > 0
            partial = np.full(places, np.nan)
            partial[there] = right[at][there] / times[at][there]
            shares[int(owners[at])] = partial
            part = decide(partial[there], decision)
            accuracy[owners[at]] = part.sum() / len(part)
    return seen, accuracy, complete, dict(sorted(verdicts.items())), shares


def _notes(found: _Results, pairs: pd.DataFrame) -> dict[int, dict[str, tuple[float, float]]]:
    """Return what was noted of each member's attack; what stands with several results of a slice counts once."""
    noted: dict[int, dict[str, tuple[float, float]]] = {}
    once = pairs[~pairs.duplicated(["owner", "start", "stop"])]
    for owner, row in zip(once["owner"].tolist(), once["row"].tolist(), strict=True):
        notes = found.notes[row]
        if notes is None:
            continue
        mine = noted.setdefault(owner, {})
        for name, (mean, number) in notes.items():
            before, count = mine.get(name, (0.0, 0))
            whole = count + number
            mine[name] = ((before * count + mean * number) / whole if whole else 0.0, whole)
    return noted


def _broken(store: Store, found: _Results, pairs: pd.DataFrame) -> dict[int, dict[str, Numbers]]:
    """Return the faults of each member that has any; only results with faults are read outcome by outcome."""
    touched = pairs[found.faults[pairs["row"].to_numpy()] > 0]
    columns = (OutcomeRow.result, OutcomeRow.place, OutcomeRow.repeat, OutcomeRow.fault)
    results = sorted(set(found.ids[touched["row"].to_numpy()].tolist()))
    seen: dict[int, list[tuple[int, int, str]]] = {}
    with store.engine.connect() as connection:
        for start in range(0, len(results), 500):
            mine = OutcomeRow.result.in_(results[start : start + 500])
            for result, place, repeat, fault in connection.execute(
                select(*columns).where(mine, columns[3].is_not(None))
            ):
                seen.setdefault(result, []).append((place, repeat, str(fault)))
    broken: dict[int, dict[str, Numbers]] = {}
    for owner, row, places, repeats in touched[["owner", "row", "places", "repeats"]].itertuples(index=False):
        for place, repeat, fault in seen[int(found.ids[row])]:
            if place < places and repeat < repeats:
                of_owner = broken.setdefault(owner, {})
                of_owner.setdefault(fault, np.zeros(places, np.int64))[place] += 1
    return broken


def _faults(store: Store, found: _Results, pairs: pd.DataFrame, n: int) -> Numbers:
    """Return how many outcomes of each member have a fault."""
    faults = found.faults[pairs["row"].to_numpy()]
    beyond = _beyond(pairs) & (faults > 0)
    wanted: Any
    for wanted, part in pairs[beyond].assign(at=np.flatnonzero(beyond)).groupby(["places", "repeats"]):
        places, repeats = wanted
        results = found.ids[part["row"]].tolist()
        within: Counter[int] = Counter()
        with store.engine.connect() as connection:
            for start in range(0, len(results), 500):
                query = select(OutcomeRow.result).where(
                    OutcomeRow.result.in_(results[start : start + 500]),
                    OutcomeRow.place < places,
                    OutcomeRow.repeat < repeats,
                    OutcomeRow.fault.is_not(None),
                )
                within.update(connection.scalars(query))
        faults[part["at"].to_numpy()] = [within[result] for result in results]
    return np.bincount(pairs["owner"].to_numpy(), weights=faults, minlength=n).astype(np.int64)


def _beyond(pairs: pd.DataFrame) -> Numbers:
    """Return which results have more than their member's suite asks for."""
    beyond: Numbers = ((pairs["stop"] > pairs["places"]) | (pairs["end"] > pairs["repeats"])).to_numpy()
    return beyond


class _Measured:
    """What metrics gave of members.

    Attributes:
        means: by column, the mean of each member; not a number where its suite does not ask for it.
        lost: how many numbers of each member were not finite.
        broken: of each member with such, by its row: by what was wrong, in how many repeats, per place.
    """

    def __init__(
        self,
        store: Store,
        found: _Results,
        pairs: pd.DataFrame,
        suites: Numbers,
        asked: Mapping[str, Asked],
        condition: ColumnElement[bool],
    ) -> None:
        n = len(suites)
        self.lost = np.zeros(n, np.int64)
        self.broken: dict[int, dict[str, Numbers]] = {}
        names = [column.name for column in columns(asked.values())]
        self._counts = {name: np.zeros(n) for name in names}
        self._totals = {name: np.zeros(n) for name in names}
        self._store, self._found = store, found
        sums = sums_by_metric(store, condition) if names else {}
        within = pairs.assign(beyond=_beyond(pairs), suite=suites[pairs["owner"].to_numpy()])
        for suite, metrics in asked.items():
            mine = within[(within["suite"] == suite).to_numpy()]
            for digest in metrics:
                if digest in sums:
                    self._whole(mine[~mine["beyond"]], digest, sums[digest])
                    self._parts(mine[mine["beyond"]], digest, sums[digest])
        self.means = {name: _ratio(self._totals[name], self._counts[name]) for name in names}

    def _whole(self, pairs: pd.DataFrame, digest: str, sums: Sums) -> None:
        """Add what was measured of whole results."""
        ids = self._found.ids[pairs["row"].to_numpy()]
        there = np.array([int(result) in sums.by_result for result in ids], bool)
        if not there.any():
            return
        owner = pairs["owner"].to_numpy()[there]
        packed = np.stack([sums.by_result[int(result)] for result in ids[there]])
        sizes = ((pairs["stop"] - pairs["start"]) * (pairs["end"] - pairs["first"])).to_numpy()[there]
        for place, name in enumerate(sums.names):
            if name in self._counts:
                self._add(name, owner, packed[:, place, 0], packed[:, place, 1])
                lost = sizes - packed[:, place, 0].astype(np.int64)
                np.add.at(self.lost, owner, lost)
                self._note(pairs[there][lost > 0], digest, name, place)

    def _parts(self, pairs: pd.DataFrame, digest: str, sums: Sums) -> None:
        """Add what was measured of the part of results that a suite asks for."""
        ids = self._found.ids[pairs["row"].to_numpy()].tolist()
        numbers = {one.result: one for one in taken(self._store, sorted(set(ids)), [digest])}
        for owner, places, repeats, result in zip(pairs["owner"], pairs["places"], pairs["repeats"], ids, strict=True):
            if result in numbers:
                part = wanted_part(numbers[result], places, repeats)
                for place, name in enumerate(sums.names):
                    if name in self._counts:
                        finite = part[place][np.isfinite(part[place])]
                        count, total, _ = added(finite.tolist())
                        self._add(name, np.array([owner]), np.array([count]), np.array([total]))
                        self.lost[owner] += part[place].size - len(finite)
                        self._tell(owner, name, numbers[result].rectangle.start, places, part[place])

    def _add(self, name: str, owner: Numbers, counts: Numbers, totals: Numbers) -> None:
        n = len(self.lost)
        self._counts[name] += np.bincount(owner, weights=counts, minlength=n)
        self._totals[name] += np.bincount(owner, weights=totals, minlength=n)

    def _note(self, pairs: pd.DataFrame, digest: str, name: str, place: int) -> None:
        """Note where the numbers of whole results were not finite."""
        ids = self._found.ids[pairs["row"].to_numpy()].tolist()
        numbers = {one.result: one for one in taken(self._store, sorted(set(ids)), [digest])}
        for owner, places, repeats, result in zip(pairs["owner"], pairs["places"], pairs["repeats"], ids, strict=True):
            part = wanted_part(numbers[result], places, repeats)[place]
            self._tell(owner, name, numbers[result].rectangle.start, places, part)

    def _tell(self, owner: int, name: str, start: int, places: int, part: Numbers) -> None:
        lost = (~np.isfinite(part)).sum(1)
        if lost.any():
            told = self.broken.setdefault(int(owner), {}).setdefault(f"{name} not finite", np.zeros(places, np.int64))
            told[start : start + len(lost)] += lost


def _costs(found: _Results, pairs: pd.DataFrame, n: int) -> dict[str, Numbers]:
    """Return costs per image, and the largest peaks.

    An attack on a slice is recorded with each of the slice's results, and paid once.
    """
    once = ~pairs.duplicated(["owner", "start", "stop"])
    costs: dict[str, Numbers] = {}
    for side, paid in (("defense", pairs), ("attack", pairs[once][::-1])):
        owner, row = paid["owner"].to_numpy(), paid["row"].to_numpy()
        total = {name: np.bincount(owner, weights=found.costs[f"{side}_{name}"][row], minlength=n) for name in TOTALS}
        costs |= {f"{side}_{name}": _ratio(total[name], total["images"]) for name in SHARES}
        peak, batch = (found.costs[f"{side}_{name}"][row] for name in PEAK)
        peaks = _peaks(peak, batch, owner, n)
        costs |= {f"{side}_{name}": column for name, column in zip(PEAK, peaks, strict=True)}
    return costs


def _peaks(peak: Numbers, batch: Numbers, owner: Numbers, n: int) -> tuple[Shares, Shares]:
    """Return for each of ``n`` owners its largest peak that is known, and the batch size that goes with it."""
    order = np.lexsort((batch, peak, owner))
    order = order[~np.isnan(peak[order])]  # the last of each owner is its largest
    last = order[np.flatnonzero(np.diff(owner[order], append=-1))]
    found = np.full((2, n), np.nan)
    found[:, owner[last]] = peak[last], batch[last]
    return found[0], found[1]


def _ratio(total: Numbers, count: Numbers) -> Shares:
    """Return what each of ``count`` has of ``total``; not a number where there is none."""
    ratio = np.full(len(count), np.nan)
    np.divide(total, count, out=ratio, where=count > 0)
    return ratio
