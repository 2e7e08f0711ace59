"""Deadline: how long a server may take for one answer; the statements of a run are short, a report may ask for much."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: seconds, where nobody says less
LIMIT = 600.0

_seconds = ContextVar("seconds", default=LIMIT)


@contextmanager
def answering_within(seconds: float) -> Iterator[None]:
    """Give the statements of a block so much time each."""
    token = _seconds.set(seconds)
    try:
        yield
    finally:
        _seconds.reset(token)


def deadline() -> float:
    """Return the seconds that a statement has here."""
    return _seconds.get()
