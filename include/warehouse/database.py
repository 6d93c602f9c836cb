"""PostgreSQL connections and their errors, fit for tables that hold links.

PostgreSQL prints values into its errors: ``Key (link)=(…)``, whole rows in DETAIL. So whatever touches the ledger or
the published tables does it inside ``safe_errors()``, which lets the SQLSTATE and the constraint's name through and
nothing else.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString, TypeVar, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import kwargs_row, scalar_row, tuple_row

from include.sql_files import sql_of
from include.warehouse.watchdog import answered_within

sql = sql_of(__package__)

TRANSIENT_CLASSES = frozenset(
    {
        "08",  # connection exception
        "40",  # transaction rollback: serialization failure, deadlock
        "53",  # insufficient resources: too many connections, disk full
        "57",  # operator intervention: shutdown, starting up, statement cancelled
        "58",  # system error
    }
)
TRANSIENT_STATES = frozenset(
    {
        "25006",  # read-only transaction: the server has become a standby
        "25P03",  # idle in a transaction for too long: this process was frozen, or slow
        "25P04",  # the transaction took too long
        "55P03",  # lock not available
    }
)
NOT_TRANSIENT_STATES = frozenset({"57P04"})  # database dropped

# What the server says of a refused log-in reaches libpq as text without a SQLSTATE.
_REFUSALS = {
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    "no pg_hba.conf entry": "28000",
    "is not permitted to log in": "28000",
    "does not exist": "3D000",
    "permission denied for database": "42501",
    "too many": "53300",
    "remaining connection slots": "53300",
    "starting up": "57P03",
    "shutting down": "57P03",
}

NETWORK_LIMITS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 8_000,  # milliseconds
}
"""How long a server may be silent, as libpq parameters; a network that swallows everything shows within ten seconds."""

SESSION_SECONDS = 10.0  # of waiting until a new session is set up


class SafeDatabaseError(Exception):
    """A database error without its values.

    ``sqlstate`` is PostgreSQL's five-letter code, ``None`` where the connection broke or never came about;
    ``constraint`` the violated constraint or unique index, if any; ``transient`` whether the same statement may work
    later (broken connection, shutdown, deadlock, read-only standby, out of connections or disk).
    """

    def __init__(self, message: str, *, sqlstate: str | None, constraint: str | None, transient: bool) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.constraint = constraint
        self.transient = transient

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, as Airflow and multiprocessing do it."""
        return _rebuild, (type(self), str(self), self.sqlstate, self.constraint, self.transient)


def _rebuild(
    kind: type[SafeDatabaseError], message: str, sqlstate: str | None, constraint: str | None, transient: bool
) -> SafeDatabaseError:
    return kind(message, sqlstate=sqlstate, constraint=constraint, transient=transient)


@contextmanager
def safe_errors(doing: str = "The database refused a statement") -> Iterator[None]:
    """Turn every ``psycopg.Error`` of the block, or of the decorated function, into ``SafeDatabaseError``.

    ``doing`` begins the message, like ``"The ledger could not write an answer"``; it must hold no value of a row.
    """
    try:
        yield
    except psycopg.Error as error:
        raise safe_error(error, doing) from None


def safe_error(error: psycopg.Error, doing: str) -> SafeDatabaseError:
    """Return ``error`` as ``SafeDatabaseError``, and take the values out of ``error`` itself.

    The original stays reachable as the new one's ``__context__``, which not every error reporter leaves alone.
    """
    sqlstate = error.sqlstate
    constraint = error.diag.constraint_name
    transient = _is_transient(sqlstate) if sqlstate else isinstance(error, psycopg.OperationalError) or _is_lost(error)
    parts = [f"SQLSTATE {sqlstate} {type(error).__name__}" if sqlstate else type(error).__name__]
    if constraint:
        parts.append(f"constraint {constraint}")
    message = f"{doing}: {', '.join(parts)}"
    error.args = (message,)
    return SafeDatabaseError(message, sqlstate=sqlstate, constraint=constraint, transient=transient)


def _is_transient(sqlstate: str) -> bool:
    return sqlstate not in NOT_TRANSIENT_STATES and (sqlstate[:2] in TRANSIENT_CLASSES or sqlstate in TRANSIENT_STATES)


