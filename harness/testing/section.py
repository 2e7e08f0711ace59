"""The contract of a section of a report: parts that every format writes, the same every time, whatever is measured."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Declaration, Member
from harness.core.job import Evaluate
from harness.core.result import Cost, Done, Outcome
from harness.core.spec import Spec
from harness.core.table import Table, checked
from harness.core.threat import Knowledge, Norm, ThreatModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.components import Section
    from harness.core.table import Part

#: examples of the suite that is measured
_EXAMPLES = 4


class SectionContract:
    """What every section promises.

    To test yours:

    1. Subclass, with a name that starts with ``Test``::

           class TestMine(SectionContract):
               def make(self):
                   return Mine()

    2. Return the section from ``make``.
    3. Run pytest.

    It is tried on a database of two suites, of which one was not measured yet; ``database`` may return another.
    """

    def make(self) -> Section:
        """Return the section under test."""
        raise NotImplementedError("return the section under test from make()")

    def database(self, folder: Path) -> str:
        """Return the path of a database to try it on."""
        return measured(folder / "runs.db")

    def test_it_is_made_of_parts(self) -> None:
        """Texts, headings, lists, plots, and tables of values that every format writes."""
        for parts in self._made().values():
            for part in parts:
                checked(part)

    def test_it_says_something(self) -> None:
        """Of what was measured, of a suite or below a board."""
        assert any(self._made().values()), "expected some part of a suite that is measured, got none"

    def test_the_same_report_gives_the_same_parts(self) -> None:
        """In the same order, also by a section that is built anew."""
        assert self._made() == self._made(), "expected the same parts of the same report, got others"

    def test_tables_of_one_title_have_the_same_columns(self) -> None:
        """So that the files of a section can be read together."""
        seen: dict[str, list[str]] = {}
        for part in (part for parts in self._made().values() for part in parts):
            if isinstance(part, Table):
                keys = [column.key for column in part.columns]
                assert seen.setdefault(part.title, keys) == keys, (
                    f"expected the same columns in each table {part.title!r}, got {', '.join(keys)}"
                )

    def _made(self) -> dict[str, list[Part]]:
        """Return what it makes of each suite and board; the report is reached by name, as it stands above."""
        read = importlib.import_module("reports.model.leaderboard").read_leaderboard
        with tempfile.TemporaryDirectory() as folder:
            report = read(self.database(Path(folder)))
            return dict(_parts(self.make(), report))


def _parts(section: Section, report: Any) -> Iterator[tuple[str, list[Part]]]:
    for suite in report.sections:
        for board in suite.boards:
            yield f"{suite.suite.name} {board.anchor}", list(section.of_board(board, suite, report) or ())
        yield suite.suite.name, list(section.of_suite(suite, report) or ())


def measured(path: Path) -> str:
    """Write a database of two suites of a defense and none, on clean input and under an attack; one was measured."""
    from harness.store.write.store import Store  # which imports much, for a test that few write

    store = Store.open(str(path), create=True)
    for name in ("measured", "declared"):
        cells = [_cell(name, defense, attacked) for defense in ("none", "mine") for attacked in (False, True)]
        members = tuple(Member(cell.labels, cell, random=False) for cell in cells)
        store.declare(Declaration(name, "", f"name: {name}\n", "mean", _EXAMPLES, 1, 50, members))
        for place, cell in enumerate(cells if name == "measured" else ()):
            job = Evaluate(cell, Shard(0, 0, _EXAMPLES), 0, 1)
            attempt = store.queue.claim(job)
            assert attempt is not None
            store.finish(attempt, job, _done(cell, right=_EXAMPLES - place))
    store.engine.dispose()
    return str(path)


def _cell(suite: str, defense: str, attacked: bool) -> Cell:
    return Cell(
        dataset=Spec.of("dataset", "digits", 1, {}),
        classifier=Spec.of("classifier", "trained", 1, {"suite": suite}),
        defense=Spec.of("defense", "none" if defense == "none" else "gaussian", 1, {}),
        attack=Spec.of("attack", "pgd", 1, {"steps": 20}) if attacked else None,
        threat=ThreatModel(Norm.LINF, 0.1, Knowledge.FULL) if attacked else None,
        seed=0,
        subset_seed=0,
        labels=Labels("digits", "cnn", defense, *(("pgd", "full") if attacked else ())),
    )


def _done(cell: Cell, right: int) -> Done:
    outcomes = tuple(
        Outcome(example=place, place=place, repeat=0, label=1, prediction=int(place < right), correct=place < right)
        for place in range(_EXAMPLES)
    )
    cost = Cost(_EXAMPLES, 1.0, 2 * _EXAMPLES, 0, _EXAMPLES)
    return Done(
        artifacts=(),
        outcomes=outcomes,
        defense_cost=cost,
        attack_cost=cost if cell.attack else None,
        environment={"python": "3"},
        seconds=1.0,
    )
