"""The Airflow hook that builds the NMP client from the connection ``nmp``."""

import json
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowException

from include.nmp.connection import NmpConnection
from include.nmp.errors import NmpConfigurationError, NmpError

if TYPE_CHECKING:
    from include.nmp.client import NmpClient

_SCHEMES = ("http", "https")


class NmpHook(BaseHook):
    """The hook of the NMP.

    The connection's host is the base URL with its scheme, its password the API key. Its extra may have ``environment``
    (``test`` or ``production``) and ``link_hosts`` (a list, or one string with commas); unset, they accept any link.
    All of these forms work::

        {"conn_type": "http", "host": "https://nmp.example/base", "password": "KEY", "extra": {"environment": "test"}}
        http://:KEY@https%3A%2F%2Fnmp.example%2Fbase/?environment=test
        http://https://:KEY@nmp.example:8443/base?environment=test&link_hosts=links.brand.example
        https://:KEY@nmp.example/base
        http://:KEY@nmp.example/https
    """

    conn_name_attr = "nmp_conn_id"
    default_conn_name = "nmp"
    conn_type = "http"
    hook_name = "NMP"

    def __init__(self, nmp_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.nmp_conn_id = nmp_conn_id

    def nmp_connection(self) -> NmpConnection:
        """Read and check the connection; raises NmpConfigurationError, one sentence that never holds the key."""
        try:
            connection = self.get_connection(self.nmp_conn_id)
        except AirflowException:
            # Airflow's own message for a URI that it cannot parse holds the URI, so the key too.
            message = (
                f"the connection {self.nmp_conn_id} is not defined or cannot be parsed: set "
                f"AIRFLOW_CONN_{self.nmp_conn_id.upper()}, or add it in the UI, with the base URL as host and the API "
                "key as password"
            )
            raise NmpConfigurationError(message) from None
        extra = _extra(connection)
        return NmpConnection.validated(
            _base_url(connection), connection.password, _environment(extra), _link_hosts(extra)
        )

    def client(self, **options: Any) -> "NmpClient":
        """Build a client for the connection; options go to NmpClient. Raises NmpConfigurationError."""
        from include.nmp.client import NmpClient  # imports requests, which parsing a DAG file does not need

        return NmpClient(self.nmp_connection(), **options)

    def get_conn(self) -> "NmpClient":
        """Build a client, under the name that every hook has for this."""
        return self.client()

    def test_connection(self) -> tuple[bool, str]:
        """Try host and key without reserving; gives whether they work, and a sentence for a person."""
        try:
            client = self.client()
        except NmpConfigurationError as problem:
            return False, str(problem)
        try:
            return True, client.check()
        except NmpError as problem:
            return False, str(problem)
        finally:
            client.close()


def _base_url(connection: Connection) -> str:
    """Build the base URL from host, port and schema.

    Airflow puts the path of a URI into the schema. A schema of ``http`` or ``https`` is, as in Airflow's HttpHook, the
    scheme of a host that has none.
    """
    host = (connection.host or "").strip()
    schema = (connection.schema or "").strip("/")
    path = "" if schema in _SCHEMES else schema
    scheme, separator, rest = host.partition("://")
    if not separator:
        kind = schema if schema in _SCHEMES else connection.conn_type
        if not host or kind not in _SCHEMES:
            return host
        scheme, rest = kind, host
    authority, _, base = rest.partition("/")
    if authority.count(":") > 1 and not authority.startswith("["):
        authority = f"[{authority}]"  # Airflow removes the brackets of an IPv6 address
    if connection.port is not None and not authority.rpartition("]")[2].count(":"):
        authority = f"{authority}:{connection.port}"
    return "/".join(part for part in (f"{scheme}://{authority}", base.strip("/"), path) if part)


def _extra(connection: Connection) -> dict[str, Any]:
    if not connection.extra:
        return {}
    try:
        extra = json.loads(connection.extra)
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        message = (
            f"the extra of the connection {connection.conn_id} is not a JSON object: leave it empty or write {{…}}"
        )
        raise NmpConfigurationError(message)
    return extra


def _environment(extra: dict[str, Any]) -> str | None:
    environment = extra.get("environment")
    return None if environment is None else str(environment)


def _link_hosts(extra: dict[str, Any]) -> list[str]:
    hosts = extra.get("link_hosts") or []
    if isinstance(hosts, str):
        return hosts.split(",")
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        message = "link_hosts of the connection nmp is neither a list nor a string: write host names with commas"
        raise NmpConfigurationError(message)
    return hosts
