"""What the store promises, on SQLite and on a real PostgreSQL server alike."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from measured import measurements, metric, outcomes, row
from sqlalchemy import insert, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, StatementError

import harness
from harness.core.cell import Cell, Labels, Shard
from harness.core.declaration import Declaration, Member
from harness.core.errors import UserError
from harness.core.job import Evaluate, Measure, Train
from harness.core.rectangle import Covered, Rectangle, TakenMetric
from harness.core.result import Artifact, Cost, Done
from harness.core.spec import Spec
from harness.core.threat import Knowledge, Norm, ThreatModel
from harness.store.database import Clock, connect
from harness.store.tables import (
    AttemptRow,
    CellRow,
    JobRow,
    MeasureRow,
    MemberRow,
    OutcomeRow,
    ResultRow,
    SuiteRow,
    TableBase,
)
from harness.store.write.store import Store

NET = Spec.of("recipe", "cnn", 1, {})
WEIGHTS = Artifact(NET.digest, "weights", "a" * 64, 2**40)
#: the network that a metric looks through, and the metrics
PROBE = Artifact(Spec.of("recipe", "mae", 1, {}).digest, "weights", "b" * 64, 9)
METRICS = (metric("distances"), metric("amv", Spec.of("recipe", "mae", 1, {})))
#: seconds that a claim holds here: longer than any test takes, whatever runs beside it
LEASE = 3600.0


def cell(defense: str = "none", *, attacked: bool = True) -> Cell:
    return Cell(
        dataset=Spec.of("dataset", "digits", 1, {}),
        classifier=Spec.of("classifier", "recipe", 1, {}, {"recipe": NET}),
        defense=Spec.of("defense", defense, 1, {}),
        attack=Spec.of("attack", "pgd", 1, {}) if attacked else None,
        threat=ThreatModel(Norm.LINF, 8 / 255, Knowledge.BPDA) if attacked else None,
        seed=0,
        subset_seed=0,
        labels=Labels("digits", "cnn", defense, *(("pgd", "bpda") if attacked else ())),
    )


CELL = cell()
REFUSED = Member(Labels("digits", "cnn", "odd", "pgd", "full"), None, False, "it cannot be", CELL.threat)
SUITE = Declaration(
    "toy", "Ein Beispiel ≠ 例", "name: toy", "mean", 12, 3, 8, (Member(CELL.labels, CELL, True), REFUSED), METRICS
)


def evaluation(start: int, stop: int, first: int = 0, end: int = 1, what: Cell = CELL) -> Evaluate:
    return Evaluate(what, Shard(0, start, stop), first, end, tuple(one.spec for one in METRICS))


def measured(job: Evaluate, shift: float = 0.0) -> Done:
    """What a job would measure: numbers with many digits, a fault in another script, a metric that is missing."""
    seen = [
        row(
            example=1000 + place,
            place=place,
            repeat=repeat,
            label=3,
            prediction=3 if (place + repeat) % 3 else -1,
            correct=bool((place + repeat) % 3),
            fault=None if (place + repeat) % 3 else "logits ≠ 例",
            linf=(place + 1) / 255 + shift,
            l2=1e-300 * (repeat + 1),
            amv_purified_mean=None if place % 2 else 1 / (3 + place),
        )
        for place in range(job.shard.start, job.shard.stop)
        for repeat in range(job.first_repeat, job.stop_repeat)
    ]
    given = tuple(
        replace(one, weights={PROBE.digest: PROBE.sha256} if "linf" not in one.names else {}, code={"metric": "d" * 64})
        for one in measurements(seen, METRICS)
    )
    if isinstance(job, Measure):
        return Done((PROBE,), measurements=given)
    cost = Cost(len(seen), 0.1, 2**40, 3, 7, peak_memory=2**41, batch_size=8)
    return Done(
        (WEIGHTS, PROBE),
        outcomes(seen),
        cost,
        cost,
        {"torch": "2"},
        {"attack": "c" * 64},
        seconds=0.5,
        measurements=given,
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """An empty database."""
    return request.getfixturevalue("postgresql")() if request.param == "postgresql" else str(tmp_path / "runs.db")


@pytest.fixture
def driver():
    """Opens a database as a driver on a machine of its own."""
    opened = []

    def open_(url, name="here"):
        store = Store.open(url, create=True)
        store.queue.driver, store.queue.lease = f"{name}:1:1", LEASE
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.engine.dispose()


def together(*tasks):
    """Do things in threads that begin at one moment; return what each brought."""
    barrier = threading.Barrier(len(tasks))

    def begin(task):
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(begin, task) for task in tasks]]


def fall_silent(store):
    """Let the leases of a driver run out, as they do by themselves once nobody renews them."""
    with store.engine.begin() as connection:
        connection.execute(update(JobRow).where(JobRow.driver == store.queue.driver).values(lease=Clock() - 0.01))


def held(store, act):
    """Do what takes or renews a lease, and see that it ends so many seconds of the database's clock later."""
    clock = select(Clock())
    with store.engine.connect() as connection:
        before = connection.execute(clock).scalar_one()
    done = act()
    with store.engine.connect() as connection:
        after = connection.execute(clock).scalar_one()
    (end,) = rows(store, JobRow.lease)
    assert before <= end - LEASE <= after
    return done


