"""Databases of strangers, each spoiled in one way: every command says so in a sentence, and none is taken in.

A value is spoiled in a file that is whole otherwise, so that what notices it is what looks for it. Each has the word by
which `db check` names it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.core.spec import Spec, digest_of
from harness.data.digits import Digits
from harness.nets.python import FromPython

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Bench

#: more than any honest command takes for so small a database, on a machine with much else to do
PATIENCE = 120.0


class Spoiled(NamedTuple):
    """Statements, and what `db check` says of them."""

    statements: str
    said: str


#: values that can be read, and are not what was measured
FORGED = {
    # figures that would rank
    "correct flags": Spoiled("UPDATE outcomes SET correct = 1", "correct"),
    "correct bits": Spoiled("UPDATE results SET correct = x'fc'", "correct not as the outcomes have it"),
    "predictions that are no label": Spoiled("UPDATE outcomes SET prediction = 3", "prediction is not the label"),
    "a label below nought": Spoiled("UPDATE outcomes SET label = -3, prediction = -3 WHERE correct = 1", "negative"),
    "results moved to another cell": Spoiled(
        "UPDATE results SET start = start + 6, stop = stop + 6 WHERE id IN (3, 4); "
        "UPDATE outcomes SET place = place + 6 WHERE result IN (3, 4); "
        "UPDATE results SET cell = (SELECT cell FROM results WHERE id = 1) WHERE id IN (3, 4)",
        "but its attempt was at cell",
    ),
    "an attempt moved to another job": Spoiled(
        "UPDATE attempts SET job = (SELECT job FROM attempts WHERE id = 1) WHERE id = 3", "but its attempt was at cell"
    ),
    "two defenses' names exchanged": Spoiled(
        "UPDATE members SET defense = 'x' WHERE defense = 'mae'; UPDATE members SET defense = 'mae' WHERE defense = "
        "'dmae'; UPDATE members SET defense = 'dmae' WHERE defense = 'x'",
        "members of toy",
    ),
    "weights that no file had": Spoiled("INVENT WEIGHTS", "which no file had"),
    "the same outcomes twice": Spoiled(
        "CREATE TEMP TABLE one AS SELECT * FROM results WHERE id = 1; UPDATE one SET id = 100, first_repeat = 1; "
        "INSERT INTO results SELECT * FROM one",
        "overlap",
    ),
    "outcomes that are missing": Spoiled("DELETE FROM outcomes WHERE place = 4", "expected 6 outcomes, got 4"),
    "a repeat beyond its result": Spoiled("UPDATE outcomes SET repeat = 7 WHERE repeat = 1", "each place and repeat"),
    "faults": Spoiled("UPDATE results SET faults = 4", "faults not as the outcomes have it"),
    "sums": Spoiled(
        "UPDATE measures SET sums = zeroblob(length(sums)) WHERE result = 3 AND shape = ''",
        "sums not as the numbers have it",
    ),
    "a metric's numbers of another result": Spoiled(
        "UPDATE measures SET numbers = (SELECT numbers FROM measures WHERE result = 1 AND shape = '') "
        "WHERE result = 3 AND shape = ''",
        "sums not as the numbers have it",
    ),
    "a metric that was left out of one result": Spoiled("DELETE FROM measures WHERE result = 3", "took it, got none"),
    "two columns of a metric exchanged": Spoiled(
        "UPDATE measures SET names = 'l2,linf' WHERE shape = ''", "its columns are not those that a suite asks for"
    ),
    "numbers of a head at another's place": Spoiled(
        "UPDATE measures SET shape = '2,2,2,1' WHERE result = 3 AND shape != ''",
        "its shape is 2,2,2,1, that of another result 2,2,1,2",
    ),
    "a probe that no file had": Spoiled(
        "UPDATE artifacts SET sha256 = replace(sha256, 'b', 'c') WHERE label = 'toy-mae'", "which no file had"
    ),
    "a metric of an attempt that failed": Spoiled(
        "CREATE TEMP TABLE one AS SELECT * FROM attempts WHERE id = 3; UPDATE one SET id = 100, status = 'failed'; "
        "INSERT INTO attempts SELECT * FROM one; UPDATE measures SET attempt = 100 WHERE result = 3",
        "it is of an attempt that ended as failed",
    ),
    "a metric of an attempt at another cell": Spoiled(
        "UPDATE measures SET attempt = 1 WHERE result = 3", "its attempt was not to take it"
    ),
    "a metric that is an attack": Spoiled(
        "UPDATE measures SET metric = (SELECT digest FROM components WHERE kind = 'attack') WHERE shape = ''",
        "it is of a component of kind attack",
    ),
    # what it is of
    "a spec": Spoiled("UPDATE components SET spec = json_set(spec, '$.params.steps', 1)", "not what its digest says"),
    "a component of nothing": Spoiled("NOTHING", "has a spec that describes no defense"),
    "a component's name": Spoiled(
        "UPDATE components SET use = 'mae-pure' WHERE use = 'dmae'", "its spec says otherwise"
    ),
    "a cell's seed": Spoiled("UPDATE cells SET seed = 7", "cells: the content of"),
    "a cell's defense": Spoiled(
        "UPDATE cells SET defense = (SELECT digest FROM components WHERE use = 'mae')", "cells: the content of"
    ),
    "a suite's text": Spoiled("UPDATE suites SET text = 'name: other'", "the text, rules or members of toy"),
    "a suite's rule": Spoiled("UPDATE suites SET decision = 'any'", "the text, rules or members of toy"),
    "a suite's metrics": Spoiled("UPDATE suites SET metrics = '{}'", "the text, rules or members of toy"),
    "code": Spoiled('UPDATE weights SET code = \'{"attack": "tree:2"}\'', "weights: the content of"),
    "an environment": Spoiled("UPDATE environments SET facts = '{}'", "environments: the content of"),
    # words and names
    "a status": Spoiled("UPDATE jobs SET status = 'marvellous'", "expected one of queued"),
    "a kind of job": Spoiled("UPDATE jobs SET kind = 'dance'", "expected one of train"),
    "an attempt without its job": Spoiled("DELETE FROM jobs", "which is not among the jobs"),
    "results without their attempt": Spoiled("DELETE FROM attempts", "which is not among the attempts"),
    "two names of its own": Spoiled("INSERT INTO origins VALUES (2, 'x', 'here')", "one name of its own"),
    "seconds below nought": Spoiled("UPDATE results SET defense_seconds = -1", "a cost is negative"),
    "attempts that took less than nothing": Spoiled("UPDATE attempts SET seconds = -5", "attempts: seconds"),
}

#: values that no command can read as they are meant
UNREADABLE = {
    # what is no value
    "a date": Spoiled("UPDATE suites SET declared_at = 'soon'", "expected rows that can be read"),
    "a date that is a number": Spoiled("UPDATE attempts SET started_at = 12", "started_at are no text"),
    "half a JSON": Spoiled("UPDATE environments SET facts = '{'", "facts are no mappings"),
    "a list for a mapping": Spoiled("UPDATE components SET spec = '[1, 2]'", "spec are no mappings"),
    "a number for a mapping": Spoiled("UPDATE weights SET hashes = '12'", "hashes are no text"),
    "a text for a mapping": Spoiled("UPDATE cells SET traits = '\"all\"'", "traits are no mappings"),
    "traits of nothing": Spoiled("UPDATE cells SET traits = '{\"x\": 1}'", "are not those of a defense"),
    "notes of nothing": Spoiled('UPDATE results SET notes = \'{"zero": "all"}\'', "no means with numbers"),
    "an endless nesting": Spoiled("NEST", "facts are no mappings"),
    "bytes for a text": Spoiled("UPDATE members SET attack = x'ff00'", "attack are no text"),
    "a text for a number": Spoiled("UPDATE results SET start = 'begin'", "start are no integer"),
    "a text for bytes": Spoiled("UPDATE results SET correct = 'yes'", "correct are no blob"),
    "bits of another length": Spoiled("UPDATE results SET correct = x''", "correct not as the outcomes have it"),
    # what is too much or too little
    "4e18 examples": Spoiled("UPDATE suites SET n_examples = 4000000000000000000", "not between"),
    "as many repeats": Spoiled("UPDATE suites SET repeats = 4000000000000000000", "not between"),
    "ten million of both": Spoiled("UPDATE suites SET n_examples = 10000000, repeats = 10000000", "not between"),
    "shards of nothing": Spoiled("UPDATE suites SET shard_size = 0", "shard_size: 1 not between"),
    "a result of 4e18 places": Spoiled("UPDATE results SET stop = 4000000000000000000 WHERE id = 1", "not between"),
    "a result that ends before it begins": Spoiled("UPDATE results SET stop = start - 1 WHERE id = 3", "not between"),
    "endless seconds": Spoiled("UPDATE results SET defense_seconds = 9e999", "a figure is not finite"),
    "an endless radius": Spoiled("UPDATE outcomes SET radius = 9e999", "a figure is not finite"),
    # what metrics gave
    "an endless norm": Spoiled(
        "UPDATE measures SET sums = CAST(substr(sums, 1, 8) || x'000000000000f07f' || substr(sums, 17) AS BLOB) "
        "WHERE shape = ''",
        "sums not as the numbers have it",
    ),
    "numbers that are cut": Spoiled("UPDATE measures SET numbers = substr(numbers, 9)", "bytes of numbers, got"),
    "numbers that are no doubles": Spoiled("UPDATE measures SET numbers = x'00'", "bytes of numbers, got 1"),
    "sums that are cut": Spoiled("UPDATE measures SET sums = substr(sums, 9) WHERE shape = ''", "sums not as the"),
    "a text for numbers": Spoiled("UPDATE measures SET numbers = 'many'", "numbers are no blob"),
    "names of columns that are none": Spoiled("UPDATE measures SET names = 'Linf,l 2'", "no names or shape of columns"),
    "one name too many": Spoiled("UPDATE measures SET names = 'linf,l2,l3'", "not those that a suite asks for"),
    "a shape that is none": Spoiled("UPDATE measures SET shape = 'wide'", "no names or shape of columns"),
    "a shape of numbers that have none": Spoiled("UPDATE measures SET shape = '2'", "not those that a suite asks for"),
    "a metric that is nowhere": Spoiled("UPDATE measures SET metric = 'x'", "which is not among the components"),
    "a suite's metrics in a list": Spoiled("UPDATE suites SET metrics = '[]'", "metrics are no mappings"),
    "a suite's metrics without columns": Spoiled(
        "UPDATE suites SET metrics = json_object((SELECT metric FROM measures), 12)", "in toy (number 1) are none"
    ),
    "a column of a suite's metric that is none": Spoiled(
        "UPDATE suites SET metrics = replace(metrics, '\"linf\"', '\"place\"')", "in toy (number 1) are none"
    ),
    "a suite's metric that is nowhere": Spoiled(
        "UPDATE suites SET metrics = '{\"ff\": []}'", "asks for metric ff, which is no component"
    ),
    # figures of others
    "a published figure above one": Spoiled(
        "INSERT INTO published VALUES (1, 'digits', 'Linf', 0.2, 'x', '', 'pgd', 9e999, 0.5, 'x', '', '')",
        "published: clean",
    ),
    # words and names
    "a kind of artifact": Spoiled("UPDATE artifacts SET kind = '../../etc'", "expected one of weights"),
    "an artifact's digest that is a path": Spoiled(
        "UPDATE artifacts SET digest = '../../../../tmp/x'", "expected 64 hexadecimal digits as digest"
    ),
    "cells without components": Spoiled("DELETE FROM components", "which is not among the components"),
    "no name of its own": Spoiled("DELETE FROM origins", "one name of its own"),
    # what is no database of ours
    "a trigger": Spoiled(
        "CREATE TRIGGER t AFTER INSERT ON results BEGIN UPDATE outcomes SET correct = 1; END", "got the trigger 't'"
    ),
    "a view in a table's place": Spoiled(
        "ALTER TABLE published RENAME TO hidden; CREATE VIEW published AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL "
        "SELECT id + 1 FROM n) SELECT id, '' AS dataset, '' AS norm, 1.0 AS eps, '' AS method, '' AS architecture, "
        "'' AS attack, 1.0 AS clean, 1.0 AS robust, '' AS source, '' AS link, '' AS note FROM n",
        "got the view 'published'",
    ),
    "a schema of the future": Spoiled("UPDATE alembic_version SET version_num = '9999'", "a newer purebench wrote"),
    "a table that is gone": Spoiled("DROP TABLE confirmations", "no such table"),
}

SPOILED = {**FORGED, **UNREADABLE}


def invent(path: Path) -> None:
    """Have all results measured with weights that nobody has seen, and say so wherever it is said."""
    from harness.store.write.record import set_digest

    connection = sqlite3.connect(path)
    of_results = "SELECT digest, hashes, code FROM weights WHERE digest IN (SELECT weights FROM results)"
    ((old, hashes, code),) = connection.execute(of_results).fetchall()
    new = dict.fromkeys(json.loads(hashes), "f" * 64)
    digest = set_digest(new, json.loads(code))
    connection.execute("UPDATE weights SET digest = ?, hashes = ? WHERE digest = ?", (digest, json.dumps(new), old))
    for table, column in (("results", "weights"), ("cells", "current")):
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (digest, old))
    connection.commit()
    connection.close()


def spoil(path: Path, kind: str) -> None:
    if SPOILED[kind].statements == "INVENT WEIGHTS":
        invent(path)
        return
    connection = sqlite3.connect(path)
    if SPOILED[kind].statements == "NOTHING":
        spec = {"kind": "defense", "use": "x", "version": 1}
        row = (digest_of(spec), *spec.values(), json.dumps(spec))
        connection.execute("INSERT INTO components (digest, kind, use, version, spec) VALUES (?, ?, ?, ?, ?)", row)
        connection.commit()
        connection.close()
        return
    if SPOILED[kind].statements == "NEST":
        connection.execute("UPDATE environments SET facts = ?", ("[" * 100_000 + "]" * 100_000,))
    else:
        for statement in (
            SPOILED[kind].statements.split("; ")
            if "TRIGGER" not in SPOILED[kind].statements
            else [SPOILED[kind].statements]
        ):
            connection.execute(statement)
    connection.commit()
    connection.close()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", SPOILED)
def test_every_command_says_so_and_nothing_is_taken_in(
    tiny_bench: type[Bench], honest: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    bench, ours, theirs = tiny_bench.at(tmp_path / "bench"), honest("ours.db"), honest("theirs.db")
    spoil(theirs, kind)
    before, hostile, out = digest(ours), str(theirs), str(tmp_path / "out")
    began = time.monotonic()
    checked = bench.any("db", "check", hostile)
    assert checked.returncode in (1, 2), checked.stdout
    assert SPOILED[kind].said in checked.stdout + checked.stderr
    merged = bench.any("db", "merge", hostile, "--into", str(ours))
    assert merged.returncode == 2, merged.stdout
    assert digest(ours) == before
    # the page reads nearly all that there is; of what reads parts of it, each kind meets one, and metrics meet all
    parts = (
        ("status", "--db", hostile),
        ("compare", str(ours), hostile, "--metrics"),
        ("db", "export", hostile, "--format", "csv", "--out", out),
        ("db", "origins", hostile),
    )
    page = ("report", "--db", hostile, "--out", out)
    of_metrics = any(word in SPOILED[kind].statements for word in ("measures", "metrics"))
    mine = parts if of_metrics else (parts[list(SPOILED).index(kind) % len(parts)],)
    for words in (page, *mine) if kind in UNREADABLE else ():
        done = bench.any(*words)
        said = done.stdout + done.stderr
        assert done.returncode in (0, 1, 2), (words, said)
        assert "Traceback" not in said
        assert "SELECT" not in done.stderr
    assert time.monotonic() - began < PATIENCE


def test_a_function_that_a_database_names_is_called_by_no_command(
    tiny_bench: type[Bench], laid: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, bench, into = tmp_path / "made", tiny_bench.at(tmp_path / "bench"), str(tmp_path / "into.db")
    digits = Digits(Digits.Options())
    content = {**digits.options.model_dump(mode="json"), "content": digits.card.sha256}
    calls = FromPython.Options(make="os:mkdir", args={"path": str(made)}).model_dump(mode="json")
    monkeypatch.setitem(laid.__globals__, "DATASET", Spec.of("dataset", "digits", 1, content))
    monkeypatch.setitem(laid.__globals__, "CLASSIFIER", Spec.of("classifier", "python", 1, calls))
    theirs = laid(tmp_path / "theirs.db")
    for words in (
        ("db", "check", theirs),
        ("status", "--db", theirs),
        ("report", "--db", theirs, "--out", str(tmp_path / "out")),
        ("db", "merge", theirs, "--into", into),
    ):
        bench.any(*words)
        assert not made.exists()
    said = bench.any("verify", "--db", theirs, "--fraction", "1").stdout
    assert "it calls os:mkdir: a database may name anything; allow it by --code os:mkdir" in said
    assert not made.exists()


def test_a_file_of_another_program_is_not_written_to(tiny_bench: type[Bench], tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
    connection.execute("INSERT INTO alembic_version VALUES ('0003')")
    connection.execute("CREATE TABLE suites (id INTEGER)")
    connection.commit()
    connection.close()
    before, bench = digest(other), tiny_bench.at(tmp_path / "bench")
    for words in (
        ("status", "--db", str(other)),
        ("db", "upgrade", str(other)),
        ("db", "check", str(other)),
        ("run", "quickstart", "--db", str(other)),
    ):
        done = bench.any(*words)
        assert (done.returncode, "got one with other tables or none" in done.stderr) == (2, True), done.stderr
        assert digest(other) == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("other")) == ["other.db"]
