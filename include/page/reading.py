"""Read what the page shows from the published views, in one read-only snapshot.

The comments of the schema ``passport`` explain the views. If its login may, the page reads as ``passport_analyst``, a
role that cannot see a link. No statement names a column that holds one.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import RowFactory, class_row, scalar_row

from include.ledger.states import UNSERVED, ReservationState
from include.sql_files import sql_of
from include.warehouse.database import Connect, Connection, open_session, safe_errors

sql = sql_of(__package__)

DAYS_SHOWN = 7
TAGS_SHOWN = 50
OF_EACH_KIND = 5
ORDERS_SHOWN = 20
SECONDS_OF_A_PART = 3.0
SECONDS_IN_ALL = 10.0
"""The time limits of one part and of all parts; a part that takes longer is left out, and the page says so."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Asked:
    """What a person asks for: one business day, one campaign, an order (its key or id), or the days before one."""

    day: date | None = None
    campaign: str | None = None
    order: str | None = None
    before: date | None = None


@dataclass(frozen=True)
class FunnelRow:
    """One row of ``passport.daily_funnel``."""

    business_day: date
    campaign: str
    orders: int
    pending: int
    calling: int
    out_of_stock: int
    unknown: int
    held: int
    reserved: int
    claimed: int
    reset: int
    cancelled: int
    closed: int
    published: int
    distributed: int
    share_claimed: Decimal | None

    @property
    def by_state(self) -> dict[ReservationState, int]:
        """How many of ``orders`` are in which state; the counts add up to ``orders``."""
        counts = {state: int(getattr(self, state.value)) for state in BAR_STATES}
        return {state: count for state, count in counts.items() if count}

    @property
    def unserved(self) -> dict[ReservationState, int]:
        """How many of ``orders`` wait for a link, by state."""
        return {state: count for state, count in self.by_state.items() if state in UNSERVED}


BAR_STATES = (
    ReservationState.CLAIMED,
    ReservationState.RESERVED,
    ReservationState.RESET,
    ReservationState.CALLING,
    ReservationState.PENDING,
    ReservationState.OUT_OF_STOCK,
    ReservationState.UNKNOWN,
    ReservationState.HELD,
)
"""The states that add up to a day's orders, from the best to what waits for a person."""


@dataclass(frozen=True)
class Day:
    """One business day over all campaigns shown.

    ``loaded_at`` and ``state``, that of ``passport.days``, are None until a load has published the day.
    """

    business_day: date
    loaded_at: datetime | None
    state: str | None = None
    orders: int = 0
    published: int = 0
    by_state: dict[ReservationState, int] = field(default_factory=dict)

    @property
    def lacking(self) -> int:
        """Orders that have no link in ``passport.links``."""
        return self.orders - self.published


@dataclass(frozen=True)
class TagStock:
    """One row of ``passport.tag_stock``; ``tags`` is how many there are."""

    tag: str
    state: str
    pool_size: int | None
    remaining: int | None
    warning_level: int | None
    live: int
    claimed: int
    spares: int
    ended: int
    claimed_elsewhere: int
    unknown_calls: int
    last_empty_at: datetime | None
    claims_synced_at: datetime | None
    tags: int


@dataclass(frozen=True)
class Attention:
    """One row of ``passport.needs_attention``; ``of_kind`` is how many of its kind there are."""

    kind: str
    order_key: str | None
    tag: str | None
    row_key: str | None
    run_id: str | None
    since: datetime | None
    reason: str | None
    what_to_do: str
    of_kind: int


@dataclass(frozen=True)
class Order:
    """One row of ``passport.link_status``: the state and the times (UTC) of an order key."""

    order_key: str
    order_id: str
    product: str | None
    campaign: str
    tag: str
    business_day: date
    certificate_id: str | None
    state: str
    reason: str | None
    ordered_at: datetime | None
    reserved_at: datetime | None
    published_at: datetime | None
    distributed_at: datetime | None
    claimed_at: datetime | None
    reset_at: datetime | None
    updated_at: datetime
    run_id: str | None


@dataclass(frozen=True)
class Found:
    """What was found for an order key or id: the orders, and why they need attention."""

    orders: list[Order]
    attention: list[Attention]


@dataclass(frozen=True)
class Content:
    """All that the page shows; a part is None when it could not be read in time or was not asked for.

    ``days`` and ``funnel`` are of the newest days, or of the day asked for; ``older`` says that there are older days.
    ``campaigns`` are the names to choose from.
    """

    days: list[Day] | None
    older: bool
    funnel: list[FunnelRow] | None
    campaigns: list[str]
    tags: list[TagStock] | None
    attention: list[Attention] | None
    found: Found | None

    @property
    def is_empty(self) -> bool:
        """Whether the warehouse has no day, no tag and nothing that needs attention."""
        return self.days == [] and self.tags == [] and self.attention == []


