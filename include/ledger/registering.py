"""Take an extraction into the ledger: one transaction, in which the rows go through a temporary table of their own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import class_row, tuple_row

from include.ledger.leases import lapse_attempts
from include.ledger.states import UNSERVED
from include.orders import CheckedOrder
from include.sql_files import sql_of

sql = sql_of(__package__)

MOST_REJECTED_NAMED = 50


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
    connection: psycopg.Connection[Any],
    rows: Iterable[CheckedOrder],
    *,
    run_id: str,
    days_read: Sequence[date],
    pool_sizes: Mapping[str, int | None],
    began_at: datetime | None,
) -> Registered:
    """Do what ``RunLedger.register`` says, inside the transaction that is open on ``connection``."""
    run = {"run_id": run_id}
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(sql("incoming_orders"))
        with cursor.copy(sql("copy_orders")) as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(sql("mark_duplicates"))
        cursor.execute(sql("incoming_rejected"))
        tags = cursor.execute(sql("incoming_tags")).fetchall()
        named = {"tags": [tag for tag, _ in tags], "pool_sizes": [pool_sizes.get(campaign) for _, campaign in tags]}
        cursor.execute(sql("register_tags"), named)
        cursor.execute(sql("keep_tags"), named)
        cursor.execute(sql("register_orders"), run)
        _cancel_missing(connection, run, days_read, began_at)
        cursor.execute(sql("save_rejected"), run)
        orders: dict[date, int] = dict(cursor.execute(sql("incoming_days")).fetchall())
        [(rejected,)] = cursor.execute(sql("count_rejected")).fetchall()
    with connection.cursor(row_factory=class_row(RejectedRow)) as cursor:
        first = cursor.execute(sql("first_rejected"), {"most": MOST_REJECTED_NAMED}).fetchall()
    return Registered(orders, rejected, first)


def _cancel_missing(
    connection: psycopg.Connection[Any], run: Mapping[str, str], days_read: Sequence[date], began_at: datetime | None
) -> None:
    missing = {**run, "days": list(days_read), "began_at": began_at, "unserved": UNSERVED}
    cancelled = [order_key for (order_key,) in connection.execute(sql("cancel_missing"), missing)]
    lapse_attempts(connection, cancelled)
