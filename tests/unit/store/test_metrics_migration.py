"""Databases from before metrics had a table: what was measured twice for its metrics alone becomes one; none is lost.

Two suites judge the same cells, in shards of other sizes, and look at them through probes of their own; a third asks
for no metrics at all. What each of them measured is written by hand; what is read afterwards is compared with it.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from measured import measurements, metric, outcomes, row
from sqlalchemy import create_engine, select, text

from harness.artifacts import Folder
from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import suite_digest
from harness.core.job import Evaluate, evaluation_digest
from harness.core.result import Artifact, Cost, Done
from harness.core.spec import Spec, digest_of
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.database import MIGRATIONS, head, upgrade
from harness.store.read.frames import results
from harness.store.read.origins import confirm, origins
from harness.store.tables import (
    CellRow,
    ComponentRow,
    ConfirmationRow,
    JobRow,
    MeasureRow,
    OutcomeRow,
    ResultRow,
    SuiteRow,
    WeightsRow,
)
from harness.store.tend.check import check
from harness.store.write.store import Store

AT = "2026-01-31 12:00:00.000000"
ELSEWHERE = "e" * 32

NET = Spec.of("recipe", "cnn", 1, {"width": 8})
#: probes: one of a network of the user's own, which is a part of its recipe, and one that ships
OWN = Spec.of("recipe", "mae", 1, {}, {"net": Spec.of("network", "own", 1, {"decoder_depth": 2, "decoder_heads": 1})})
MAE = Spec.of("recipe", "mae", 1, {"net": {"use": "mae", "decoder_depth": 1, "decoder_heads": 3}})
DEPTHS = {"one": (2, 1), "two": (1, 3)}
HASHES = {NET.digest: "a" * 64, OWN.digest: "b" * 64, MAE.digest: "c" * 64}
CODE = {"judge": "tree:j", "classifier.recipe": "tree:n"}

ONE = (metric("distances"), metric("amv", OWN, 0.5, 4), metric("amv-by-head", OWN, 0.5, 4))
TWO = (metric("distances"), metric("reconstruction", MAE, 0.75, 2), metric("amv-by-head", MAE, 0.75, 2))
#: suite -> metrics, examples, shard size
SUITES = {"one": (ONE, 4, 4), "two": (TWO, 6, 3), "bare": ((), 4, 4)}


def cell(attacked=False, certified=False):
    return Cell(
        dataset=Spec.of("dataset", "digits", 1, {}),
        classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": NET}),
        defense=Spec.of("defense", "blur", 1, {}),
        attack=Spec.of("attack", "pgd", 1, {"steps": 20}) if attacked else None,
        threat=ThreatModel(Norm.LINF, 8 / 255, Knowledge.BPDA) if attacked else None,
        certificate=Spec.of("certificate", "smoothing", 1, {}) if certified else None,
        seed=0,
        subset_seed=3,
        labels=Labels(
            "digits",
            "cnn",
            "blur",
            *(("pgd", "bpda") if attacked else ()),
            **({"certificate": "smoothing"} if certified else {}),
        ),
    )


CLEAN, ATTACKED, CERTIFIED = cell(), cell(attacked=True), cell(certified=True)


def probe(suite):
    """The component that a suite's metrics were in every cell, as it was."""
    metrics = SUITES[suite][0]
    if not metrics:
        return None
    names = sorted(one.spec.use for one in metrics)
    params = {**metrics[1].spec.params["probe"], "names": names}
    return Spec.of("probe", "mae", 1, params, {"recipe": metrics[1].spec.part("probe")})


def earlier(suite, one):
    """The digest that a suite's cell had."""
    mine = probe(suite)
    return digest_of({**one.as_dict(), "probe": mine.as_dict() if mine else None})


def right(place, repeat):
    return bool((place + repeat) % 3)


