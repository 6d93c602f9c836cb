"""What the DAGs connect to, read from Airflow's connections: ``warehouse``, ``orders_db`` and ``nmp``.

The Postgres provider's hook opens the databases, so its extras, IAM tokens and secrets backends work here too.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import psycopg
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from include.warehouse.database import NETWORK_LIMITS, SafeDatabaseError, connection_refused

WAREHOUSE = "warehouse"
ORDERS_DB = "orders_db"
NMP = "nmp"


@dataclass(frozen=True)
class PostgresDatabase:
    """The door to the database of one Airflow connection: called, it opens a new connection with a fresh token.

    Two of them are equal where Airflow says the same of both. ``definition`` is all that Airflow says, password too.
    """

    conn_id: str
    definition: str = field(repr=False)

    def __call__(self) -> psycopg.Connection[Any]:
        """Open a connection; raises ``SafeDatabaseError``, whose text names the place and never the password."""
        # Here, because the provider is heavy and a DAG is read far more often than a database is opened.
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        defined = Connection.from_json(self.definition, conn_id=self.conn_id)
        try:
            connection = PostgresHook(postgres_conn_id=self.conn_id, connection=defined).get_conn()
        except psycopg.Error as error:
            raise connection_refused(error, host=defined.host, port=defined.port, database=defined.schema) from None
        except Exception as error:
            # A token service's error may hold anything, and may be over in a moment.
            said = str(error) if isinstance(error, AirflowException) else type(error).__name__
            message = f"No connection {self.conn_id!r}: {said}"
            raise SafeDatabaseError(message, sqlstate=None, constraint=None, transient=True) from None
        if not isinstance(connection, psycopg.Connection):
            message = f"No connection {self.conn_id!r}: the Postgres provider does not use psycopg 3; install psycopg"
            raise SafeDatabaseError(message, sqlstate=None, constraint=None, transient=False)
        return connection


def warehouse() -> PostgresDatabase:
    """Give the door to the warehouse, from the connection ``warehouse``.

    Raises ``AirflowFailException`` (no retry would help) when it is missing or no PostgreSQL connection.
    """
    return postgres_database(connection(WAREHOUSE))


def orders_db() -> PostgresDatabase:
    """Give the door to the shop's orders, from the connection ``orders_db``; raises as ``warehouse`` does."""
    return postgres_database(connection(ORDERS_DB))


def postgres_database(defined: Connection) -> PostgresDatabase:
    """Give the door to the database of an Airflow connection; raises as ``warehouse`` does."""
    conn_id = str(defined.conn_id)
    if not (defined.conn_type or "").startswith("postgres"):
        message = (
            f"the connection {conn_id!r} is of type {defined.conn_type!r}; it must be a PostgreSQL connection, like "
            "postgresql://login:password@host:5432/database"
        )
        raise AirflowFailException(message)
    try:
        extra = {**NETWORK_LIMITS, **json.loads(defined.extra or "{}")}
    except (ValueError, TypeError):
        message = (
            f'the connection {conn_id!r} has an extra that is no JSON object; write it like {{"sslmode": "require"}}'
        )
        raise AirflowFailException(message) from None
    fields = {
        "conn_type": "postgres",
        "host": defined.host,
        "port": defined.port,
        "login": defined.login,
        "password": defined.password,
        "schema": defined.schema,
        "extra": extra,
    }
    return PostgresDatabase(conn_id, json.dumps(fields))


def from_environment(conn_id: str, value: str) -> PostgresDatabase:
    """Give the door to the database of ``AIRFLOW_CONN_<CONN_ID>=<value>``, in Airflow's URI or JSON form.

    Raises as ``warehouse`` does; the text never holds ``value``.
    """
    try:
        if value.strip().startswith("{"):
            return postgres_database(Connection.from_json(value, conn_id=conn_id))
        return postgres_database(Connection.from_uri(value, conn_id=conn_id))
    except (AirflowException, ValueError, TypeError) as error:
        if isinstance(error, AirflowFailException):
            raise
        raise AirflowFailException(_unreadable(conn_id)) from None


def nmp_is_sandbox() -> bool:
    """Whether the connection ``nmp`` says of itself that it is the sandbox: its extra has ``"sandbox": true``.

    The local stack writes that extra; nothing is guessed from a host. Raises as ``warehouse`` does when the connection
    is missing.
    """
    # In Airflow's URI form every extra is text.
    return str(connection(NMP).extra_dejson.get("sandbox", "")).lower() == "true"


def connection(conn_id: str) -> Connection:
    """Give the Airflow connection ``conn_id``; raises ``AirflowFailException`` with what to set when there is none."""
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowException:
        # Airflow's own message on a URI that it cannot parse holds the URI, and so the password.
        raise AirflowFailException(_unreadable(conn_id)) from None


def _unreadable(conn_id: str) -> str:
    return (
        f"the connection {conn_id!r} is missing or cannot be parsed: add it in Airflow under Admin, Connections, "
        f"or set AIRFLOW_CONN_{conn_id.upper()}"
    )