def rows(store, column):
    with store.engine.connect() as connection:
        return list(connection.execute(select(column)).scalars())


# ---------------------------------------------------------------------- the schema


def test_the_migrations_make_the_tables_that_the_code_declares(url, driver):
    with driver(url).engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, TableBase.metadata) == []


def test_several_threads_that_make_one_database_find_it_made(url):
    engines = together(*[lambda: connect(url, create=True)] * 4)
    assert len({engine.url for engine in engines}) == 1
    for engine in engines:
        engine.dispose()


@pytest.mark.slow
def test_several_processes_that_make_one_database_find_it_made(url):
    code = "import sys; from harness.store.write.store import Store; Store.open(sys.argv[1], create=True).n_results()"
    command = [sys.executable, "-P", "-W", "error", "-c", code, url]
    for started in [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]:
        _, said = started.communicate()
        assert started.returncode == 0, said


def test_an_older_schema_is_refused_with_the_command_that_repairs_it(url, driver):
    engine = driver(url).engine
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(
        UserError, match=r"got the older 0001; bring it forward with `purebench db upgrade .*runs"
    ) as it:
        Store.open(url)
    assert "\n" not in str(it.value)


def test_rows_without_what_they_refer_to_are_refused(url, driver):
    store = driver(url)
    orphan = {"suite_id": 7, "position": 0, **CELL.labels.as_dict()}
    with pytest.raises(IntegrityError), store.engine.begin() as connection:
        connection.execute(insert(MemberRow).values(**orphan))
    assert rows(store, MemberRow.id) == []


def test_the_clock_is_the_databases_and_moves_within_a_transaction(url, driver):
    began = time.time()
    with driver(url).engine.begin() as connection:
        before = connection.execute(select(Clock())).scalar_one()
        time.sleep(0.05)
        after = connection.execute(select(Clock())).scalar_one()
    # both count the same seconds, SQLite in whole milliseconds
    assert began - 0.01 <= before <= after - 0.04 < after <= time.time() + 0.01


# ---------------------------------------------------------------------- recording and reading


def test_what_is_measured_is_covered_once(url, driver):
    store = driver(url)
    store.declare(SUITE)
    job = evaluation(0, 8, 0, 3)
    attempt = store.queue.claim(job, 8)
    assert store.finish(attempt, job, measured(job))
    (covered,) = store.covered([CELL.digest])[CELL.digest]
    metrics = {one.metric: one for one in covered.metrics}
    distances, amv = (metrics.pop(one.spec.digest) for one in METRICS)
    assert metrics == {}
    assert covered == Covered(0, 8, 0, 3, covered.version, Rectangle(0, 8, 0, 3), covered.metrics)
    assert covered.version.weights == ((WEIGHTS.digest, WEIGHTS.sha256),)  # and not the probe's
    assert distances == TakenMetric(METRICS[0].spec.digest, (), {})
    assert amv == TakenMetric(METRICS[1].spec.digest, ((PROBE.digest, PROBE.sha256),), {})
    assert distances.code == amv.code == {"metric": "d" * 64}
    assert (covered.version.code, covered.version.current) == ({"attack": "c" * 64}, True)
    assert store.artifact_hashes("weights") == {one.digest: {one.sha256} for one in (WEIGHTS, PROBE)}
    assert store.spec_of(CELL.digest) == CELL.as_dict()
    assert store.earlier_members("toy") == {CELL.labels: CELL.digest}
    assert store.queue.claim(job) is None


def test_an_end_is_written_once(url, driver):
    store = driver(url)
    job = Train(Spec.of("recipe", "cnn", 1, {}, label="toy"))
    attempt = store.queue.claim(job)
    assert store.queue.end(attempt, "failed", "a bad day")
    assert not store.finish(attempt, job, Done())
    assert not store.queue.end(attempt, "interrupted", "too late")
    assert store.queue.troubles() == ["failed: train toy (a bad day)"]


