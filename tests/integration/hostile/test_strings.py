"""Strings of a stranger's database on every way out: none of them steers a terminal, a text or a spreadsheet."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest
import yaml

from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Declaration, Member
from harness.core.job import Evaluate
from harness.core.result import Cost, Done, Outcome
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.write.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Bench

#: they clear a terminal, name its window, copy to its clipboard (also in one byte), turn a text, hide parts of it, ring
STRINGS = (
    "\x1b[2J\x1b[H",
    "\x1b]0;all is well\x07",
    "\x1b]52;c;Y3VybCBldmls\x07",
    "\x9b31mred\x9d0;title\x9c",
    "row\u202egnp.exe\u2066",
    "mae\u200b-\u2060pure\ufeff",
    "worst\rbest",
    "\a\b\b\b",
)

#: what is in no text that anybody should read
STEERING = "".join(map(chr, [*range(9), *range(11, 32), *range(127, 160), 0x200B, 0x202E, 0x2060, 0x2066, 0xFEFF]))

FORMULAS = ["=cmd|' /C calc'!A0", "@SUM(A1:A9)"]

THREAT = ThreatModel(Norm.LINF, 0.2, Knowledge.OBLIVIOUS)


def database(path: Path, text: str) -> str:
    """Write a database in which every string that a stranger may choose is this one."""
    part = {kind: Spec.of(kind, text, 1, {"note": text}, label=text) for kind in ("dataset", "classifier", "defense")}
    attack = Spec.of("attack", text, 1, {"note": text}, label=text)
    members, jobs = [], []
    for threat, name in ((None, "clean"), (THREAT, text)):
        labels = Labels(text, text, text, *((name, text) if threat else ()))
        its = attack if threat else None
        cell = Cell(**part, attack=its, threat=threat, seed=0, subset_seed=0, labels=labels)
        members.append(Member(cell.labels, cell, random=False))
        jobs.append(Evaluate(cell, Shard(0, 0, 2), 0, 1))
    members.append(Member(Labels(text, text, f"{text} too", text, text), None, False, text, THREAT))
    store = Store.open(str(path), create=True)
    store.declare(Declaration(text, text, yaml.safe_dump({"name": text}), "mean", 2, 1, 8, tuple(members)))
    for job in jobs:
        outcomes = tuple(Outcome(place, place, 0, label=3, prediction=3, correct=True) for place in range(2))
        done = Done(outcomes=outcomes, defense_cost=Cost(images=2), environment={"cpu": text})
        store.finish(store.queue.claim(job), job, done)
    store.engine.dispose()
    return str(path)


def steers(text: str) -> list[str]:
    return sorted({one for one in text if one in STEERING})


def test_no_command_lets_it_through(tiny_bench: type[Bench], tmp_path: Path) -> None:
    bench = tiny_bench.at(tmp_path / "bench")
    hostile, copy = (database(tmp_path / name, "".join(STRINGS)) for name in ("runs.db", "other.db"))
    for words in (
        ("status", "--db", hostile),
        ("report", "--db", hostile, "--out", str(tmp_path / "out")),
        ("compare", hostile, copy),
        ("compare", hostile, copy, "--format", "markdown"),
        ("compare", hostile, copy, "--format", "json"),
        ("db", "check", hostile),
        ("db", "merge", hostile, copy, "--into", str(tmp_path / "both.db")),
        ("db", "export", hostile, "--format", "csv", "--out", str(tmp_path / "frames")),
    ):
        done = bench.any(*words)
        assert done.returncode in (0, 1), done.stderr
        assert steers(done.stdout + done.stderr) == [], words
    for path in (*(tmp_path / "out").iterdir(), *(tmp_path / "frames").iterdir()):
        assert steers(path.read_text()) == [], path.name


def test_an_error_quotes_it_harmlessly(tiny_bench: type[Bench], tmp_path: Path) -> None:
    bench = tiny_bench.at(tmp_path)
    for words in (("validate", "sui\x1b[2Jte"), ("ls", "\x1b[2J"), ("status", "--db", "\u202eruns.db")):
        done = bench.any(*words)
        assert done.returncode == 2
        assert steers(done.stderr) == []
        assert "\\" in done.stderr


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_of_a_table_is_a_formula(tiny_bench: type[Bench], tmp_path: Path, formula: str) -> None:
    bench, db = tiny_bench.at(tmp_path / "bench"), database(tmp_path / "runs.db", formula)
    bench.purebench("report", "--db", db, "--out", str(tmp_path / "out"))
    bench.purebench("db", "export", db, "--format", "csv", "--out", str(tmp_path / "frames"))
    names = set()
    for path in (*(tmp_path / "out").glob("*.csv"), *(tmp_path / "frames").iterdir()):
        with path.open(newline="") as file:
            cells = [value for row in csv.DictReader(file) for value in row.values()]
        names |= set(cells)
        assert [
            one for one in cells if one.startswith(("=", "+", "-", "@")) and not one.lstrip("+-")[:1].isdigit()
        ] == [one for one in cells if one == "-"], path.name
    assert f"'{formula}" in names


def test_the_data_themselves_stay(tiny_bench: type[Bench], tmp_path: Path) -> None:
    import harness

    db = database(tmp_path / "runs.db", STRINGS[4])
    assert set(harness.results(db).cells["dataset"]) == {STRINGS[4]}
    said = tiny_bench.at(tmp_path / "bench").purebench("compare", db, db, "--format", "json").stdout
    assert json.loads(said)
