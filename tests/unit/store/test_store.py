"""The store's laws: one writer, immutable facts, sentences for what it cannot read."""

from __future__ import annotations

import os
import sqlite3
import threading
from datetime import datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import update

from harness.core.errors import UserError
from harness.core.job import Train
from harness.core.result import Done
from harness.core.spec import Spec
from harness.store.tables import JobRow, TableBase
from harness.store.types import Moment, Real
from harness.store.write.store import Store

JOB = Train(Spec.of("recipe", "cnn", 1, {}, label="toy"))
OTHER = Train(Spec.of("recipe", "mae", 1, {}, label="other"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "runs.db"


def test_the_migrations_make_the_tables_that_the_code_declares(path):
    with Store.open(str(path), create=True).engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, TableBase.metadata) == []


def test_looking_writes_nothing(path):
    assert Store.peek(str(path)) is None
    assert not path.parent.exists()


def test_an_absent_database_is_a_sentence(path):
    with pytest.raises(UserError, match=r"expected a database at .*found none; `purebench run"):
        Store.open(str(path))


def test_a_file_that_is_no_database_is_a_sentence(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing of the kind" * 100)
    with pytest.raises(UserError, match=r"expected a purebench database .* file is not a database"):
        Store.open(str(tmp_path / "notes.txt"))


def test_a_database_of_someone_else_is_a_sentence_and_stays_as_it_is(tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE birds (name TEXT)")
    connection.close()
    before = (tmp_path / "other.db").read_bytes()
    for create in (False, True):
        with pytest.raises(UserError, match="other tables or none"):
            Store.open(str(tmp_path / "other.db"), create=create)
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]
    assert (tmp_path / "other.db").read_bytes() == before


def test_a_database_of_another_schema_is_a_sentence(path):
    Store.open(str(path), create=True)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(UserError, match=r"expected a purebench database of schema \d{4} .* got 9999.* newer purebench"):
        Store.open(str(path))


def test_whoever_opens_a_database_while_another_makes_it_waits(path):
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # from here on SQLite refuses to change the journal, and does so at once
    other.execute("PRAGMA user_version = 1")
    ends = threading.Timer(0.3, other.execute, ["COMMIT"])
    ends.start()
    with Store.open(str(path), create=True).engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    ends.join()
    other.close()


def test_a_folder_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="got the folder"):
        Store.open(str(tmp_path))


def test_a_wrong_url_is_a_sentence():
    with pytest.raises(UserError, match="expected a path or an SQLAlchemy URL"):
        Store.open("sqlite//:://x")


def test_an_attempt_ends_once(path):
    store = Store.open(str(path), create=True)
    attempt = store.queue.claim(JOB)
    assert store.finish(attempt, JOB, Done(environment={"torch": "1"}))
    assert not store.finish(attempt, JOB, Done())
    assert not store.queue.end(attempt, "failed", "too late")
    assert store.queue.troubles() == []


def test_a_success_forgets_the_failure_before_it(path):
    store = Store.open(str(path), create=True)
    store.queue.end(store.queue.claim(JOB), "failed", "a bad day")
    assert store.queue.failures() == {JOB.digest: ("failed", "a bad day", "toy")}
    assert store.queue.claim(JOB) is None
    store.queue.post([JOB], store.queue.seen())
    store.finish(store.queue.claim(JOB), JOB, Done())
    assert store.queue.failures() == {}


def test_what_a_dead_driver_left_running_is_ended(path):
    store = Store.open(str(path), create=True)
    mine, dead = store.queue.claim(JOB), store.queue.claim(OTHER)
    with store.engine.begin() as connection:
        gone = f"{store.queue.driver.partition(':')[0]}:{_free_pid()}:1"
        connection.execute(update(JobRow).where(JobRow.digest == OTHER.digest).values(driver=gone))
    assert store.queue.reclaim() == 1
    assert not store.queue.end(dead, "failed", "too late: it has been ended")
    assert store.queue.claim(OTHER) is not None
    assert store.queue.end(mine, "failed", "still mine to end")


def _free_pid():
    for pid in range(4_000_000, 4_100_000):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return pid
    raise AssertionError("expected a process number that nobody has")


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="expected a time with a zone"):
        Moment().process_bind_param(datetime(2026, 1, 1), None)  # noqa: DTZ001


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="expected a finite number"):
        Real().process_bind_param(value, None)