def test_a_number_that_is_none_is_refused_and_nothing_of_its_shard_recorded(url, driver):
    store = driver(url)
    store.declare(SUITE)
    job = evaluation(0, 2)
    attempt = store.queue.claim(job)
    done = measured(job)
    with pytest.raises((StatementError, ValueError), match=r"expected a finite number|for type json"):
        store.finish(
            attempt, job, replace(done, outcomes=tuple(replace(one, radius=float("nan")) for one in done.outcomes))
        )
    assert rows(store, ResultRow.id) == rows(store, OutcomeRow.place) == rows(store, MeasureRow.result) == []
    assert store.finish(attempt, job, done), "expected the attempt to be open still"


def test_measures_that_are_cut_short_are_refused_and_nothing_of_their_shard_recorded(url, driver):
    store = driver(url)
    store.declare(SUITE)
    job = evaluation(0, 2)
    attempt = store.queue.claim(job)
    done = measured(job)
    with pytest.raises(ValueError, match="cannot reshape"):
        store.finish(
            attempt,
            job,
            replace(done, measurements=(*done.measurements[1:], replace(done.measurements[0], values=b"\0" * 8))),
        )
    assert rows(store, ResultRow.id) == rows(store, OutcomeRow.place) == rows(store, MeasureRow.result) == []
    assert store.finish(attempt, job, done), "expected the attempt to be open still"


def test_what_metrics_gave_comes_back_to_the_last_digit_whichever_results_it_is_of(url, driver):
    store = driver(url)
    store.declare(SUITE)
    jobs = [evaluation(0, 5), evaluation(4, 12, 0, 2), evaluation(0, 12, 0, 3)]
    for job in jobs:
        assert store.finish(store.queue.claim(job), job, measured(job))
    examples = harness.results(url).examples
    expected = {name: value for one in measured(jobs[-1]).measurements for name, value in numbers(one, 12, 3).items()}
    assert len(examples) == 36
    for name in ("linf", "l2", "amv_purified_mean"):
        pd.testing.assert_series_equal(examples[name], pd.Series(expected[name], name=name), check_exact=True)


def numbers(measurement, places, repeats):
    """What a metric gave by column, place after place."""
    whole = np.frombuffer(measurement.values, "<f8").reshape(len(measurement.names), places * repeats)
    return dict(zip(measurement.names, whole, strict=True))


def test_metrics_that_are_taken_later_are_of_the_results_that_were_there(url, driver):
    store, other = driver(url), driver(url, "other")
    store.declare(SUITE)
    job = evaluation(0, 12, 0, 3)
    without = replace(measured(job), measurements=())
    assert store.finish(store.queue.claim(job), job, without)
    assert harness.results(url).cells["linf"].isna().all()
    (covered,) = store.covered([CELL.digest])[CELL.digest]
    assert covered.metrics == ()
    later = Measure(CELL, job.shard, 0, 3, job.metrics, covered.version.digest)
    attempt = other.queue.claim(later)
    assert store.queue.claim(later) is None
    assert other.finish(attempt, later, measured(later))
    assert not other.finish(attempt, later, measured(later, shift=1.0))
    assert harness.results(url).cells["linf"][0] == pytest.approx(6.5 / 255)
    assert rows(store, ResultRow.id) == [1]
    assert set(rows(store, MeasureRow.attempt)) == {attempt}
    assert store.queue.claim(later) is None


def test_of_overlapping_measurements_each_place_and_repeat_is_kept_once(url, driver):
    store = driver(url)
    store.declare(SUITE)
    for job in [evaluation(0, 8), evaluation(4, 12, 0, 2), evaluation(0, 12, 0, 3)]:
        assert store.finish(store.queue.claim(job), job, measured(job))
    examples = harness.results(url).examples
    assert sorted(zip(examples["place"], examples["repeat"], strict=True)) == [
        (place, repeat) for place in range(12) for repeat in range(3)
    ]


def test_two_drivers_that_record_overlapping_measurements_at_once_keep_each_outcome_once(url, driver):
    drivers = [driver(url, f"driver-{number}") for number in range(4)]
    for number, store in enumerate(drivers):
        store.declare(SUITE)
        jobs = [evaluation(start, start + 6 + number, 0, 3) for start in range(0, 12, 3)]
        store.work = [(store.queue.claim(job), job, measured(job)) for job in jobs]
    assert all(all(one) for one in together(*[lambda it=it: [it.finish(*what) for what in it.work] for it in drivers]))
    found = rows(drivers[0], OutcomeRow.place * 10 + OutcomeRow.repeat)
    assert sorted(found) == [place * 10 + repeat for place in range(18) for repeat in range(3)]