def read_content(connect: Connect, asked: Asked) -> Content:
    """Read what ``asked`` wants from the warehouse that ``connect`` opens, within about ``SECONDS_IN_ALL`` seconds.

    Raises ``SafeDatabaseError`` (safe to show) when the warehouse cannot be reached or lacks the schema.
    """
    with (
        open_session(connect, application_name="passport-links page") as connection,
        safe_errors("The page cannot be read"),
    ):
        connection.read_only = True
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.execute(sql("as_analyst"))
        reader = _Reader(connection)
        found = _find(reader, asked.order) if asked.order else None
        dates = _dates(reader, asked)
        shown = dates and dates[:DAYS_SHOWN]
        funnel = reader.rows(class_row(FunnelRow), "funnel", {"days": shown}) if shown else []
        if shown is None or funnel is None:
            days = wanted = None
        else:
            wanted = [row for row in funnel if asked.campaign in (None, row.campaign)]
            days = summed(shown, wanted, _loads(reader, shown))
        return Content(
            days=days,
            older=dates is not None and len(dates) > DAYS_SHOWN,
            funnel=wanted,
            campaigns=sorted({row.campaign for row in funnel or []} | ({asked.campaign} if asked.campaign else set())),
            attention=reader.rows(
                class_row(Attention), "attention", {"day": asked.day, "campaign": asked.campaign, "rows": OF_EACH_KIND}
            ),
            tags=reader.rows(class_row(TagStock), "tag_stock", {"rows": TAGS_SHOWN}),
            found=found,
        )


@dataclass(frozen=True)
class Load:
    """What the newest load says of a day, and when a load last changed it."""

    business_day: date
    updated_at: datetime
    state: str


def summed(dates: Sequence[date], funnel: Iterable[FunnelRow], loads: Mapping[date, Load]) -> list[Day]:
    """Sum the funnel's rows by day, for ``dates`` in this order; ``loads`` has what loads say of them."""
    rows: dict[date, list[FunnelRow]] = {day: [] for day in dates}
    for row in funnel:
        rows[row.business_day].append(row)
    return [
        Day(
            business_day=day,
            loaded_at=loads[day].updated_at if day in loads else None,
            state=loads[day].state if day in loads else None,
            orders=sum(row.orders for row in of_day),
            published=sum(row.published for row in of_day),
            by_state={
                state: count for state in BAR_STATES if (count := sum(row.by_state.get(state, 0) for row in of_day))
            },
        )
        for day, of_day in rows.items()
    ]


class _Reader:
    """Reads parts of one snapshot until the time is over."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + SECONDS_IN_ALL

    def rows(self, factory: RowFactory[Row], name: str, parameters: Mapping[str, Any]) -> list[Row] | None:
        """Return the rows of one statement, or None when it takes too long."""
        seconds = min(SECONDS_OF_A_PART, self._deadline - time.monotonic())
        try:
            with self._connection.transaction(), self._connection.cursor(row_factory=factory) as cursor:
                # A rollback to the savepoint also resets the limit.
                cursor.execute(sql("limit_time"), {"milliseconds": max(int(seconds * 1000), 1)})
                return cursor.execute(sql(name), parameters).fetchall()
        except psycopg.errors.QueryCanceled:
            return None


def _dates(reader: _Reader, asked: Asked) -> list[date] | None:
    """Return the business days to show, and one more if there are older ones; None when that takes too long."""
    if asked.day:
        return [asked.day]
    wanted = {"before": asked.before, "campaign": asked.campaign, "rows": DAYS_SHOWN + 1}
    return reader.rows(scalar_row, "newest_days", wanted)


def _loads(reader: _Reader, days: Sequence[date]) -> dict[date, Load]:
    rows = reader.rows(class_row(Load), "published_days", {"days": days}) if days else []
    return {row.business_day: row for row in rows or []}


def _find(reader: _Reader, wanted: str) -> Found | None:
    """Return the order with this key, else the orders with this order id; None when that takes too long."""
    orders = _orders(reader, order_key=wanted)
    if orders == []:
        orders = _orders(reader, order_id=wanted)
    if orders is None:
        return None
    keys = [order.order_key for order in orders] or [wanted]
    attention = reader.rows(class_row(Attention), "order_attention", {"keys": keys, "rows": ORDERS_SHOWN})
    return None if attention is None else Found(orders, attention)


def _orders(reader: _Reader, *, order_key: str | None = None, order_id: str | None = None) -> list[Order] | None:
    return reader.rows(class_row(Order), "orders", {"order_key": order_key, "order_id": order_id, "rows": ORDERS_SHOWN})
