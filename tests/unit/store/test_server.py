"""A server that stops in the middle of its work, without hanging up, is left after a while and called again."""

from __future__ import annotations

import os
import signal
import time

import pytest
from sqlalchemy import text

from harness.core.errors import Unreachable
from harness.execution.driver import patience
from harness.execution.driver.patience import Patience
from harness.store.database import connect
from harness.store.deadline import LIMIT, answering_within, deadline

BACKEND, ONE = text("SELECT pg_backend_pid()"), text("SELECT 1")


def test_a_deadline_is_that_of_the_block():
    with answering_within(60.0):
        with answering_within(5.0):
            assert deadline() == 5.0
        assert deadline() == 60.0
    assert deadline() == LIMIT


@pytest.fixture
def engine(postgresql):
    engine = connect(postgresql(), create=True)
    yield engine
    engine.dispose()


@pytest.fixture
def stopped(engine):
    """Stop the process of the server that has the only connection; it goes on afterwards."""
    with engine.connect() as connection:
        backend = connection.scalar(BACKEND)
    os.kill(backend, signal.SIGSTOP)
    yield backend
    os.kill(backend, signal.SIGCONT)


def test_a_statement_without_an_answer_is_a_sentence_and_a_new_connection_works(engine, postgresql_server):
    with engine.connect() as connection:
        backend = connection.scalar(BACKEND)
        os.kill(backend, signal.SIGSTOP)
        try:
            with answering_within(0.5), pytest.raises(Unreachable, match=r"it answered: no answer within 0\.5 s"):
                connection.execute(ONE)
        finally:
            os.kill(backend, signal.SIGCONT)
    with engine.connect() as connection:
        assert connection.scalar(ONE) == 1


def test_a_connection_of_the_pool_that_went_silent_is_replaced(engine, stopped):
    with answering_within(5.0), engine.connect() as connection:
        assert connection.scalar(BACKEND) != stopped


def test_a_run_waits_for_it_and_says_so(engine, monkeypatch):
    monkeypatch.setattr(patience, "ANSWER", 0.5)
    monkeypatch.setattr(patience, "PAUSE", 0.0)
    said = []

    def ask():
        with engine.begin() as connection:
            backend = connection.scalar(BACKEND)
            if not said:
                os.kill(backend, signal.SIGSTOP)
                started.append(backend)
            return connection.scalar(ONE)

    started = []
    try:
        assert Patience(said.append).ask(ask) == 1
    finally:
        os.kill(started[0], signal.SIGCONT)
    assert "no answer within 0.5 s" in said[0]
    assert said[1].startswith("the database answers again")


def test_a_statement_that_answers_in_time_is_left_alone(engine):
    began = time.monotonic()
    with answering_within(60.0), engine.connect() as connection:
        assert connection.scalar(text("SELECT 7 FROM pg_sleep(1)")) == 7
    assert time.monotonic() - began >= 1