def test_the_largest_seeds_are_held(url, driver):
    store, far = driver(url), replace(CELL, seed=2**63 - 1, subset_seed=2**31)
    store.declare(replace(SUITE, members=(Member(far.labels, far, True),)))
    assert rows(store, CellRow.seed) == [2**63 - 1]
    assert rows(store, CellRow.subset_seed) == [2**31]


def test_both_databases_give_the_same_frames(tmp_path, postgresql, driver):
    urls = [str(tmp_path / "runs.db"), postgresql()]
    for url in urls:
        store = driver(url)
        other = cell("blur", attacked=False)
        store.declare(replace(SUITE, members=(*SUITE.members, Member(other.labels, other, False))))
        for job in [evaluation(4, 8, 0, 3), evaluation(0, 4, 0, 3), evaluation(8, 12, 0, 2)]:
            store.finish(store.queue.claim(job), job, measured(job))
        clean = evaluation(0, 12, what=other)
        store.finish(store.queue.claim(clean), clean, measured(clean))
    for here, there in zip(*(harness.results(url) for url in urls), strict=True):
        assert len(here) > 0
        pd.testing.assert_frame_equal(
            here.drop(columns="attempt", errors="ignore"),
            there.drop(columns="attempt", errors="ignore"),
            check_exact=True,
        )


# ---------------------------------------------------------------------- several drivers


def test_several_drivers_declare_one_suite_at_once(url, driver):
    drivers = [driver(url, f"driver-{number}") for number in range(4)]
    together(*[lambda it=it: it.declare(SUITE) for it in drivers])
    assert len(rows(drivers[0], SuiteRow.id)) == 1
    assert len(rows(drivers[0], MemberRow.id)) == len(SUITE.members)
    assert {it.queue.suite for it in drivers} == set(rows(drivers[0], SuiteRow.id))


def test_of_two_drivers_that_claim_the_same_jobs_one_gets_each(url, driver):
    jobs = [evaluation(place, place + 1) for place in range(200)]
    drivers = [driver(url, name) for name in ("here", "there")]
    drivers[0].declare(SUITE)
    drivers[0].queue.post(jobs, {})
    claims = together(*[lambda it=it: [it.queue.claim(job) for job in jobs] for it in drivers])
    assert all((here is None) != (there is None) for here, there in zip(*claims, strict=True))
    attempts = [attempt for claim in claims for attempt in claim if attempt is not None]
    assert sorted(attempts) == sorted(rows(drivers[0], AttemptRow.id))
    assert sorted(attempts) == sorted(rows(drivers[0], JobRow.attempt))


def test_a_silent_drivers_job_is_claimed_again_and_its_late_result_refused(url, driver):
    silent, other = driver(url, "silent"), driver(url, "other")
    silent.declare(SUITE)
    job = evaluation(0, 8)
    late = silent.queue.claim(job)
    assert other.queue.claim(job) is None
    fall_silent(silent)
    taken = other.queue.claim(job)
    assert not silent.finish(late, job, measured(job, shift=1.0))
    assert not silent.queue.end(late, "failed", "too late")
    assert other.finish(taken, job, measured(job))
    assert rows(other, ResultRow.attempt) == [taken]
    assert len(rows(other, OutcomeRow.place)) == 8
    assert sorted(rows(other, AttemptRow.status)) == ["done", "interrupted"]


def test_a_driver_that_renews_its_lease_keeps_its_job(url, driver):
    busy, other = driver(url, "busy"), driver(url, "other")
    job = Train(Spec.of("recipe", "cnn", 1, {}))
    attempt = held(busy, lambda: busy.queue.claim(job))
    for _ in range(2):
        fall_silent(busy)  # all of the lease goes by
        held(busy, busy.queue.renew)
        assert other.queue.reclaim() == 0
        assert other.queue.claim(job) is None
    assert busy.finish(attempt, job, Done())


