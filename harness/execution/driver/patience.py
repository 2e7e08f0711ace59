"""Patience: a database whose server is away is asked again, for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from harness.core.errors import Unreachable
from harness.store.deadline import answering_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.execution.driver.signals import Stop

    Answer = TypeVar("Answer")

#: seconds for which a server is waited for, for which one answer is, and between two questions
LIMIT, ANSWER, PAUSE = 600.0, 60.0, 1.0


class Patience:
    """Asks again while a server is restarted; what is under way goes on meanwhile.

    Args:
        say: is told once that the database is waited for, and once that it is there again.
        stop: where somebody asks for an end, nothing is waited for.
        limit: seconds.
    """

    def __init__(self, say: Callable[[str], object], stop: Stop | None = None, limit: float = LIMIT) -> None:
        self.say, self.stop, self.limit = say, stop, limit

    def ask(self, question: Callable[..., Answer], *given: Any, **named: Any) -> Answer:
        """Return the answer; what was asked is a transaction of its own, and can be asked twice.

        Raises:
            Unreachable: if the server is away for longer, or the run is to stop.
        """
        since: float | None = None
        while True:
            try:
                with answering_within(ANSWER):
                    answer = question(*given, **named)
            except Unreachable as error:
                now = time.monotonic()
                if since is None:
                    since = now
                    self.say(f"{error}; waiting for it for {self.limit:g} s at most, what is under way goes on")
                if now - since > self.limit or (self.stop is not None and self.stop.asked):
                    raise
                time.sleep(PAUSE)
            else:
                if since is not None:
                    self.say(f"the database answers again after {time.monotonic() - since:.0f} s")
                return answer
