"""Take an extraction into the ledger: one transaction, in which the rows go through a temporary table of their own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from include.ledger.leases import lapse_attempts
from include.ledger.states import UNSERVED
from include.orders import CheckedOrder
from include.sql_files import sql_of
from include.warehouse.database import Connection, read_rows

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
    connection: Connection,
    rows: Iterable[CheckedOrder],
    *,
    run_id: str,
    days_read: Sequence[date],
    pool_sizes: Mapping[str, int | None],
    began_at: datetime | None,
) -> Registered:
    """Do what ``RunLedger.register`` says, inside the transaction that is open on ``connection``."""
    run = {"run_id": run_id}
    connection.execute(sql("incoming_orders"))
    with connection.cursor() as cursor, cursor.copy(sql("copy_orders")) as copy:
        for row in rows:
            copy.write_row(row)
    connection.execute(sql("mark_duplicates"))
    connection.execute(sql("incoming_rejected"))
    tags = connection.execute(sql("incoming_tags")).fetchall()
    named = {"tags": [tag for tag, _ in tags], "pool_sizes": [pool_sizes.get(campaign) for _, campaign in tags]}
    connection.execute(sql("register_tags"), named)
    connection.execute(sql("keep_tags"), named)
    connection.execute(sql("register_orders"), run)
    _cancel_missing(connection, run, days_read, began_at)
    _save_rejected(connection, run, days_read, began_at)
    orders: dict[date, int] = dict(connection.execute(sql("incoming_days")).fetchall())
    [(rejected,)] = connection.execute(sql("count_rejected")).fetchall()
    first = read_rows(connection, RejectedRow, sql("first_rejected"), {"most": MOST_REJECTED_NAMED})
    return Registered(orders, rejected, first)


def _cancel_missing(
    connection: Connection, run: Mapping[str, str], days_read: Sequence[date], began_at: datetime | None
) -> None:
    missing = {**run, "days": list(days_read), "began_at": began_at, "unserved": UNSERVED}
    cancelled = [order_key for (order_key,) in connection.execute(sql("cancel_missing"), missing)]
    lapse_attempts(connection, cancelled)


def _save_rejected(
    connection: Connection, run: Mapping[str, str], days_read: Sequence[date], began_at: datetime | None
) -> None:
    """Write the rows that are not taken, mark those of earlier readings that are gone, and count both by day."""
    reading = {**run, "days": list(days_read), "began_at": began_at}
    connection.execute(sql("save_rejected"), reading)
    changed = [day for (day,) in connection.execute(sql("mark_gone"), reading)]
    connection.execute(sql("lock_rejected_days"))
    connection.execute(sql("count_rejected_days"), {"days": [*days_read, *changed]})
    connection.execute(sql("close_rejected_days"))
