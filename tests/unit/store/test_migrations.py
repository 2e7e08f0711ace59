"""A database of the first release, made by its own statements, is brought forward with all that it holds."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from measured import metric
from sqlalchemy import create_engine, inspect, text

from harness.artifacts import Folder
from harness.core.cell import SPECIAL, Cell
from harness.core.declaration import RULES, suite_digest
from harness.core.errors import UserError
from harness.core.spec import Spec, digest_of
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.database import MIGRATIONS, connect, head, upgrade
from harness.store.read.frames import results
from harness.store.tend.check import check

NET = Spec.of("recipe", "cnn", 1, {"width": 8})
MAE = Spec.of("recipe", "mae", 1, {"depth": 2}, {"dataset": Spec.of("dataset", "digits", 1, {})})
WEIGHTS = {NET.digest: "a" * 64, MAE.digest: "b" * 64}
ENVIRONMENT = {"python": "3.11", "torch": "2"}


def cell(attacked):
    return Cell(
        dataset=Spec.of("dataset", "digits", 1, {}),
        classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": NET}),
        defense=Spec.of("defense", "mae-pure", 1, {"steps": 10}, {"mae": MAE}),
        attack=Spec.of("attack", "pgd", 1, {"steps": 20}) if attacked else None,
        threat=ThreatModel(Norm.LINF, 8 / 255, Knowledge.BPDA) if attacked else None,
        seed=0,
        subset_seed=3,
    )


CLEAN, ATTACKED = cell(False), cell(True)

#: what was measured of every cell: part of it then, and now a suite's
METRICS = (metric("distances"), metric("amv", MAE))
PROBE = Spec.of("probe", "mae", 1, {"mask_ratio": 0.5, "masks": 4, "names": ["amv", "distances"]}, {"recipe": MAE})


def earlier(one):
    """The digest that a cell had when its metrics were a part of it."""
    return digest_of({**one.as_dict(), "probe": PROBE.as_dict()})


#: columns of metrics that nobody asked for
OTHERS = {*(f"reconstruction_{image}" for image in ("clean", "adversarial", "purified")), "amv_by_head"}

#: verdicts by place and repeat: a word per place
VERDICTS = {CLEAN: ("11", "11", "01"), ATTACKED: ("10", "00", "11")}


def put(connection, table, **values):
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)


def fill(connection):
    """Write as the first release did: specs within cells, jobs within attempts, weights within results."""
    put(
        connection, "artifacts", digest=NET.digest, sha256="a" * 64, kind="weights", label="cnn", bytes=9, first_seen=AT
    )
    put(connection, "environments", digest=digest_of(ENVIRONMENT), facts=json.dumps(ENVIRONMENT))
    rules = {"decision": "mean", "n_examples": 3, "repeats": 2, "shard_size": 3}
    put(connection, "suites", id=7, name="toy", title="A toy", text="name: toy", declared_at=AT, **rules)
    for number, (one, words) in enumerate(VERDICTS.items(), 1):
        attacked = one.threat is not None
        budget = {"norm": "Linf", "eps": 8 / 255, "knowledge": "bpda"} if attacked else {}
        put(
            connection,
            "cells",
            digest=earlier(one),
            dataset="digits",
            classifier="recipe",
            defense="mae-pure",
            attack="pgd" if attacked else None,
            seed=0,
            random=True,
            spec=json.dumps({**one.as_dict(), "probe": PROBE.as_dict()}),
            **budget,
        )
        names = {"attack": "pgd", "threat_model": "bpda"} if attacked else {"attack": "clean", "threat_model": "-"}
        titles = {"dataset": "digits", "classifier": "cnn", "defense": "mae"}
        put(connection, "members", id=number, suite_id=7, cell=earlier(one), position=number, **titles, **names)
        job = {"job": f"{number:064x}", "kind": "evaluate", "label": f"toy #{number}", "cell": earlier(one)}
        like = {"started_at": AT, "ended_at": AT, "driver": "host:1:1", "environment": digest_of(ENVIRONMENT)}
        put(connection, "attempts", id=10 * number, status="failed", reason="a bad day", seconds=1.0, **job, **like)
        put(connection, "attempts", id=10 * number + 1, status="done", reason=None, seconds=2.5, **job, **like)
        costs = ("images", "seconds", "forwards", "backwards", "evaluations")
        cost = {f"defense_{name}": 6 for name in costs} | {f"attack_{name}": 12 for name in costs if attacked}
        put(
            connection,
            "results",
            id=100 * number,
            cell=earlier(one),
            attempt=10 * number + 1,
            start=0,
            stop=3,
            first_repeat=0,
            stop_repeat=2,
            weights=json.dumps(WEIGHTS),
            weights_digest=digest_of(WEIGHTS),
            **cost,
        )
        for place, word in enumerate(words):
            for repeat, digit in enumerate(word):
                put(
                    connection,
                    "outcomes",
                    result=100 * number,
                    cell=earlier(one),
                    example=40 + place,
                    place=place,
                    repeat=repeat,
                    label=3,
                    prediction=3 if digit == "1" else 5,
                    correct=digit == "1",
                    fault="proposal over budget" if (place, repeat) == (2, 1) else None,
                    linf=0.01 * (place + 1),
                    l2=0.5 * (place + 1),
                    amv_adversarial_last=0.125 * place,
                    amv_adversarial_mean=0.375,
                    amv_purified_last=0.25 * repeat,
                    amv_purified_mean=0.625,
                )
    refused = {"dataset": "digits", "classifier": "cnn", "defense": "odd", "attack": "pgd", "threat_model": "bpda"}
    put(connection, "members", id=3, suite_id=7, cell=None, position=3, reason="it cannot be", **refused)
    lost = {"job": "e" * 64, "kind": "train", "label": "cnn", "driver": "host:1:1"}
    put(connection, "attempts", id=30, status="running", started_at=AT, **lost)


#: of members; before, the attack's name told them
LATER_NAMES = ("certificate", "source_defense", "source_classifier")

#: of jobs
PLACES = ("start", "stop", "first_repeat", "stop_repeat")

AT = "2026-01-31 12:00:00.000000"


def older(url, revision="0001"):
    """Make a database of the first release, bring it to a revision; return its URL."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        fill(connection)
        command.upgrade(config, revision)
    engine.dispose()
    return url


