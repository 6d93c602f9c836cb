"""Publish links: move what is reserved from the ledger to the published tables, where people read it."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from psycopg.rows import scalar_row

from include.sql_files import sql_of
from include.warehouse.database import Connect, Connection, SafeDatabaseError, open_session, read_rows, safe_errors
from include.warehouse.transactions import TAKEN_BACK, Kind, limited_transaction

sql = sql_of(__package__)
log = logging.getLogger(__name__)

LOAD_TRIES = 5  # a load starts again when somebody marked one of its rows as distributed in the meantime
LOAD_WAIT_SECONDS = 300.0  # how long a load waits for others; each wait for a lock is short, so that none wait in a row
SERIALIZATION_FAILURE = "40001"


class LoadCheckError(Exception):
    """A load was rolled back, because what it would have published is wrong; names order keys, never links."""


class DayState(StrEnum):
    """What ``passport.days`` says of a day."""

    COMPLETE = "complete"  # read after its end, and no order lacks its link
    LACKING = "lacking"  # read after its end
    OPEN = "open"  # it has not ended, or the run that closes it is due
    UNREAD = "unread"  # it has ended, and no extraction of it was registered since


READ_WHOLE = (DayState.COMPLETE, DayState.LACKING)


@dataclass(frozen=True)
class PublishedDay:
    """One business day in ``passport.days``; ``lacking_by_state`` counts the orders without a link by their state.

    ``changed`` says whether this load changed its row.
    """

    business_day: date
    state: str
    orders: int
    published: int
    lacking: int
    lacking_by_state: dict[str, int] = field(default_factory=dict)
    changed: bool = True


@dataclass(frozen=True)
class LoadResult:
    """What a load did: keys and counts only, so that it may cross task borders.

    ``published_now`` counts orders that are new in ``passport.links``, ``updated`` those whose row changed. ``refused``
    has the keys of orders whose passport has no well-formed link. ``days`` are the days that the run closes and every
    other day that was counted again.
    """

    published_now: int
    updated: int
    refused: list[str]
    days: list[PublishedDay]

    @property
    def has_news(self) -> bool:
        """Whether readers find something new: a link, a changed row, or other figures of a day that was read whole."""
        return bool(self.published_now or self.updated) or any(
            day.changed and day.state in READ_WHOLE for day in self.days
        )


def load_links(connect: Connect, *, run_id: str, closes: Sequence[date] = ()) -> LoadResult:
    """Publish what changed in the ledger since the last load, of any day, in one transaction.

    That is new links, changed states and the figures of each day of the calendar. ``run_id`` is the Airflow run.
    ``closes`` are the days that the run closes: they are published even if no extraction of them was registered, as
    unread.

    A second load waits for the first. Readers see the tables from before or after it, nothing in between. Repeated, it
    changes nothing. An order whose passport has no well-formed link is not published: it is named in ``refused`` and in
    ``passport.needs_attention``, the next load tries it again, and all other orders are published.

    Raises ``LoadCheckError`` when the checks before the commit fail, ``SafeDatabaseError`` when the database fails.
    Then nothing has changed.
    """
    with open_session(connect, autocommit=True, application_name="passport-links load") as connection:
        result = _load_in_turn(connection, closes, run_id)
    log.info("published %d new links, updated %d", result.published_now, result.updated)
    if result.refused:
        named = ", ".join(result.refused[:10])
        log.warning("%d orders have no well-formed link and were not published: %s", len(result.refused), named)
    return result


@dataclass(frozen=True)
class _Counts:
    published_now: int
    updated: int


@dataclass(frozen=True)
class _Fault:
    """What is wrong, with how many orders, and the first of their keys."""

    fault: str
    orders: int
    order_keys: list[str]

    def __str__(self) -> str:
        return f"{self.orders} {self.fault} ({', '.join(self.order_keys)})"


def _load_in_turn(connection: Connection, closes: Sequence[date], run_id: str) -> LoadResult:
    """Load once no other load is under way; again where a sender wrote meanwhile."""
    until = time.monotonic() + LOAD_WAIT_SECONDS
    tries = 0
    while True:
        try:
            with safe_errors("The load of passport.links changed nothing"):
                return _load(connection, closes, run_id)
        except SafeDatabaseError as error:
            tries += error.sqlstate == SERIALIZATION_FAILURE
            waits = error.sqlstate in TAKEN_BACK and time.monotonic() < until
            if not waits and (error.sqlstate != SERIALIZATION_FAILURE or tries == LOAD_TRIES):
                raise


def _load(connection: Connection, closes: Sequence[date], run_id: str) -> LoadResult:
    values = connection.cursor(row_factory=scalar_row)
    # One snapshot for all statements: the ledger goes on while the load reads it.
    with limited_transaction(connection, Kind.SNAPSHOT):
        connection.execute(sql("serialise_loads"))
        [retired] = values.execute(sql("retire_links"), {"run_id": run_id})
        [counts] = read_rows(connection, _Counts, sql("publish_links"), {"run_id": run_id})
        refused: list[str] = values.execute(sql("refused_links")).fetchall()
        counted = read_rows(connection, PublishedDay, sql("publish_days"), {"closes": list(closes), "run_id": run_id})
        _check(read_rows(connection, _Fault, sql("check_load"), {"refused": refused}))
        connection.execute(sql("forget_published"), {"refused": refused})
        connection.execute(sql("keep_refused"), {"refused": refused})
    return LoadResult(counts.published_now, counts.updated + retired, refused, counted)


def _check(faults: Sequence[_Fault]) -> None:
    if faults:
        found = "; ".join(map(str, faults))
        message = f"The load of passport.links was rolled back and changed nothing. Orders {found}"
        raise LoadCheckError(message)
