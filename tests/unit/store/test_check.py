"""Each kind of damage is made by hand, and has to be found; what is sound has to be found sound."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3

import pytest
from typer.testing import CliRunner

from harness.artifacts import Folder
from harness.cli.commands import app
from harness.core.errors import UserError
from harness.core.spec import Spec
from harness.store.database import connect
from harness.store.tend.check import MOST, check
from harness.store.tend.merge import merge
from harness.store.write.record import set_digest

NET = Spec.of("recipe", "cnn", 1, {"width": 8}).digest


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "artifacts")


@pytest.fixture
def lab(machine):
    """Two cells, one with two results of two shards; a failed attempt, a job under way."""
    made = machine("runs")
    made.fail(0, 4)
    made.store.queue.reclaim()
    made.measure(4, 8)
    made.measure(8, 12)
    made.measure(0, 12, attacked=False)
    made.train()
    made.store.engine.dispose()
    return made.path


def damage(path, statements):
    """Change rows; ``put(bytes, at, others)`` writes over bytes."""
    connection = sqlite3.connect(path)
    connection.create_function("put", 3, lambda whole, at, part: whole[:at] + part + whole[at + len(part) :])
    for statement in statements.split("; "):
        assert connection.execute(statement).rowcount > 0, statement
    connection.commit()
    connection.close()


def test_a_sound_database_is_found_sound_and_stays_as_it_is(lab, folder):
    before = lab.read_bytes()
    found = check(str(lab), folder)
    assert found.findings == ()
    assert found.counts == {
        "suites": 1,
        "cells": 2,
        "attempts": 5,
        "results": 3,
        "outcomes": 40,
        "artifact files": 0,
    }
    assert lab.read_bytes() == before


def test_an_empty_database_is_sound(machine, folder):
    assert check(str(machine("empty").path), folder).findings == ()


def test_a_database_on_a_server_is_looked_at_alike(postgresql, lab, folder):
    url = postgresql()
    merge([str(lab)], url, own=True)
    assert check(url, folder).findings == ()
    engine = connect(url)
    with engine.begin() as connection:
        changed = "numbers = set_byte(numbers, 6, 0)"
        connection.exec_driver_sql(f"UPDATE measures SET {changed} WHERE result = 1 AND names = 'linf,l2'")
    engine.dispose()
    (finding,) = check(url, folder).findings
    assert re.fullmatch(r"measures: [0-9a-f]{12} of result 1: sums not as the numbers have it", finding)


OUTCOME = "WHERE result = 1 AND place = 4 AND repeat = 0"
#: what the metric gave of a result whose eight outcomes have two numbers each
DISTANCES = "WHERE result = 1 AND names = 'linf,l2'"
NAN = "x'000000000000f87f'"

DAMAGES = {
    # outcomes against results
    "an outcome is turned": (f"UPDATE outcomes SET correct = 1 - correct {OUTCOME}", "its prediction is not the label"),
    "an outcome and its prediction are turned": (
        f"UPDATE outcomes SET correct = 1 - correct, prediction = 8 - prediction {OUTCOME}",
        "results: 1 .*: correct not as the outcomes have it",
    ),
    "a metric is changed": (
        f"UPDATE measures SET numbers = put(numbers, 3, x'00') {DISTANCES}",
        "of result 1: sums not",
    ),
    "a metric is lost": (
        f"UPDATE measures SET numbers = put(numbers, 0, {NAN}) {DISTANCES}",
        "of result 1: sums not as",
    ),
    "a fault is hidden": ("UPDATE outcomes SET fault = NULL WHERE result = 1 AND place = 5", "faults not as"),
    "an outcome is lost": (f"DELETE FROM outcomes {OUTCOME}", "expected 8 outcomes, got 7"),
    "an outcome is moved": (f"UPDATE outcomes SET place = 99 {OUTCOME}", "expected each place and repeat once"),
    "bits are changed": ("UPDATE results SET correct = x'00' WHERE id = 1", "correct not as"),
    "sums are changed": (
        f"UPDATE measures SET sums = x'00' {DISTANCES}",
        "of result 1: sums not as the numbers have it",
    ),
    "numbers are cut off": (
        f"UPDATE measures SET numbers = x'0000' {DISTANCES}",
        "of result 1: expected 128 bytes of numbers, got 2",
    ),
    "a metric has a column more": (
        f"UPDATE measures SET names = 'linf,l2,l1' {DISTANCES}",
        "of result 1: its columns are not those that a suite asks for",
    ),
    "a metric's column has no name": (
        f"UPDATE measures SET names = 'linf,' {DISTANCES}",
        "result 1: it has no names or shape",
    ),
    "a metric's shape is none": (f"UPDATE measures SET shape = '0' {DISTANCES}", "result 1: it has no names or shape"),
    "a metric is an attack": (
        f"UPDATE measures SET metric = (SELECT digest FROM components WHERE kind = 'attack') {DISTANCES}",
        "of result 1: it is of a component of kind attack, expected",
    ),
    "a metric of a failed attempt": (
        f"UPDATE measures SET attempt = 1 {DISTANCES}",
        "of result 1: it is of an attempt that ended as failed",
    ),
    "a rectangle is changed": ("UPDATE results SET stop = 2000000000 WHERE id = 1", "results: places: 1 not between"),
    "a rectangle is turned": ("UPDATE results SET stop = 0 WHERE id = 1", "results: places: 1 not between"),
    "a result is moved over another": ("UPDATE results SET start = 8, stop = 13 WHERE id = 1", "1 and 2 .* overlap"),
    "a result and all its outcomes are lost": (
        "DELETE FROM outcomes WHERE result = 1; DELETE FROM results WHERE id = 1",
        "mae/pgd/bpda #1 is done, but what it measured is not among the results",
    ),
    "all results of a cell are lost": (
        "DELETE FROM results WHERE cell IN (SELECT digest FROM cells WHERE attack IS NULL)",
        "mae/clean/- #0 is done, but what it measured is not",
    ),
    # references
    "measures without a result": ("DELETE FROM results WHERE id = 1", "measures: 2 of result 1, .* among the results"),
    "measures without a metric": (
        "DELETE FROM components WHERE kind = 'metric'",
        "measures: 3 of metric .* components",
    ),
    "measures without weights": ("DELETE FROM weights", "measures: 3 of set .* among the weights"),
    "measures without an attempt": ("DELETE FROM attempts WHERE id = 2", "measures: 2 of attempt 2, .* the attempts"),
    "outcomes without a result": ("DELETE FROM results WHERE id = 1", "outcomes: 8 of result 1, .* among the results"),
    "results without an attempt": ("DELETE FROM attempts WHERE status = 'done'", "of attempt .* among the attempts"),
    "attempts without a job": ("DELETE FROM jobs WHERE status = 'done'", "attempts: 1 of job .* among the jobs"),
    "members without a cell": ("DELETE FROM cells", "members: 1 of cell .* among the cells"),
    "cells without a component": ("DELETE FROM components WHERE kind = 'defense'", "cells: 2 of defense"),
    "results without weights": ("DELETE FROM weights", "results: 3 of weights"),
    "attempts without an environment": ("DELETE FROM environments", "attempts: 3 of environment"),
    "members without a suite": ("DELETE FROM suites", "members: 3 of suite_id 1"),
    "jobs without their attempt": ("UPDATE jobs SET attempt = 99 WHERE kind = 'train'", "jobs: 1 of attempt 99"),
    "results of a failed attempt": ("UPDATE attempts SET status = 'failed' WHERE id = 2", "1 is of attempt 2.*failed"),
    # digests
    "a job's places": (
        "UPDATE jobs SET stop = 5 WHERE stop = 4",
        "jobs: what .* evaluates is not what its digest",
    ),
    "a job's recipe": (
        "UPDATE jobs SET recipe = (SELECT digest FROM components WHERE kind = 'defense') WHERE kind = 'train'",
        "jobs: the recipe of toy-cnn is not what its digest says",
    ),
    "a component": (
        "UPDATE components SET spec = replace(spec, '10', '11') WHERE kind = 'defense'",
        "components: the content of .* is not what its digest says",
    ),
    "a component's name": ("UPDATE components SET use = 'none' WHERE kind = 'defense'", "is called defense none"),
    "a threat model's norm": ("UPDATE components SET use = 'L2' WHERE kind = 'threat_model'", "threat_model L2"),
    "a cell": ("UPDATE cells SET seed = 1", "cells: the content of"),
    "weights": ("UPDATE weights SET hashes = '{}'", "weights: the content of"),
    "an environment": ("UPDATE environments SET facts = '{}'", "environments: the content of"),
    "a suite's rule": ("UPDATE suites SET decision = 'any'", "suites: the text, rules or members of toy"),
    "a suite's metrics": ("UPDATE suites SET metrics = '{}'", "suites: the text, rules or members of toy"),
    "a suite's column": (
        """UPDATE suites SET metrics = replace(metrics, '"l2"', '"radius"')""",
        "suites: the columns of metric .* in toy .number 1. are none",
    ),
    "a suite's metric without a component": (
        "DELETE FROM components WHERE kind = 'metric'",
        "suites: toy .number 1. asks for metric .*, which is no component",
    ),
    "a job's metrics": (
        "UPDATE jobs SET metrics = '' WHERE stop = 8",
        "jobs: what .* evaluates is not what its digest",
    ),
    "a suite's member": ("DELETE FROM members WHERE cell IS NULL", "suites: the text, rules or members of toy"),
    # what cannot be read
    "no JSON": ("UPDATE environments SET facts = '{'", "environments: 1 of facts are no mappings"),
    "no place for an artifact": ("UPDATE artifacts SET digest = '../../x'", "expected 64 hexadecimal digits as digest"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_found(lab, folder, kind):
    statement, sentence = DAMAGES[kind]
    damage(lab, statement)
    findings = check(str(lab), folder).findings
    assert [one for one in findings if re.search(sentence, one)], findings


def test_many_findings_of_a_kind_are_counted(lab, folder):
    connection = sqlite3.connect(lab)
    connection.executemany(
        "INSERT INTO environments VALUES (?, '{}')", [(f"{number:064x}",) for number in range(MOST + 3)]
    )
    connection.commit()
    connection.close()
    findings = check(str(lab), folder).findings
    assert len(findings) == MOST + 1
    assert findings[-1] == "digests: 3 more like these"


def test_a_damaged_file_is_a_sentence(lab, folder):
    size = lab.stat().st_size
    with lab.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xa5" * (size // 4))
    try:
        said = check(str(lab), folder).findings
    except UserError as error:  # where the schema itself was hit
        said = (f"the file: {error}",)
    assert any(one.startswith("the file: ") for one in said)


def lay_down(lab, sha256):
    """Have everything measured with weights of another content, and say so wherever it is said."""
    damage(lab, f"UPDATE artifacts SET sha256 = '{sha256}' WHERE digest = '{NET}'")
    with sqlite3.connect(lab) as connection:
        for old, told, code in connection.execute("SELECT digest, hashes, code FROM weights").fetchall():
            hashes = {recipe: sha256 if recipe == NET else its for recipe, its in json.loads(told).items()}
            digest = set_digest(hashes, None if code is None else json.loads(code))
            row = (digest, json.dumps(hashes), old)
            connection.execute("UPDATE weights SET digest = ?, hashes = ? WHERE digest = ?", row)
            for table, column in (("results", "weights"), ("cells", "current")):
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (digest, old))
    connection.close()


def test_artifacts_that_are_here_are_compared(lab, folder):
    content = b"weights of the toy"
    lay_down(lab, hashlib.sha256(content).hexdigest())
    folder.place("weights", NET, content)
    found = check(str(lab), folder)
    assert (found.findings, found.counts["artifact files"]) == ((), 1)
    folder.place("weights", NET, b"other weights")
    (finding,) = check(str(lab), folder).findings
    assert "which was recorded; delete it and run again" in finding


def test_the_command_says_sound_or_leaves_with_one(lab, tmp_path):
    done = CliRunner().invoke(app, ["db", "check", str(lab)])
    assert (done.exit_code, done.stdout.strip()) == (
        0,
        "sound: 1 suites, 2 cells, 5 attempts, 3 results, 40 outcomes, 0 artifact files",
    )
    other = shutil.copy(lab, tmp_path / "other.db")
    damage(other, "UPDATE cells SET seed = 1")
    done = CliRunner().invoke(app, ["db", "check", str(other)])
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 2
