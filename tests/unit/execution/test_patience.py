"""A server that is away for a while is waited for, with a sentence and a limit; any other error is none of this."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from harness.core.errors import Unreachable, UserError
from harness.execution.driver import patience
from harness.execution.driver.patience import Patience


@dataclass
class Server:
    """Away for some questions.

    Attributes:
        away: for how many.
        heard: what was asked.
    """

    away: int
    heard: list[tuple[object, ...]] = field(default_factory=list)

    def answer(self, *given, **named):
        self.heard.append((given, named))
        if len(self.heard) <= self.away:
            raise Unreachable("the server is down")
        return len(self.heard)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(patience, "PAUSE", 0.0)


def test_a_server_that_answers_is_asked_once_and_nothing_is_said():
    server, said = Server(0), []
    assert Patience(said.append).ask(server.answer, 1, two=2) == 1
    assert (server.heard, said) == ([((1,), {"two": 2})], [])


def test_one_that_is_away_is_asked_the_same_again_and_told_once():
    server, said = Server(5), []
    assert Patience(said.append).ask(server.answer, 1) == 6
    assert server.heard == [((1,), {})] * 6
    assert said[0] == "the server is down; waiting for it for 600 s at most, what is under way goes on"
    assert said[1].startswith("the database answers again after ")
    assert len(said) == 2


def test_there_is_a_limit():
    with pytest.raises(Unreachable, match="the server is down"):
        Patience(lambda _: None, limit=0.0).ask(Server(10**9).answer)


def test_who_asks_for_an_end_waits_no_longer():
    class Stop:
        asked = True

    server = Server(10**9)
    with pytest.raises(Unreachable):
        Patience(lambda _: None, Stop()).ask(server.answer)
    assert len(server.heard) == 1


def test_other_errors_pass():
    def full():
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        Patience(lambda _: pytest.fail("said")).ask(full)
