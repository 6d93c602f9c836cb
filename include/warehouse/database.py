"""PostgreSQL connections and their errors, fit for tables that hold links.

PostgreSQL prints values into its errors: ``Key (link)=(…)``, whole rows in DETAIL. So whatever touches the ledger or
the published tables does it inside ``safe_errors()``, which lets the SQLSTATE and the constraint's name through and
nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from include.connections import postgres_uri
from include.sql_files import sql_of

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

PATIENCE: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,  # milliseconds
}
"""How long a server may be silent, in libpq's words."""


class DatabaseTrouble(Exception):  # noqa: N818 - it tells trouble, it is not one error
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
    kind: type[DatabaseTrouble], message: str, sqlstate: str | None, constraint: str | None, transient: bool
) -> DatabaseTrouble:
    return kind(message, sqlstate=sqlstate, constraint=constraint, transient=transient)


@contextmanager
def safe_errors(doing: str = "The database refused a statement") -> Iterator[None]:
    """Turn every ``psycopg.Error`` of the block, or of the decorated function, into ``DatabaseTrouble``.

    ``doing`` begins the message, like ``"The ledger could not write an answer"``; it must hold no value of a row.
    """
    try:
        yield
    except psycopg.Error as error:
        raise trouble(error, doing) from None


def trouble(error: psycopg.Error, doing: str) -> DatabaseTrouble:
    """Return ``error`` as ``DatabaseTrouble``, and take the values out of ``error`` itself.

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
    return DatabaseTrouble(message, sqlstate=sqlstate, constraint=constraint, transient=transient)


def _is_transient(sqlstate: str) -> bool:
    return sqlstate not in NOT_TRANSIENT_STATES and (sqlstate[:2] in TRANSIENT_CLASSES or sqlstate in TRANSIENT_STATES)


def _is_lost(error: psycopg.Error) -> bool:
    """Whether the connection of an error without SQLSTATE is gone (psycopg: "the connection is closed")."""
    if isinstance(error, psycopg.InterfaceError):
        return True
    return error.pgconn is not None and error.pgconn.transaction_status == TransactionStatus.UNKNOWN


def connect(
    uri: str, *, autocommit: bool = False, application_name: str = "passport-links"
) -> psycopg.Connection[tuple[object, ...]]:
    """Open a connection to ``uri`` (libpq URI, or Airflow's URI or JSON form) with UTC as its time zone.

    Its transactions are READ COMMITTED unless they say otherwise and on the disk when they are committed, whatever the
    database or role is set to. A network that swallows everything is noticed within a minute (unless the URI says
    otherwise).

    Raises ``DatabaseTrouble`` when the server cannot be reached or refuses, ``include.connections.BadConnection`` when
    ``uri`` cannot be read. Both name the place (host, port, database), never the password.
    """
    conninfo = postgres_uri(uri, "the database URI")
    try:
        connection = psycopg.connect(
            conninfo,
            autocommit=autocommit,
            application_name=application_name,
            **{name: value for name, value in PATIENCE.items() if name not in conninfo_to_dict(conninfo)},
        )
        with connection.transaction():
            connection.execute(sql("session"))
    except psycopg.Error as error:
        raise _unreachable(error, conninfo) from None
    return connection


def _unreachable(error: psycopg.Error, conninfo: str) -> DatabaseTrouble:
    text = str(error).lower()
    sqlstate = error.sqlstate or next((state for said, state in _REFUSALS.items() if said in text), None)
    if sqlstate is None:
        why = "it cannot be reached; check that it runs there and that host and port are right"
    elif sqlstate.startswith("28"):
        why = "it refuses the login; check user and password"
    elif sqlstate == "3D000":
        why = "it has no such database or role; create it or correct the name"
    elif _is_transient(sqlstate):
        why = "it takes no connections now; try again later"
    else:
        why = "it refuses the connection; check the user's rights"
    message = f"No connection to {place(conninfo)}: {why} (SQLSTATE {sqlstate or 'none'})"
    error.args = (message,)
    transient = sqlstate is None or _is_transient(sqlstate)
    return DatabaseTrouble(message, sqlstate=sqlstate, constraint=None, transient=transient)


def place(uri: str) -> str:
    """Return where ``uri`` points in words, without user and password: ``database warehouse at db.example:5432``."""
    found = conninfo_to_dict(postgres_uri(uri, "the database URI"))
    host = found.get("host") or found.get("hostaddr") or "the local socket"
    port = found.get("port") or 5432
    return f"the PostgreSQL database {found.get('dbname') or '(default)'} at {host}:{port}"
