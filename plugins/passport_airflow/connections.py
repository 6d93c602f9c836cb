"""What the DAGs connect to, read from Airflow's connections: ``warehouse``, ``orders_db`` and ``nmp``."""

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from include.connections import BadConnection, postgres_uri

WAREHOUSE = "warehouse"
ORDERS_DB = "orders_db"
NMP = "nmp"


def warehouse_uri() -> str:
    """The libpq URI of the warehouse, from the connection ``warehouse``.

    Raises ``AirflowFailException`` (no retry would help) when it is missing or cannot be read.
    """
    return _postgres_uri(WAREHOUSE)


def orders_uri() -> str:
    """The libpq URI of the shop's orders, from the connection ``orders_db``; raises as ``warehouse_uri`` does."""
    return _postgres_uri(ORDERS_DB)


def nmp_is_sandbox() -> bool:
    """Whether the connection ``nmp`` says of itself that it is the sandbox: its extra has ``"sandbox": true``.

    The local stack writes that extra; nothing is guessed from a host. Raises as ``warehouse_uri`` does when the
    connection is missing.
    """
    # In Airflow's URI form every extra is text.
    return str(connection(NMP).extra_dejson.get("sandbox", "")).lower() == "true"


def connection(conn_id: str) -> Connection:
    """The Airflow connection ``conn_id``; raises ``AirflowFailException`` with what to set when there is none."""
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowException:
        # Airflow's own message on a URI that it cannot parse holds the URI, and so the password.
        message = (
            f"the connection {conn_id!r} is missing or cannot be parsed: add it in Airflow under Admin, Connections, "
            f"or set AIRFLOW_CONN_{conn_id.upper()}"
        )
        raise AirflowFailException(message) from None


def _postgres_uri(conn_id: str) -> str:
    try:
        return postgres_uri(connection(conn_id).get_uri(), f"the connection {conn_id!r}")
    except BadConnection as error:
        raise AirflowFailException(str(error)) from None