@pytest.mark.parametrize("alone", [True, False])
def test_what_others_left_running_is_queued_again_once_they_are_known_to_be_gone(url, driver, alone):
    gone, other = driver(url, "gone"), driver(url, "other")
    job, mine = (Train(Spec.of("recipe", name, 1, {})) for name in ("cnn", "mae"))
    left, kept = gone.queue.claim(job), other.queue.claim(mine)
    assert other.queue.reclaim() == 0
    if not alone:
        fall_silent(gone)
    assert other.queue.reclaim(alone=alone) == 1
    assert not gone.finish(left, job, Done())
    assert other.queue.standings([job.digest])[job.digest].status == "queued"
    assert other.queue.claim(job) is not None
    assert other.finish(kept, mine, Done())


def test_what_a_run_of_this_very_process_left_running_is_not_taken_for_ones_own(url):
    stores = [Store.open(url, create=True) for _ in range(2)]
    job = Train(Spec.of("recipe", "cnn", 1, {}))
    stores[0].queue.claim(job)
    assert stores[1].queue.reclaim() == 0
    assert stores[1].queue.reclaim(alone=True) == 1
    assert stores[1].queue.claim(job) is not None
    for store in stores:
        store.engine.dispose()


def test_posting_leaves_alone_what_another_driver_has_or_has_ended_since(url, driver):
    here, there = driver(url, "here"), driver(url, "there")
    running, ended, failed = (Train(Spec.of("recipe", name, 1, {})) for name in ("a", "b", "c"))
    here.queue.end(here.queue.claim(failed), "failed", "a bad day")
    seen = here.queue.seen()
    there.queue.claim(running)
    there.finish(there.queue.claim(ended), ended, Done())
    here.queue.post([running, ended, failed], seen)
    standings = here.queue.standings([job.digest for job in (running, ended, failed)])
    assert [one.status for one in standings.values()].count("queued") == 1
    assert standings[failed.digest].status == "queued"
    assert standings[running.digest].status == "running"


def test_a_job_whose_file_was_found_is_done_unless_somebody_has_it(url, driver):
    here, there = driver(url, "here"), driver(url, "there")
    queued, failed, running, unknown = (Train(Spec.of("recipe", name, 1, {})) for name in ("a", "b", "c", "d"))
    here.queue.post([queued], {})
    here.queue.end(here.queue.claim(failed), "failed", "a bad day")
    there.queue.claim(running)
    here.queue.find([queued, failed, running, unknown])
    standings = here.queue.standings([job.digest for job in (queued, failed, running, unknown)])
    assert {digest: one.status for digest, one in standings.items()} == {
        queued.digest: "done",
        failed.digest: "done",
        running.digest: "running",
    }
    assert standings[queued.digest].reason == "its file was there"


# ---------------------------------------------------------------------- a server that says no


def test_a_wrong_password_is_one_sentence_that_does_not_tell_it(postgresql, driver):
    url = postgresql()
    with driver(url).engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE ROLE locked LOGIN PASSWORD 'right'"))
        rules = Path(connection.execute(text("SHOW hba_file")).scalar_one())
        rules.write_text(f"local all locked scram-sha-256\n{rules.read_text()}")
        connection.execute(text("SELECT pg_reload_conf()"))
    wrong = make_url(url).set(username="locked", password="wrong-secret").render_as_string(hide_password=False)
    while "password authentication failed" not in (told := complaint(wrong)):
        time.sleep(0.05)  # the server reads its rules anew some time after it was asked to
    assert "secret" not in told
    assert "\n" not in told


def complaint(url):
    """Return what opening a database complains of; nothing where it can be opened."""
    try:
        Store.open(url).engine.dispose()
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("place", ["127.0.0.1:1", "nowhere.invalid"])
def test_a_server_that_is_not_there_is_one_sentence_that_does_not_tell_the_password(place):
    pytest.importorskip("psycopg")
    with pytest.raises(
        UserError, match=r"expected a purebench database at .*; see whether the .*URL is right"
    ) as caught:
        Store.open(f"postgresql://me:secret@{place}/runs", create=True)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_database_that_the_server_does_not_have_is_one_sentence(postgresql):
    url = make_url(postgresql()).set(database="absent").render_as_string(hide_password=False)
    with pytest.raises(UserError, match=r'database "absent" does not exist'):
        Store.open(url)


def test_leases_hold_whatever_the_clocks_of_the_drivers_say(url, driver, monkeypatch):
    ahead = driver(url, "ahead")
    job = Train(Spec.of("recipe", "cnn", 1, {}))
    ahead.queue.claim(job)
    monkeypatch.setattr(time, "time", lambda: 1e12)
    assert driver(url, "other").queue.claim(job) is None
    with ahead.engine.begin() as connection:
        connection.execute(update(JobRow).values(lease=Clock() - 0.01))
    assert driver(url, "third").queue.claim(job) is not None
