"""What the DAGs connect to, read from Airflow's connections: ``warehouse``, ``orders_db`` and ``nmp``.

The hook of the Postgres provider opens the databases, so its extras, IAM tokens and secrets backends work here too.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import psycopg
from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowOptionalProviderFeatureException,
)

from include.warehouse.database import NETWORK_LIMITS, SafeDatabaseError, connection_refused

WAREHOUSE = "warehouse"
ORDERS_DB = "orders_db"
NMP = "nmp"

SESSION_DECIDES = ("cursor",)
"""Extras that Airflow knows and that would change what the project's statements give back."""


class _DefinedConnection(Connection):
    """An Airflow connection whose extra is read without Airflow.

    Airflow's own property asks the task's supervisor to mask each value and waits for the answer. The values were
    masked when Airflow gave the connection, and a lost database connection must not wait for a supervisor.
    """

    @property
    def extra_dejson(self) -> dict[str, Any]:
        """The extra as a dictionary."""
        found: dict[str, Any] = json.loads(self.extra or "{}")
        return found


@dataclass(frozen=True)
class PostgresDatabase:
    """Opens the database of one Airflow connection: each call makes a new connection, with a new token.

    Two of them are equal when Airflow says the same of both. ``definition`` is all that Airflow says, as JSON, with the
    password.
    """

    conn_id: str
    definition: str = field(repr=False)

    def __call__(self) -> psycopg.Connection[Any]:
        """Open a connection; raises ``SafeDatabaseError``, whose text names the place and never the password."""
        # Here, because the provider is slow to import and parsing a DAG file opens no database.
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        defined = _DefinedConnection.from_json(self.definition, conn_id=self.conn_id)
        try:
            connection = PostgresHook(postgres_conn_id=self.conn_id, connection=defined).get_conn()
        except psycopg.Error as error:
            raise connection_refused(error, host=defined.host, port=defined.port, database=defined.schema) from None
        except (AirflowNotFoundException, AirflowOptionalProviderFeatureException) as error:
            # The connection of the token service is not defined, or its provider is not installed: both say which.
            raise self._failure(str(error)) from None
        except (TypeError, ValueError) as error:
            error.args = ()  # the text may hold a value
            why = f"{type(error).__name__}; correct its extra"
            raise self._failure(why) from None
        except Exception as error:
            error.args = ()  # the text may hold a secret
            why = f"{type(error).__name__}; see that its token service works"
            raise self._failure(why, transient=True) from None
        if not isinstance(connection, psycopg.Connection):
            why = "the Postgres provider does not use psycopg 3; install psycopg"
            raise self._failure(why)
        return connection

    def _failure(self, why: str, *, transient: bool = False) -> SafeDatabaseError:
        message = f"No connection {self.conn_id!r}: {why}"
        return SafeDatabaseError(message, sqlstate=None, constraint=None, transient=transient)


def warehouse() -> PostgresDatabase:
    """Give what opens the warehouse: the connection ``warehouse``.

    Raises ``AirflowFailException`` (a retry would not help) when it is missing or no PostgreSQL connection.
    """
    return postgres_database(connection(WAREHOUSE))


def orders_db() -> PostgresDatabase:
    """Give what opens the shop's orders: the connection ``orders_db``. Raises what ``warehouse`` raises."""
    return postgres_database(connection(ORDERS_DB))


def postgres_database(defined: Connection) -> PostgresDatabase:
    """Give what opens the database of an Airflow connection. Raises what ``warehouse`` raises."""
    conn_id = str(defined.conn_id)
    if not (defined.conn_type or "").startswith("postgres"):
        message = (
            f"the connection {conn_id!r} is of type {defined.conn_type!r}; it must be a PostgreSQL connection, like "
            "postgresql://login:password@host:5432/database"
        )
        raise AirflowFailException(message)
    try:
        given = json.loads(defined.extra or "{}")
        wanted = {
            name: value for name, value in given.items() if value not in (None, "") and name not in SESSION_DECIDES
        }
    except (ValueError, AttributeError):
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
        "extra": {**NETWORK_LIMITS, **wanted},
    }
    return PostgresDatabase(conn_id, json.dumps(fields))


def from_environment(conn_id: str, value: str) -> PostgresDatabase:
    """Give what opens the database of ``AIRFLOW_CONN_<CONN_ID>=<value>``, in Airflow's URI or JSON form.

    Raises what ``warehouse`` raises; the text never holds ``value``.
    """
    read = Connection.from_json if value.strip().startswith("{") else Connection.from_uri
    try:
        defined = read(value, conn_id=conn_id)
    except (AirflowException, ValueError, TypeError):
        raise AirflowFailException(_unreadable(conn_id)) from None
    return postgres_database(defined)


def nmp_is_sandbox() -> bool:
    """Say whether the connection ``nmp`` leads to the sandbox: its extra has ``"sandbox": true``.

    The local stack writes that extra; nothing is guessed from a host. Raises ``AirflowFailException`` when the
    connection is missing.
    """
    # In Airflow's URI form every extra is text.
    return str(connection(NMP).extra_dejson.get("sandbox", "")).lower() == "true"


def connection(conn_id: str) -> Connection:
    """Give the Airflow connection ``conn_id``; raises ``AirflowFailException`` with what to set when there is none."""
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowException:
        # Airflow's own message for a URI that it cannot parse holds the URI, so the password too.
        raise AirflowFailException(_unreadable(conn_id)) from None


def _unreadable(conn_id: str) -> str:
    return (
        f"the connection {conn_id!r} is missing or cannot be parsed: add it in Airflow under Admin, Connections, "
        f"or set AIRFLOW_CONN_{conn_id.upper()}"
    )
