"""Take an extraction into the ledger: its rows are copied to temporary tables of the session, then merged in chunks.

Merging locks orders that engines may wait for, so each chunk is a short transaction. What says that the extraction was
registered is written last, in one transaction. Done again, all of it changes nothing, so a task that dies in between is
simply tried again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from include.business_day import DayBounds
from include.ledger.forgotten import adopt_links, hold_incoming
from include.ledger.leases import lapse_attempts
from include.ledger.states import UNSERVED
from include.orders import CheckedOrder
from include.sql_files import sql_of
from include.warehouse.database import Connection, read_rows
from include.warehouse.transactions import LONG_SECONDS, Kind, again_after_limit, limited_transaction
from include.warehouse.watchdog import answered_within

sql = sql_of(__package__)

MOST_REJECTED_NAMED = 50
CHUNK_ORDERS = 2000  # takes a small part of the two seconds that engines wait for a lock


class RejectedRow(NamedTuple):
    """A row that is not taken, for people: what finds it in the shop, why it is not taken and what to do about it."""

    row_key: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Registered:
    """What became of an extraction: orders taken per business day, how many rows are not, and the first of these."""

    orders: dict[date, int]
    rejected: int
    first_rejected: list[RejectedRow]


def register(
    connection: Connection,
    rows: Iterable[CheckedOrder],
    *,
    run_id: str,
    days_read: DayBounds,
    pool_sizes: Mapping[str, int | None],
    began_at: datetime | None,
) -> Registered:
    """Do what ``RunLedger.register`` says on ``connection``, whose temporary tables outlive its transactions."""
    stage(connection, rows)
    tags = _register_tags(connection, pool_sizes)
    for first_key, last_key in _chunks(connection):
        _merge(connection, {"run_id": run_id, "tags": tags, "first_key": first_key, "last_key": last_key})
    _save_rejected(connection, {"run_id": run_id, "days": list(days_read), "began_at": began_at})
    return _finish(connection, {"run_id": run_id}, days_read, began_at)


def stage(connection: Connection, rows: Iterable[CheckedOrder]) -> None:
    """Copy the rows to the session's own tables; no row of the ledger is locked meanwhile, so no transaction is needed.

    The shop's database may take as long as it wants for all rows.
    """
    with answered_within(connection, LONG_SECONDS) as renew:
        connection.execute(sql("drop_incoming"))
        connection.execute(sql("incoming_orders"))
        with connection.cursor() as cursor, cursor.copy(sql("copy_orders")) as copy:
            for row in rows:
                renew()
                copy.write_row(row)
        renew()
        connection.execute(sql("mark_duplicates"))
        connection.execute(sql("incoming_rejected"))
        connection.execute(sql("index_incoming"))


@again_after_limit
def _chunks(connection: Connection) -> list[tuple[str, str]]:
    """Give the first and the last key of each chunk of orders."""
    with limited_transaction(connection, Kind.LONG):
        return connection.execute(sql("chunks"), {"orders": CHUNK_ORDERS}).fetchall()


@again_after_limit
def _register_tags(connection: Connection, pool_sizes: Mapping[str, int | None]) -> list[str]:
    """Let every tag of the extraction have a row; give the tags."""
    with limited_transaction(connection):
        found = connection.execute(sql("incoming_tags")).fetchall()
        tags = [tag for tag, _ in found]
        sizes = [pool_sizes.get(campaign) for _, campaign in found]
        connection.execute(sql("register_tags"), {"tags": tags, "pool_sizes": sizes})
    return tags


@again_after_limit
def _merge(connection: Connection, chunk: Mapping[str, Any]) -> None:
    """Merge the orders from one key to another into the ledger."""
    with limited_transaction(connection):
        connection.execute(sql("keep_tags"), chunk)
        connection.execute(sql("register_orders"), chunk)
        hold_incoming(connection, chunk)
        adopt_links(connection)


@again_after_limit
def _save_rejected(connection: Connection, reading: Mapping[str, Any]) -> None:
    """Write the rows that are not taken, mark those of earlier readings that are gone, and count both by day."""
    with limited_transaction(connection, Kind.LONG):
        connection.execute(sql("save_rejected"), reading)
        changed = [day for (day,) in connection.execute(sql("mark_gone"), reading)]
        connection.execute(sql("lock_rejected_days"))
        connection.execute(sql("count_rejected_days"), {"days": [*reading["days"], *changed]})
        connection.execute(sql("close_rejected_days"))


@again_after_limit
def _finish(
    connection: Connection, run: Mapping[str, str], days_read: DayBounds, began_at: datetime | None
) -> Registered:
    """Cancel what is gone and write that the days were read: last, and both at once."""
    days = list(days_read)
    with limited_transaction(connection, Kind.LONG):
        _cancel_missing(connection, run, days, began_at)
        connection.execute(sql("save_days_read"), {**run, "began_at": began_at, **columns_of(days_read)})
        return staged(connection)


def staged(connection: Connection) -> Registered:
    """Say what of the rows that were copied is taken, and what is not."""
    orders: dict[date, int] = dict(connection.execute(sql("incoming_days")).fetchall())
    [(rejected,)] = connection.execute(sql("count_rejected")).fetchall()
    first = read_rows(connection, RejectedRow, sql("first_rejected"), {"most": MOST_REJECTED_NAMED})
    return Registered(orders, rejected, first)


def columns_of(days: DayBounds) -> dict[str, list[Any]]:
    """Give days and their bounds as bound parameters, one list for each column."""
    return {
        "days": list(days),
        "begins_at": [begins_at for begins_at, _ in days.values()],
        "ends_at": [ends_at for _, ends_at in days.values()],
    }


def _cancel_missing(
    connection: Connection, run: Mapping[str, str], days_read: Sequence[date], began_at: datetime | None
) -> None:
    missing = {**run, "days": list(days_read), "began_at": began_at, "unserved": UNSERVED}
    cancelled = [order_key for (order_key,) in connection.execute(sql("cancel_missing"), missing)]
    lapse_attempts(connection, cancelled)