def given(suite, one, place, repeat, shift=0.0):
    """What a suite's metrics gave: numbers that tell place, repeat and suite apart."""
    names = [column.name for asked in SUITES[suite][0] for column in asked.columns]
    size = (place + 1) / 100 if one is ATTACKED else 0.0
    values = {"linf": size, "l2": 2 * size}
    values |= {name: place + repeat / 2 + len(name) + shift for name in names if name not in (*values, "amv_by_head")}
    if "amv_by_head" in names:
        shape = (2, 2, *DEPTHS[suite])
        values["amv_by_head"] = np.arange(np.prod(shape), dtype="<f4").reshape(shape) + 100 * place + 10 * repeat
    return values if names else {}


def put(connection, table, **values):
    names = ", ".join(values)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{one}' for one in values)})"), values)


class Older:
    """Writes rows as they were before metrics had a table."""

    def __init__(self, connection):
        self.connection = connection
        self.number = 0
        self.seen = set()
        put(connection, "environments", digest=digest_of({}), facts="{}")
        put(connection, "origins", id=7, database=ELSEWHERE, kind="foreign")
        put(connection, "arrivals", id=3, origin=7, name="theirs.db", sha256=None, arrived_at=AT)
        for recipe, sha256 in [*HASHES.items(), (OWN.digest, "f" * 64)]:
            like = {"kind": "weights", "label": "net", "bytes": 9, "first_seen": AT}
            put(connection, "artifacts", digest=recipe, sha256=sha256, **like)

    def component(self, spec):
        threat = isinstance(spec, ThreatModel)
        told = spec.as_dict()
        digest = digest_of(told)
        if digest not in self.seen:
            self.seen.add(digest)
            kind, use = ("threat_model", spec.norm.value) if threat else (spec.kind, spec.use)
            put(self.connection, "components", digest=digest, kind=kind, use=use, version=1, spec=json.dumps(told))
        return digest

    def suite(self, number, name, cells):
        _, examples, size = SUITES[name]
        rules = {"title": name, "text": f"name: {name}", "decision": "mean", "n_examples": examples, "repeats": 2}
        rules |= {"name": name, "shard_size": size}
        members = [(*one.labels.path, earlier(name, one)) for one in cells]
        put(self.connection, "suites", id=number, declared_at=AT, digest=suite_digest(rules, members), **rules)
        for position, one in enumerate(cells):
            parts = {key: getattr(one, key) for key in ("dataset", "classifier", "defense", "attack", "threat")}
            parts["certificate"], parts["probe"] = one.certificate, probe(name)
            digests = {key: None if part is None else self.component(part) for key, part in parts.items()}
            known = {"seed": 0, "subset_seed": 3, "random": True, **digests}
            put(self.connection, "cells", digest=earlier(name, one), **known)
            names = {"suite_id": number, "cell": earlier(name, one), "position": position, **one.labels.as_dict()}
            put(self.connection, "members", threat=digests["threat"], **names)

    def measure(self, suite, one, start, stop, shift=0.0, sha256=None, arrival=None, lost=()):
        """Record a result; of some places and repeats a metric was not finite."""
        self.number += 1
        of, place = earlier(suite, one), {"start": start, "stop": stop, "first_repeat": 0, "stop_repeat": 2}
        mine = probe(suite)
        recipe = None if mine is None else mine.part("recipe").digest
        hashes = {key: value for key, value in HASHES.items() if key in (NET.digest, recipe)}
        hashes |= {recipe: sha256} if sha256 else {}
        code = CODE if mine is None else {**CODE, "probe.recipe": f"tree:{suite}"}
        told = [hashes, code] if arrival is None else [hashes, code, ELSEWHERE]
        version = digest_of(told)
        if version not in self.seen:
            self.seen.add(version)
            known = {"hashes": json.dumps(hashes), "code": json.dumps(code), "origin": None if arrival is None else 7}
            put(self.connection, "weights", digest=version, **known)
        job = digest_of({"cell": of, "start": start, "stop": stop, "repeats": [0, 2]})
        if job not in self.seen:
            self.seen.add(job)
            told = {"kind": "evaluate", "label": f"{suite} #{start}", "cell": of, "status": "done", "tries": 1}
            put(self.connection, "jobs", digest=job, attempt=self.number, **told, **place)
        like = {"status": "done", "started_at": AT, "driver": f"host:{self.number}:1", "environment": digest_of({})}
        put(self.connection, "attempts", id=self.number, job=job, arrival=arrival, **like)
        rows = [(n, repeat) for n in range(start, stop) for repeat in (0, 1)]
        images, places = len(rows), stop - start
        cost = {"defense_images": images, "defense_seconds": 0.5 * images, "defense_forwards": 3 * images}
        cost |= {"defense_backwards": 0, "defense_evaluations": 7 * images, "defense_peak_memory": 2**33}
        if one is ATTACKED:
            cost |= {"attack_images": places, "attack_seconds": 2.0 * places, "attack_forwards": 20 * places}
            cost |= {"attack_backwards": 20 * places, "attack_evaluations": 0}
        packed = np.packbits([right(*where) for where in rows]).tobytes()
        known = {"cell": of, "weights": version, "attempt": self.number, "code": json.dumps(code), "arrival": arrival}
        known |= {"correct": packed, "faults": 1 + len(lost) if start == 0 else len(lost), "sums": b"", **place, **cost}
        put(self.connection, "results", id=self.number, notes=json.dumps({"zero": [0.5, 10]}), **known)
        for n, repeat in rows:
            values = {} if one is CERTIFIED else given(suite, one, n, repeat, shift)
            fault = "proposal over budget" if (n, repeat) == (0, 0) else None
            for name in lost if (n, repeat) == (start + 1, 1) else ():
                values[name], fault = None, f"{name} not finite"
            if values.get("amv_by_head") is not None:
                values["amv_by_head"] = values["amv_by_head"].tobytes()
            seen = {"example": 40 + n, "label": 3, "prediction": 3 if right(n, repeat) else 5}
            seen |= {"correct": right(n, repeat), "fault": fault, "radius": 0.25 if one is CERTIFIED else None}
            put(self.connection, "outcomes", result=self.number, place=n, repeat=repeat, **seen, **values)
        which = {"now": version, "cell": of}
        self.connection.execute(text("UPDATE cells SET current = :now WHERE digest = :cell"), which)


