"""Airflow's Postgres connections, without Airflow: its URI and JSON forms as one libpq URI.

Follows Airflow's "Managing Connections" (``AIRFLOW_CONN_*``: URI form, JSON form, ``__extra__``) and libpq's
"Connection URIs", so that the same environment variable serves the DAGs and the command line.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from psycopg.pq import Conninfo

LIBPQ_PARAMETERS = frozenset(option.keyword.decode() for option in Conninfo.get_defaults())
"""What may stand in a connection's extra: libpq's parameter key words."""

AIRFLOW_ONLY = frozenset(
    {
        "aws_conn_id",
        "azure_conn_id",
        "cluster-identifier",
        "cursor",
        "iam",
        "redshift",
        "redshift-serverless",
        "sqlalchemy_query",
        "sqlalchemy_scheme",
        "workgroup-name",
    }
)
"""Extras that mean something to Airflow's hook and nothing to libpq."""

_SCHEME = re.compile(r"postgres(ql)?([+_-]\w+)?", re.IGNORECASE)
_HOST = re.compile(r"(?P<host>\[[^]]*]|[^:]*)(:(?P<port>\d*))?")


class BadConnection(ValueError):  # noqa: N818 - reads as what it is
    """A connection's value that cannot be used; says which part and what to write, never the value itself."""


def postgres_uri(value: str, name: str = "the connection") -> str:
    """Return the libpq URI that an Airflow connection's ``value`` means.

    ``value`` is Airflow's URI form (``postgres://login:password@host:port/schema?sslmode=require``), its JSON form
    (``{"conn_type": "postgres", "host": …, "extra": {…}}``), or any libpq or SQLAlchemy PostgreSQL URI. ``name`` is
    what an error calls it, like ``AIRFLOW_CONN_WAREHOUSE``. Everything is percent-encoded; a socket folder goes into
    ``?host=``, where libpq and SQLAlchemy both find it; extras become query parameters.

    Raises ``BadConnection`` for a value of another kind, or with an extra that libpq does not know.
    """
    value = value.strip()
    if not value:
        message = f"{name} is empty; set it to a URI like postgresql://login:password@host:5432/database"
        raise BadConnection(message)
    return _from_json(value, name) if value.startswith("{") else _from_uri(value, name)


def _from_json(value: str, name: str) -> str:
    try:
        fields = json.loads(value)
    except json.JSONDecodeError as error:
        message = f"{name} is no valid JSON (line {error.lineno}, column {error.colno}); mend it or use the URI form"
        raise BadConnection(message) from None
    _check_kind(str(fields.get("conn_type") or ""), name)
    host = str(fields.get("host") or "")
    port = str(fields.get("port") or "")
    if port and not port.isdigit():
        message = f"{name} has a port that is no number; write it as digits, like 5432"
        raise BadConnection(message)
    return _libpq_uri(
        login=fields.get("login"),
        password=fields.get("password"),
        hosts=[(host, port)] if host or port else [],
        database=str(fields.get("schema") or ""),
        parameters=_parameters(_extra(fields.get("extra"), name), name),
    )


def _from_uri(value: str, name: str) -> str:
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = None
    # A raw /, ? or # ends the user part early: the rest of the password would pass for a database or a parameter.
    if parts is None or parts.fragment or ("@" in value and "@" not in parts.netloc):
        message = f"{name} is no valid URI; percent-encode its parts, like postgresql://login:p%40ss@host:5432/database"
        raise BadConnection(message)
    _check_kind(parts.scheme if "://" in value else "", name)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    extra = _extra(query.pop("__extra__", None), name)
    # The last @ ends the user part, as Airflow has it: a password with a raw @ is then still a password.
    user, _, host_part = parts.netloc.rpartition("@")
    login, colon, password = user.partition(":")
    return _libpq_uri(
        login=unquote(login) or None,
        password=unquote(password) if colon else None,
        hosts=[_host(part, name) for part in host_part.split(",")] if host_part else [],
        database=unquote(parts.path.removeprefix("/")),
        parameters=_parameters({**extra, **query}, name),
    )


def _check_kind(kind: str, name: str) -> None:
    if not _SCHEME.fullmatch(kind):
        # What stands before :// is a scheme by its grammar, so it is safe to repeat; without one nothing is.
        found = f"is of type {kind!r}" if kind else "names no type"
        message = (
            f"{name} {found}; it must be a PostgreSQL connection, like postgresql://login:password@host:5432/database"
        )
        raise BadConnection(message)


def _extra(extra: Any, name: str) -> dict[str, Any]:
    if not extra:
        return {}
    try:
        found = json.loads(extra) if isinstance(extra, str) else extra
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        message = f'{name} has an extra that is no JSON object; write it like {{"sslmode": "require"}}'
        raise BadConnection(message)
    return found


def _host(part: str, name: str) -> tuple[str, str]:
    match = _HOST.fullmatch(part)
    if match is None:
        message = f"{name} has a host or port that cannot be read; write host:port, and an IPv6 address in [brackets]"
        raise BadConnection(message)
    return unquote(match["host"]).strip("[]"), match["port"] or ""


def _parameters(extra: Mapping[str, Any], name: str) -> dict[str, str]:
    unknown = sorted(set(extra) - LIBPQ_PARAMETERS - AIRFLOW_ONLY)
    if unknown:
        # A misspelt sslmode that is silently dropped would be a connection without TLS.
        message = f"{name} has the extra {unknown[0]!r}, which PostgreSQL's libpq does not know; correct or remove it"
        raise BadConnection(message)
    return {key: str(extra[key]) for key in extra if key in LIBPQ_PARAMETERS and extra[key] not in (None, "")}


def _libpq_uri(
    *, login: str | None, password: str | None, hosts: list[tuple[str, str]], database: str, parameters: dict[str, str]
) -> str:
    user = "" if login is None else quote(login, safe="")
    if password is not None:
        user += ":" + quote(password, safe="")
    if any(host.startswith("/") for host, _ in hosts):
        parameters = {"host": ",".join(host for host, _ in hosts), **parameters}
        if any(port for _, port in hosts):
            parameters = {"port": ",".join(port for _, port in hosts), **parameters}
        hosts = []
    netloc = ",".join(
        (f"[{host}]" if ":" in host else quote(host, safe="")) + (f":{port}" if port else "") for host, port in hosts
    )
    query = "?" + urlencode(parameters, quote_via=quote) if parameters else ""
    return f"postgresql://{user}{'@' if user else ''}{netloc}/{quote(database, safe='')}{query}"
