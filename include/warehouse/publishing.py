"""The published tables: their schema, and the load that moves what is reserved from the ledger to where people read.

``python -m include.warehouse.publishing migrate`` brings the database of ``AIRFLOW_CONN_WAREHOUSE`` up to date.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg.rows import dict_row
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from include.connections import BadConnection, postgres_uri
from include.sql_files import sql_of
from include.warehouse.database import DatabaseTrouble, connect, place, safe_errors, trouble
from include.warehouse.migrations import FOLDER as MIGRATIONS
from include.warehouse.migrations import GRANTS

sql = sql_of(__package__)
log = logging.getLogger(__name__)

MIGRATION_LOCK = 0x70617373706F7274  # "passport": two migrations of one database wait for each other
LOAD_TRIES = 5  # a load starts over when a sender marked one of its rows as distributed meanwhile
SERIALIZATION_FAILURE = "40001"


class LoadCheckError(Exception):
    """A load was taken back whole, because what it would have published is not right; names order keys, never links."""


@dataclass(frozen=True)
class PublishedDay:
    """One business day in ``passport.days``; ``lacking_by_state`` is by state of the ledger."""

    business_day: date
    complete: bool
    orders: int
    published: int
    lacking: int
    lacking_by_state: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadResult:
    """What a load did: keys and counts only, so that it may cross task borders.

    ``published_now`` are orders new in ``passport.links``, ``updated`` those whose row changed, ``refused`` the keys of
    orders whose passport has no link that could be published, ``days`` the run's own day and every day looked at again.
    """

    published_now: int
    updated: int
    refused: list[str]
    days: list[PublishedDay]


def migrate(uri: str) -> None:
    """Bring the warehouse at ``uri`` (libpq URI, or Airflow's URI or JSON form) up to date, in one transaction.

    Safe to run again, and to run from two processes at once: the second waits, then finds nothing to do.
    Raises ``DatabaseTrouble`` in one sentence when the database cannot be reached or its role may not create schemas.
    """
    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(uri), poolclass=NullPool)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    try:
        with engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _grant(connection)
    except (DBAPIError, psycopg.Error) as error:
        raise _not_migrated(error, uri) from None


def check_warehouse(uri: str) -> str:
    """Whether the warehouse at ``uri`` is migrated and its role may write; one sentence, nothing is changed.

    Raises ``DatabaseTrouble`` with the next step where something is missing.
    """
    newest = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    try:
        with connect(uri) as connection, connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(sql("check_rights"))
            row: dict[str, Any] = cursor.fetchone() or {}
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise trouble(error, f"{place(uri)} was never migrated; run `make migrate`") from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise trouble(error, f"The role may not read the ledger in {place(uri)}; grant it passport_pipeline") from None
    if row["version"] != newest:
        message = f"{place(uri)} is at version {row['version']}, the project at {newest}; run `make migrate`"
        raise DatabaseTrouble(message, sqlstate=None, constraint=None, transient=False)
    if not row["may_write"]:
        message = f"The role may not write the ledger in {place(uri)}; grant it passport_pipeline"
        raise DatabaseTrouble(message, sqlstate="42501", constraint=None, transient=False)
    return f"{place(uri)}: migrated to {newest}, may be written"


def _grant(connection: Connection) -> None:
    raw: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    raw.add_notice_handler(lambda notice: log.warning("%s: %s", notice.severity, notice.message_primary))
    raw.execute(GRANTS.read_bytes())


def _not_migrated(error: DBAPIError | psycopg.Error, uri: str) -> DatabaseTrouble:
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        raise cause or error
    if cause.sqlstate == "42501":
        doing = f"The role may not migrate {place(uri)}; grant it CREATE on the database, or migrate as the owner"
    else:
        doing = f"The migration of {place(uri)} failed and changed nothing"
    return trouble(cause, doing)


def load_links(uri: str, *, business_day: date, run_id: str) -> LoadResult:
    """Publish in ``passport`` what the ledger has: new links, changed states, the days' figures; in one transaction.

    ``uri`` is the warehouse, ``business_day`` the run's own day, ``run_id`` the Airflow run. Takes every change since
    the last load, of whatever day. A second load waits for the first; readers see the tables before or after it, never
    between. Repeated, it changes nothing. An order whose passport has no well-formed link is refused by name, stays
    noted for the next load and for ``passport.needs_attention``, and stops nobody else's.

    Raises ``LoadCheckError`` when the checks before the commit fail, ``DatabaseTrouble`` when the database does; then
    nothing has changed.
    """
    with connect(uri, application_name="passport-links load") as connection:
        for tries_left in reversed(range(LOAD_TRIES)):
            try:
                with safe_errors("The load of passport.links changed nothing"):
                    result = _load(connection, {"business_day": business_day, "run_id": run_id})
                break
            except DatabaseTrouble as error:
                if error.sqlstate != SERIALIZATION_FAILURE or not tries_left:
                    raise
    log.info("published %d new links, updated %d", result.published_now, result.updated)
    if result.refused:
        named = ", ".join(result.refused[:10])
        log.warning("%d orders have no well-formed link and were not published: %s", len(result.refused), named)
    return result


def _load(connection: psycopg.Connection[Any], run: dict[str, Any]) -> LoadResult:
    # One snapshot for all statements: the ledger goes on while the load reads it.
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(sql("serialise_loads"))
        retired = _one(cursor.execute(sql("retire_links"), run))["retired"]
        published = _one(cursor.execute(sql("publish_links"), run))
        refused = [row["order_key"] for row in cursor.execute(sql("refused_links"))]
        days = [PublishedDay(**row) for row in cursor.execute(sql("publish_days"), run)]
        _check(cursor.execute(sql("check_load"), {"refused": refused}).fetchall())
        cursor.execute(sql("forget_published"), {"refused": refused})
        cursor.execute(sql("keep_refused"), {"refused": refused})
    return LoadResult(
        published_now=published["published_now"], updated=published["updated"] + retired, refused=refused, days=days
    )


def _one(cursor: psycopg.Cursor[dict[str, Any]]) -> dict[str, Any]:
    row = cursor.fetchone()
    assert row is not None, "an aggregate gives one row"  # noqa: S101
    return row


def _check(faults: Sequence[dict[str, Any]]) -> None:
    if faults:
        found = "; ".join(f"{row['orders']} {row['fault']} ({', '.join(row['order_keys'])})" for row in faults)
        message = f"The load of passport.links was taken back and changed nothing. Orders {found}"
        raise LoadCheckError(message)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, or 1 after one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="make migrate", description="The passport warehouse.")
    parser.add_argument("action", choices=["migrate"], help="bring the database of AIRFLOW_CONN_WAREHOUSE up to date")
    parser.parse_args(arguments)
    try:
        uri = postgres_uri(os.environ.get("AIRFLOW_CONN_WAREHOUSE", ""), "AIRFLOW_CONN_WAREHOUSE")
        migrate(uri)
    except (BadConnection, DatabaseTrouble) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"Migrated {place(uri)}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