def dump(url):
    """All rows of all tables, as they are."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        names = sorted(name for name in inspect(engine).get_table_names() if name != "alembic_version")
        found = {name: list(map(dict, connection.execute(text(f"SELECT * FROM {name}")).mappings())) for name in names}
    engine.dispose()
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    on_file = request.param == "sqlite"
    return older(f"sqlite:///{tmp_path}/runs.db" if on_file else request.getfixturevalue("postgresql")())


def test_an_older_database_is_refused_with_the_way_forward(url):
    with pytest.raises(UserError, match="got the older 0001; bring it forward with `purebench db upgrade"):
        results(url)


def test_everything_is_there_after_an_upgrade(url, tmp_path):
    before, after, copy = upgrade(url)
    assert (before, after, copy is None) == ("0001", head(), url.startswith("postgresql"))
    assert check(url, Folder(tmp_path / "artifacts")).findings == ()
    cells, examples, costs = results(url)
    assert list(cells["status"]) == ["done", "done", "skipped"]
    assert list(cells["accuracy"][:2]) == pytest.approx([5 / 6, 3 / 6])
    assert list(cells["faults"][:2]) == [1, 1]
    assert list(cells["linf"][:2]) == pytest.approx([0.02, 0.02])
    assert list(cells["amv_purified_last"][:2]) == pytest.approx([0.125, 0.125])
    assert list(cells["eps"][1:]) == pytest.approx([8 / 255, 8 / 255])  # the refused one has it from its name
    assert cells.loc[1, "attack_forwards"] == 1.0
    assert list(cells["id"][:2]) == [CLEAN.digest[:12], ATTACKED.digest[:12]]
    assert len(examples) == 12
    assert costs["defense_images"].sum() == 12
    told = {attack: "".join(rows["correct"].astype(int).astype(str)) for attack, rows in examples.groupby("attack")}
    assert told == {"clean": "111101", "pgd": "100011"}


def test_attempts_and_jobs_are_told_apart_after_an_upgrade(url):
    upgrade(url)
    engine = connect(url)
    with engine.connect() as connection:
        jobs = connection.execute(text("SELECT label, status, tries, attempt FROM jobs ORDER BY label")).all()
        attempts = connection.execute(text("SELECT id, status, reason, seconds FROM attempts ORDER BY id")).all()
    engine.dispose()
    assert list(map(tuple, jobs)) == [
        ("cnn", "running", 1, 30),
        ("toy #1", "done", 2, 11),
        ("toy #2", "done", 2, 21),
    ]
    assert [tuple(row) for row in attempts[:2]] == [(10, "failed", "a bad day", 1.0), (11, "done", None, 2.5)]
    assert len(attempts) == 5


def test_the_copy_is_the_file_as_it_was_and_a_second_upgrade_does_nothing(tmp_path):
    url = older(f"sqlite:///{tmp_path}/runs.db")
    _, _, copy = upgrade(url)
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert connection.execute("SELECT count(*), sum(correct) FROM outcomes").fetchall() == [(12, 8)]
    connection.close()
    assert upgrade(url) == (head(), head(), None)


def test_rows_can_be_added_after_an_upgrade(url):
    upgrade(url)
    engine = connect(url)
    with engine.begin() as connection:  # numbers go on where they were
        statement = "INSERT INTO attempts (job, status, started_at, driver) VALUES (:job, 'failed', :at, 'x')"
        connection.execute(text(statement), {"job": "e" * 64, "at": AT})
        assert connection.execute(text("SELECT max(id) FROM attempts")).scalar() == 31
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_was_measured_before_peaks_were_has_none_and_all_else(kind, request, tmp_path):
    on_file = kind == "sqlite"
    url = older(f"sqlite:///{tmp_path}/runs.db" if on_file else request.getfixturevalue("postgresql")(), "0003")
    before = dump(url)
    assert upgrade(url)[:2] == ("0003", head())
    after = dump(url)
    new = ("defense_peak_memory", "defense_batch_size", "attack_peak_memory", "attack_batch_size")
    later = {
        "results": (*new, "notes", "arrival"),
        "cells": (*SPECIAL, "traits", "adopted"),
        "jobs": (*PLACES, "metrics"),  # their digests are none of this suite
        "outcomes": ("radius",),
        "weights": ("code", "origin"),
        **dict.fromkeys(("suites", "attempts", "artifacts"), ("arrival",)),
    }
    (here,) = after.pop("origins")
    assert here["kind"] == "here"
    assert [after.pop(table) for table in ("arrivals", "confirmations", "code")] == [[], [], []]
    read = {row["digest"]: row.pop("current") for row in after["cells"]}
    assert read == {row["cell"]: row["weights"] for row in after["results"]}
    assert {row.pop(name) for row in after["members"] for name in LATER_NAMES} == {""}
    assert {row.pop("recipe") for row in after["jobs"]} == {None, "e" * 64}
    for table, names in later.items():
        assert {row.pop(name) for row in after[table] for name in names} == {None}
    digests = [[row.pop("digest") for row in tables["suites"]] for tables in (before, after)]
    assert digests[0] != digests[1]  # it covers the names of the members now, and the check below finds it right
    for row in before["results"]:
        del row["sums"]
    for table, name in (("cells", "digest"), *((table, "cell") for table in ("members", "jobs", "results"))):
        for row in before[table]:
            row[name] = {earlier(one): one.digest for one in (CLEAN, ATTACKED)}.get(row[name], row[name])
    assert {row.pop("probe") for row in before["cells"]} == {PROBE.digest}
    assert {row["digest"] for row in before["components"] if row["kind"] == "probe"} == {PROBE.digest}
    before["components"] = [row for row in before["components"] if row["kind"] != "probe"]
    made = [row["digest"] for row in after["components"] if row["kind"] == "metric"]
    assert sorted(made) == sorted(one.spec.digest for one in METRICS)
    after["components"] = [row for row in after["components"] if row["kind"] != "metric"]
    asked = [decoded(row.pop("metrics")) for row in after["suites"]]
    assert asked == [{one.spec.digest: [column.as_dict() for column in one.columns] for one in METRICS}]
    numbers = measured(after.pop("measures"))
    assert numbers == {
        (row["result"], row["place"], row["repeat"], name): row.pop(name)
        for row in before["outcomes"]
        for one in METRICS
        for name in [column.name for column in one.columns]
    }
    assert {row.pop(name) for row in before["outcomes"] for name in OTHERS} == {None}
    sets = [decoded(row["hashes"]) for row in after["weights"]]
    assert sorted(map(len, sets)) == [0, 1, 2]  # of distances, of what the probe is, and of the cells
    after["weights"] = [row for row in after["weights"] if len(decoded(row["hashes"])) == 2]
    for tables in (before, after):
        for rows in tables.values():
            rows.sort(key=str)
    assert after == before
    cells, _, costs = results(url)
    for name in new:
        assert cells[name].isna().all()
        assert costs[name].isna().all()
    assert cells.loc[1, "attack_forwards"] == 1.0
    assert check(url, Folder(tmp_path / "artifacts")).findings == ()


def decoded(value):
    return json.loads(value) if isinstance(value, str) else value


def measured(rows):
    """What metrics gave, by result, place, repeat and column: three places in two repeats."""
    found = {}
    for row in rows:
        names = row["names"].split(",")
        numbers = np.frombuffer(bytes(row["numbers"]), "<f8").reshape(len(names), 3, 2)
        for (column, place, repeat), value in np.ndenumerate(numbers):
            found[row["result"], place, repeat, names[column]] = value
    return found


#: what members were called, with what they are called now: attack, certificate, what its examples were crafted on
NAMED = {
    ("pgd from odd", "bpda"): ("pgd", "", "odd", "cnn"),
    ("pgd from odd on deep", "bpda"): ("pgd", "", "odd", "deep"),
    ("smoothing", "-"): ("clean", "smoothing", "", ""),
    ("pgd from odd on cnn", "bpda"): ("pgd from odd on cnn", "", "", ""),  # which no suite has ever given
    ("pgd from ", "bpda"): ("pgd from ", "", "", ""),
}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_an_attack_s_name_told_is_in_columns_after_an_upgrade(kind, request, tmp_path):
    on_file = kind == "sqlite"
    url = older(f"sqlite:///{tmp_path}/runs.db" if on_file else request.getfixturevalue("postgresql")(), "0009")
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        titles = {"dataset": "digits", "classifier": "cnn", "defense": "mae"}
        for number, (attack, threat) in enumerate(NAMED, 10):
            names = {"attack": attack, "threat_model": threat, "reason": "it cannot be"}
            put(connection, "members", id=number, suite_id=7, cell=None, position=number, **titles, **names)
        columns = "dataset, classifier, defense, attack, threat_model, COALESCE(cell, reason)"
        members = connection.execute(text(f"SELECT {columns} FROM members ORDER BY position")).all()
        rules = connection.execute(text(f"SELECT {', '.join(RULES)} FROM suites")).mappings().one()
        now = {"now": suite_digest(rules, list(map(tuple, members)))}
        connection.execute(text("UPDATE suites SET digest = :now"), now)
    engine.dispose()
    upgrade(url)
    rows = [row for row in dump(url)["members"] if row["id"] >= 10]
    told = [(row["attack"], *(row[name] for name in LATER_NAMES)) for row in sorted(rows, key=lambda row: row["id"])]
    assert told == list(NAMED.values())
    cells, _, _ = results(url)
    assert list(cells["attack"][3:]) == [attack for attack, _ in NAMED]  # as people have read it
    assert check(url, Folder(tmp_path / "artifacts")).findings == ()


COPIED = "cell, weights, correct, faults, sums, code, " + ", ".join(
    f"defense_{name}" for name in ("images", "seconds", "forwards", "backwards", "evaluations")
)


def evaluation(one, start, stop, first, end):
    """The digest of an evaluation, with what it measures."""
    what = {"cell": earlier(one), "start": start, "stop": stop, "repeats": [first, end]}
    return digest_of(what), (start, stop, first, end)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_jobs_say_what_they_do_after_an_upgrade_where_that_can_be_found(kind, request, tmp_path):
    on_file = kind == "sqlite"
    url = older(f"sqlite:///{tmp_path}/runs.db" if on_file else request.getfixturevalue("postgresql")(), "0010")
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    jobs = {
        "measured": evaluation(ATTACKED, 0, 3, 0, 2),
        "cut": evaluation(CLEAN, 0, 3, 0, 1),  # what it measured was there but for its first place
        "part of a slice": evaluation(CLEAN, 1, 3, 0, 2),  # cut likewise
        "failed": evaluation(ATTACKED, 0, 3, 1, 2),
        "of no suite": evaluation(ATTACKED, 0, 64, 0, 2),
    }
    parts = {"cut": (0, 1, 0, 1), "part of a slice": (2, 3, 0, 2)}
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET cell = NULL WHERE kind = 'evaluate'"))  # of the first release
        connection.execute(text("DELETE FROM outcomes"))
        connection.execute(text("UPDATE results SET start = 100 + id, stop = 101 + id"))
        for number, (name, (digest, where)) in enumerate(jobs.items(), 100):
            its = CLEAN if name in parts else ATTACKED
            put(
                connection,
                "jobs",
                digest=digest,
                kind="evaluate",
                label=name,
                cell=earlier(its),
                status="done",
                tries=1,
            )
            put(connection, "attempts", id=number, job=digest, status="done", started_at=AT, driver="x")
            if name not in ("failed", "of no suite"):
                start, stop, first, end = parts.get(name, where)
                copied = "cell, weights, correct, faults, sums, code, defense_images, defense_seconds, "
                copied += "defense_forwards, defense_backwards, defense_evaluations"
                statement = f"INSERT INTO results (attempt, start, stop, first_repeat, stop_repeat, {copied}) "
                statement += (
                    f"SELECT {number}, {start}, {stop}, {first}, {end}, {copied} FROM results WHERE cell = :cell "
                )
                connection.execute(text(statement + "ORDER BY id LIMIT 1"), {"cell": earlier(its)})
        put(connection, "jobs", digest=NET.digest, kind="train", label="cnn", status="queued", tries=0)
    engine.dispose()
    upgrade(url)
    listed = dump(url)["jobs"]
    rows = {row["label"]: row for row in listed}
    told = {name: tuple(rows[name][key] for key in PLACES) for name in jobs}
    assert told == {name: where for name, (_, where) in jobs.items()} | {"of no suite": (None,) * 4}
    recipes = {row["digest"]: row["recipe"] for row in listed if row["kind"] == "train"}
    assert recipes == {digest: digest for digest in (NET.digest, "e" * 64)}
