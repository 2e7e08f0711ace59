"""Server: a connection to PostgreSQL that is given up when no answer comes, as from a server on a frozen disk."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from harness.store.deadline import deadline


class Connection(psycopg.Connection[Any]):
    """A connection that is closed where an answer takes longer than ``harness.store.deadline`` allows.

    A server that ends or restarts hangs up, and one that was cut off shows by its silence on the line; one that is
    stopped in the middle of its work does neither.
    """

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer.

        Raises:
            psycopg.OperationalError: if it does not come in time.
        """
        limit = timeout or deadline()
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError as error:
            if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {limit:g} s") from error
