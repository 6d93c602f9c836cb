"""Transactions that hold nobody up for long, also when their client freezes or its network falls silent.

Everything that locks a row of the ledger or of the published tables does it in one of these. ``docs/lifecycle.md`` has
the limits and what each of them is for.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import wraps
from typing import ParamSpec, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from include.sql_files import sql_of
from include.warehouse.database import Connection, SafeDatabaseError
from include.warehouse.watchdog import answered_within

sql = sql_of(__package__)
P = ParamSpec("P")
T = TypeVar("T")

SHORT_SECONDS = 9.0
"""How long a client waits for a short transaction in all. A server from PostgreSQL 17 on ends it after 8 s."""

LONG_SECONDS = 300.0
"""The same for a long transaction: only a server or a network that never says anything takes so long."""

ENDS_TRANSACTIONS = 170000
"""The first server version that has ``transaction_timeout``."""

LIMIT_TRIES = 5
TAKEN_BACK = frozenset({"40P01", "55P03"})
"""A deadlock, or too long a wait for a lock: the transaction changed nothing, and its connection goes on."""
LIMIT_STATES = TAKEN_BACK | {"25P03", "25P04"}
"""Also the ends of a transaction that was idle, or under way, for too long."""


class Kind(Enum):
    """What a transaction is for. Each gives up a lock after 1.5 s of waiting, and ends when it is idle for 4 s."""

    SHORT = "short"  # ends after some seconds in all; others may wait for its locks
    LONG = "long"  # may take minutes; locks what others wait for in its last statements only
    SNAPSHOT = "snapshot"  # LONG, and all its statements read one snapshot, taken by the first that needs one


@contextmanager
def limited_transaction(connection: Connection, kind: Kind = Kind.SHORT) -> Iterator[Connection]:
    """Open a transaction that cannot hold others up; commit at the end of the block, roll back if it raises.

    The limits are the transaction's own, so they also hold behind a connection pooler. A connection that is not fit for
    a next transaction is closed. ``connection`` becomes an autocommit one. Raises ``psycopg.Error``.
    """
    if not connection.autocommit:
        connection.autocommit = True
    begin = sql("begin_snapshot" if kind is Kind.SNAPSHOT else "begin")
    if kind is Kind.SHORT and connection.info.server_version >= ENDS_TRANSACTIONS:
        begin += sql("limit_transaction")
    with answered_within(connection, SHORT_SECONDS if kind is Kind.SHORT else LONG_SECONDS):
        try:
            connection.execute(begin, prepare=False)  # one message, so it costs no round trip of its own
            yield connection
            connection.commit()
        except Exception:
            with contextlib.suppress(psycopg.Error):
                connection.rollback()
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.close()
            raise
        except BaseException:  # the task must end now, so it waits for no server
            connection.close()
            raise


def again_after_limit(method: Callable[P, T]) -> Callable[P, T]:
    """Call ``method`` again while a limit ends its transaction, ``LIMIT_TRIES`` times in all.

    For what can be repeated as it is. Who waited for a lock did so for some time, so there is no pause.
    """

    @wraps(method)
    def again(*arguments: P.args, **options: P.kwargs) -> T:
        for _ in range(LIMIT_TRIES - 1):
            try:
                return method(*arguments, **options)
            except (psycopg.Error, SafeDatabaseError) as error:
                if error.sqlstate not in LIMIT_STATES:
                    raise
        return method(*arguments, **options)

    return again
