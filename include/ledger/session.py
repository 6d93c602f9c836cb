"""A connection to the ledger that outlives a broken one, and the two interfaces that are built on it.

``RunLedger`` (``runs.py``) plans and checks a run; ``CallLedger`` (``calls.py``) is what an engine that calls the NMP
needs. How the ledger works, and why, is in ``docs/lifecycle.md``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from include.warehouse.database import Connect, Connection, open_session, safe_errors
from include.warehouse.transactions import Kind, limited_transaction


class LedgerError(Exception):
    """The ledger cannot do what was asked; the message says what to do."""


class NeverPlannedError(LedgerError):
    """A run that this warehouse does not know."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} was never planned in this warehouse: clear its extract_orders task")


class LedgerSession:
    """One connection to the ledger, opened when it is first needed, and opened again after it broke.

    ``connect`` opens the warehouse. Not for two threads at once. Every method raises ``SafeDatabaseError`` when the
    database fails; its text never holds a link.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    def close(self) -> None:
        """End the connection; the next call opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self, kind: Kind = Kind.SHORT) -> Iterator[Connection]:
        """One limited transaction; when its connection breaks, the next transaction opens a new one."""
        with safe_errors(), limited_transaction(self._connected(), kind) as connection:
            yield connection

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = open_session(self._connect, autocommit=True, application_name="passport-links ledger")
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: Connection) -> None:
        """Set up a new connection; for subclasses."""
