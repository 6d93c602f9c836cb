"""The load: moves what is reserved from the ledger to the published tables, where people read it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import psycopg
from psycopg.rows import dict_row

from include.sql_files import sql_of
from include.warehouse.database import Connect, SafeDatabaseError, open_session, safe_errors

sql = sql_of(__package__)
log = logging.getLogger(__name__)

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


def load_links(connect: Connect, *, business_day: date, run_id: str) -> LoadResult:
    """Publish in ``passport`` what the ledger has: new links, changed states, the days' figures; in one transaction.

    ``business_day`` is the run's own day, ``run_id`` the Airflow run. Takes every change since the last load, of
    whatever day. A second load waits for the first; readers see the tables before or after it, never
    between. Repeated, it changes nothing. An order whose passport has no well-formed link is refused by name, stays
    noted for the next load and for ``passport.needs_attention``, and stops nobody else's.

    Raises ``LoadCheckError`` when the checks before the commit fail, ``SafeDatabaseError`` when the database does; then
    nothing has changed.
    """
    with open_session(connect, application_name="passport-links load") as connection:
        for tries_left in reversed(range(LOAD_TRIES)):
            try:
                with safe_errors("The load of passport.links changed nothing"):
                    result = _load(connection, {"business_day": business_day, "run_id": run_id})
                break
            except SafeDatabaseError as error:
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