def _is_lost(error: psycopg.Error) -> bool:
    """Whether the connection of an error without SQLSTATE is gone (psycopg: "the connection is closed")."""
    if isinstance(error, psycopg.InterfaceError):
        return True
    return error.pgconn is not None and error.pgconn.transaction_status == TransactionStatus.UNKNOWN


Connection = psycopg.Connection[Any]
Row = TypeVar("Row")

Connect = Callable[[], Connection]
"""How everything reaches a database: called, it opens a new connection, or raises ``SafeDatabaseError``."""


def open_session(
    connect: Connect, *, autocommit: bool = False, application_name: str = "passport-links"
) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection with UTC as its time zone and tuples as its rows.

    Its transactions are READ COMMITTED unless they say otherwise, and on the disk when they are committed, whatever the
    database or role is set to. Raises ``SafeDatabaseError`` when the server cannot be reached or refuses; the text
    names the place (host, port, database), never the password.
    """
    connection = connect()
    try:
        connection.row_factory = tuple_row
        connection.autocommit = autocommit
        with answered_within(connection, SESSION_SECONDS), connection.transaction():
            connection.execute(sql("session"), {"application_name": application_name})
    except psycopg.Error as error:
        where = place(connection)
        connection.close()
        raise safe_error(error, f"The session with {where} could not be set up") from None
    return connection


def database_now(connection: Connection) -> datetime:
    """Return the time by the database's clock, with a time zone."""
    (now,) = connection.cursor(row_factory=scalar_row).execute(sql("now")).fetchall()
    return cast(datetime, now)


def connecting_to(conninfo: str) -> Connect:
    """Give what opens the database that libpq's ``conninfo`` (URI or key=value form) names.

    For databases that no Airflow connection describes: those of the local stack, the benchmarks and the tests.
    """
    try:
        parameters = {**NETWORK_LIMITS, **conninfo_to_dict(conninfo)}
    except psycopg.ProgrammingError:
        message = "the database's address is no libpq URI; write it like postgresql://login:password@host:5432/database"
        raise SafeDatabaseError(message, sqlstate=None, constraint=None, transient=False) from None

    def connect() -> Connection:
        try:
            return psycopg.connect("", **parameters)
        except psycopg.Error as error:
            raise connection_refused(
                error, host=parameters.get("host"), port=parameters.get("port"), database=parameters.get("dbname")
            ) from None

    return connect


def connection_refused(
    error: psycopg.Error, *, host: object = None, port: object = None, database: object = None
) -> "SafeDatabaseError":
    """Say in one sentence why no connection came about, and what to check; never the password.

    ``host``, ``port`` and ``database`` say where; an empty one is libpq's default.
    """
    text = str(error).lower()
    sqlstate = error.sqlstate or next((state for said, state in _REFUSALS.items() if said in text), None)
    if isinstance(error, psycopg.ProgrammingError) and sqlstate is None:
        why = "its parameters are not libpq's; correct the connection's extra"
    elif sqlstate is None:
        why = "it cannot be reached; check that it runs there and that host and port are right"
    elif sqlstate.startswith("28"):
        why = "it refuses the login; check user and password"
    elif sqlstate == "3D000":
        why = "it has no such database or role; create it or correct the name"
    elif _is_transient(sqlstate):
        why = "it takes no connections now; try again later"
    else:
        why = "it refuses the connection; check the user's rights"
    message = f"No connection to {_place(host, port, database)}: {why} (SQLSTATE {sqlstate or 'none'})"
    error.args = (message,)
    transient = isinstance(error, psycopg.OperationalError) and (sqlstate is None or _is_transient(sqlstate))
    return SafeDatabaseError(message, sqlstate=sqlstate, constraint=None, transient=transient)


def place(connection: Connection) -> str:
    """Say where a connection leads, without user and password: ``the PostgreSQL database dwh at db.example:5432``."""
    return _place(connection.info.host, connection.info.port, connection.info.dbname)


def _place(host: object, port: object, database: object) -> str:
    return f"the PostgreSQL database {database or '(default)'} at {host or 'the local socket'}:{port or 5432}"


def read_rows(
    connection: Connection,
    make: Callable[..., Row],
    statement: LiteralString,
    parameters: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Execute a statement and give what it returns, each row made by ``make`` with its columns as keyword arguments."""
    with connection.cursor(row_factory=kwargs_row(make)) as cursor:
        return cursor.execute(statement, parameters).fetchall()