def written(url, fill):
    """Make a database as it was before, and have it filled; return its URL."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0011")
        fill(Older(connection))
        if connection.dialect.name == "postgresql":
            for table in ("suites", "members", "attempts", "results"):
                serial = f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
                connection.execute(text(serial))
    engine.dispose()
    return url


def everything(old):
    old.suite(1, "one", [CLEAN, ATTACKED, CERTIFIED])
    old.suite(2, "two", [CLEAN, ATTACKED])
    old.suite(3, "bare", [ATTACKED])
    old.measure("one", CLEAN, 0, 4)
    old.measure("one", ATTACKED, 0, 4, lost=["amv_purified_last"])
    old.measure("one", CERTIFIED, 0, 4)
    old.measure("two", CLEAN, 0, 6)
    old.measure("two", ATTACKED, 0, 3, arrival=3)  # before anything of it was measured here
    old.measure("two", ATTACKED, 0, 3)
    old.measure("two", ATTACKED, 3, 6, lost=["reconstruction_clean", "amv_by_head"])
    old.measure("bare", ATTACKED, 0, 4)
    old.measure("one", CLEAN, 0, 4, shift=5.0, sha256="f" * 64)  # the probe was trained anew


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    on_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/runs.db" if on_file else request.getfixturevalue("postgresql")()
    written(url, everything)
    assert upgrade(url)[:2] == ("0011", head())
    return url


def read(url, *columns):
    with Store.open(url).engine.connect() as connection:
        return connection.execute(select(*columns)).all()


def test_cells_that_differed_in_their_metrics_alone_are_one_and_nothing_counts_twice(url, tmp_path):
    assert check(url, Folder(tmp_path / "artifacts")).findings == ()
    assert {row.digest for row in read(url, CellRow.digest)} == {one.digest for one in (CLEAN, ATTACKED, CERTIFIED)}
    foreign = [row.digest for row in read(url, WeightsRow.digest, WeightsRow.origin) if row.origin is not None]
    rows = read(url, ResultRow.cell, ResultRow.weights, ResultRow.start, ResultRow.stop)
    parts = {(cell, weights in foreign, start, stop) for cell, weights, start, stop in rows}
    assert len(parts) == len(rows)
    assert parts == {
        *((CLEAN.digest, False, *part) for part in ((0, 4), (4, 6))),
        (CERTIFIED.digest, False, 0, 4),
        (ATTACKED.digest, True, 0, 3),
        *((ATTACKED.digest, False, *part) for part in ((0, 3), (3, 4), (4, 6))),  # as far as each was measured
    }
    assert len(read(url, OutcomeRow.place)) == 2 * (6 + 4 + 3 + 6)
    kinds = {row.kind for row in read(url, ComponentRow.kind)}
    assert "metric" in kinds
    assert "probe" not in kinds


def test_each_suite_has_its_metrics_and_reads_the_same_figures(url):
    found = results(url)
    assert {name: set(asked) for name, asked in found.asked.items()} == {
        name: {one.spec.digest for one in metrics} for name, (metrics, _, _) in SUITES.items()
    }
    for name, (metrics, _, _) in SUITES.items():
        assert {column for its in found.asked[name].values() for column in its} == {
            column for one in metrics for column in one.columns
        }
    cells = found.cells.set_index(["suite", "attack"])
    assert set(cells["status"]) == {"done"}
    assert cells["n"].to_dict() == {
        **{("one", attack): 4 for attack in ("clean", "pgd", "smoothing")},
        **{("two", attack): 6 for attack in ("clean", "pgd")},
        ("bare", "pgd"): 4,
    }
    # of places 0 to 3 in two repeats three of eight are wrong, of 0 to 5 four of twelve
    assert cells["accuracy"].to_dict() == pytest.approx({key: (5 / 8, 8 / 12)[key[0] == "two"] for key in cells.index})
    assert cells["faults"].to_dict() == {
        **{("one", "clean"): 1, ("one", "pgd"): 2, ("one", "smoothing"): 1},
        **{("two", "clean"): 1, ("two", "pgd"): 2, ("bare", "pgd"): 1},
    }
    assert cells.loc[("one", "pgd"), "linf"] == pytest.approx(0.025)
    assert cells.loc[("two", "pgd"), "linf"] == pytest.approx(0.035)
    assert cells.loc[("two", "pgd"), "l2"] == pytest.approx(0.07)
    assert cells.loc[("two", "clean"), "linf"] == 0
    # the mean of places 0 to 3 is 1.5, that of the repeats' halves 0.25, then the length of the name
    assert cells.loc[("one", "pgd"), "amv_adversarial_last"] == pytest.approx(1.75 + 20)
    assert cells.loc[("one", "pgd"), "amv_purified_last"] == pytest.approx((8 * 1.75 - 1.5) / 7 + 17)
    assert cells.loc[("one", "clean"), "amv_purified_last"] == pytest.approx(1.75 + 17 + 5)  # by the last probe
    assert cells.loc[("two", "clean"), "reconstruction_purified"] == pytest.approx(2.75 + 23)
    assert cells.loc[("two", "pgd"), "reconstruction_purified"] == pytest.approx(2.75 + 23)
    assert cells.loc[("two", "pgd"), "reconstruction_clean"] == pytest.approx((12 * 2.75 - 4.5) / 11 + 20)
    assert cells.loc[("two", "pgd"), "amv_purified_last"] != cells.loc[("two", "pgd"), "amv_purified_last"]
    assert cells.loc[("one", "smoothing"), "radius"] == 0.25
    assert set(cells["origin"]) == {None}
    for name, figure in (("defense_seconds", 0.5), ("defense_forwards", 3), ("defense_evaluations", 7)):
        assert cells[name].tolist() == pytest.approx([figure] * 6)
    attacked = cells.xs("pgd", level="attack")
    for name, figure in (("attack_seconds", 2), ("attack_forwards", 20), ("attack_backwards", 20)):
        assert attacked[name].tolist() == pytest.approx([figure] * 3)


def test_what_was_not_finite_is_told_by_metric_and_no_fault_of_an_outcome(url):
    broken = {(key[0], key[4]): told for key, told in results(url).broken.items()}
    told = {key: {name: counts.nonzero()[0].tolist() for name, counts in its.items()} for key, its in broken.items()}
    over = {"proposal over budget": [0]}
    assert told == {
        **{("one", "clean"): over, ("one", "smoothing"): over, ("two", "clean"): over, ("bare", "pgd"): over},
        ("one", "pgd"): {**over, "amv_purified_last not finite": [1]},
        ("two", "pgd"): {**over, "reconstruction_clean not finite": [4]},
    }
    assert {row.fault for row in read(url, OutcomeRow.fault)} == {None, "proposal over budget"}


def test_the_variation_by_head_is_there_of_every_probe(url):
    heads = results(url).heads
    heads = heads[heads["attack"] == "pgd"]
    for suite, (depth, number) in DEPTHS.items():
        mine = heads[heads["suite"] == suite]
        rows = 8 if suite == "one" else 11  # of one it was not finite
        assert len(mine) == rows * 4 * depth * number
        at = mine.set_index(["place", "repeat", "image", "matrix_norm", "layer", "head"])["amv"]
        whole = given(suite, ATTACKED, 3, 1)["amv_by_head"]
        assert at[3, 1, "purified", "frobenius", depth, number] == whole[1, 0, depth - 1, number - 1]
        assert at[3, 1, "adversarial", "spectral", 1, 1] == whole[0, 1, 0, 0]
    assert set(results(url).heads["attack"]) == {"clean", "pgd"}


def test_metrics_are_known_by_the_networks_and_the_code_that_they_were_taken_with(url):
    columns = (WeightsRow.digest, WeightsRow.hashes, WeightsRow.code, WeightsRow.origin)
    sets = {one.digest: one for one in read(url, *columns)}
    cells = dict(read(url, ResultRow.id, ResultRow.cell))
    taken = set()
    for one in read(url, MeasureRow.result, MeasureRow.metric, MeasureRow.set, MeasureRow.arrival):
        its = sets[one.set]
        assert its.origin == (None if one.arrival is None else 7)
        taken.add((cells[one.result], one.metric, *its.hashes.values(), *(its.code or {}).items()))
    expected = set()
    for suite, recipe in (("one", OWN), ("two", MAE)):
        distances, *probed = (one.spec.digest for one in SUITES[suite][0])
        code = ("metric.probe", f"tree:{suite}")
        for its in (CLEAN.digest, ATTACKED.digest):  # of a certificate nothing is measured
            expected.add((its, distances))
            expected |= {(its, one, HASHES[recipe.digest], code) for one in probed}
            expected |= {(its, one, "f" * 64, code) for one in probed if suite == "one" and its == CLEAN.digest}
    assert taken == expected
    judged = {row.weights for row in read(url, ResultRow.weights)}
    assert [(sets[one].hashes, sets[one].code) for one in judged] == [({NET.digest: "a" * 64}, CODE)] * 2
    assert {sets[one].origin for one in judged} == {None, 7}
    assert [row.code for row in read(url, ResultRow.code)] == [CODE] * 7


def test_jobs_are_named_by_what_they_measure(url):
    def job(one, start, stop, suite):
        metrics = () if one is CERTIFIED else [asked.spec.digest for asked in SUITES[suite][0]]
        return evaluation_digest(one.digest, start, stop, 0, 2, metrics), ",".join(sorted(metrics))

    assert {tuple(row) for row in read(url, JobRow.digest, JobRow.metrics)} == {
        *(job(one, 0, 4, "one") for one in (CLEAN, ATTACKED, CERTIFIED)),
        job(CLEAN, 0, 6, "two"),
        *(job(ATTACKED, start, start + 3, "two") for start in (0, 3)),
        job(ATTACKED, 0, 4, "bare"),
    }


def test_what_came_from_elsewhere_stays_theirs_with_its_metrics(url):
    (origin,) = (one for one in origins(Store.open(url)) if one.database == ELSEWHERE)
    assert (origin.results, origin.cells) == (1, 1)
    rows = read(url, MeasureRow.result, MeasureRow.metric, MeasureRow.arrival)
    theirs = {row.metric for row in rows if row.arrival == 3}
    assert theirs == {one.spec.digest for one in TWO}
    with Store.open(url).engine.connect() as connection:
        query = select(ResultRow.id).where(ResultRow.arrival == 3)
        assert {row.result for row in rows if row.arrival == 3} == set(connection.scalars(query))


def test_it_is_run_on_as_it_stands(url, tmp_path):
    store = Store.open(url)
    covered = store.covered([one.digest for one in (CLEAN, ATTACKED)])
    assert {one.version.current for rows in covered.values() for one in rows} == {True}
    job = Evaluate(ATTACKED, Shard(2, 6, 9), 0, 2, tuple(one.spec for one in TWO))
    rows = [
        row(40 + place, place, repeat, 3, 3, True, **given("two", ATTACKED, place, repeat))
        for place in range(6, 9)
        for repeat in (0, 1)
    ]
    weights = (Artifact(NET.digest, "weights", "a" * 64, 9),)
    done = Done(weights, outcomes(rows), Cost(6), Cost(3), code=CODE, measurements=measurements(rows, TWO))
    assert store.finish(store.queue.claim(job), job, done)
    assert len(store.covered([ATTACKED.digest])[ATTACKED.digest]) == 4
    assert check(url, Folder(tmp_path / "artifacts")).findings == ()


def test_a_confirmed_result_that_is_cut_stays_confirmed(tmp_path):
    def fill(old):
        old.suite(1, "one", [ATTACKED])
        old.suite(2, "two", [ATTACKED])
        old.measure("one", ATTACKED, 0, 4, arrival=3)
        old.measure("two", ATTACKED, 0, 3, arrival=3)
        put(old.connection, "confirmations", result=1, confirmed_at=AT)
        old.connection.execute(text("UPDATE cells SET adopted = current"))

    url = written(f"sqlite:///{tmp_path}/runs.db", fill)
    upgrade(url)
    confirmed = {row.result for row in read(url, ConfirmationRow.result)}
    assert confirmed == {row.id for row in read(url, ResultRow.id)}
    assert len(confirmed) == 2
    assert results(url).cells.set_index("suite").loc["one", "amv_adversarial_last"] == pytest.approx(1.75 + 20)
    assert check(url, Folder(tmp_path / "artifacts")).findings == ()
    assert confirm(Store.open(url), sorted(confirmed)) == 1


def test_a_suite_that_was_not_what_its_digest_says_is_not_called_right(tmp_path):
    def fill(old):
        old.suite(1, "one", [CLEAN])
        old.suite(2, "two", [CLEAN])
        old.connection.execute(text("UPDATE suites SET decision = 'any' WHERE name = 'one'"))

    url = written(f"sqlite:///{tmp_path}/runs.db", fill)
    upgrade(url)
    (finding,) = check(url, Folder(tmp_path / "artifacts")).findings
    assert "suites: the text, rules or members of one" in finding
    assert {name for row in read(url, SuiteRow.metrics) for name in row.metrics} == {
        one.spec.digest for one in (*ONE, *TWO)
    }
