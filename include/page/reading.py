"""What the page shows, read from the published views in one read-only snapshot.

Follows the comments of the schema ``passport``. The page reads as ``passport_analyst`` where it may, a role that cannot
see a link; no statement names a column that holds one.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import class_row

from include.ledger.states import UNSERVED, ReservationState
from include.sql_files import sql_of
from include.warehouse.database import Connect, open_session, safe_errors

sql = sql_of(__package__)

DAYS_SHOWN = 7
TAGS_SHOWN = 50
OF_EACH_KIND = 5
ORDERS_SHOWN = 20
SECONDS_OF_A_PART = 3.0
SECONDS_IN_ALL = 10.0
"""What a part, and all of them, may take; a part that would take longer is left out, and the page says so."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Asked:
    """What a reader asked for: one business day, one campaign, an order (its key or id), or the days before one."""

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
        """How many of ``orders`` stand in which state; together they are ``orders``."""
        counts = {state: int(getattr(self, state.value)) for state in BAR_STATES}
        return {state: count for state, count in counts.items() if count}

    @property
    def unserved(self) -> dict[ReservationState, int]:
        """Those of them that wait for a link, by state."""
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
    """One business day over all campaigns shown; ``loaded_at`` is null until a load has published the day."""

    business_day: date
    loaded_at: datetime | None
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
    """One row of ``passport.link_status``: where an order key stands; times are in UTC."""

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
    """What a look for one order brought: its keys, and what is the matter with them."""

    orders: list[Order]
    attention: list[Attention]


@dataclass(frozen=True)
class Content:
    """All that the page shows; a part is ``None`` where it could not be read in time, or was not asked for.

    ``days`` and ``funnel`` are of the newest days, or of the day asked for; ``older`` says that there are more days.
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
        """Whether nothing at all has happened yet."""
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
        funnel = reader.rows(FunnelRow, "funnel", {"days": shown}) if shown else []
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
                Attention, "attention", {"day": asked.day, "campaign": asked.campaign, "rows": OF_EACH_KIND}
            ),
            tags=reader.rows(TagStock, "tag_stock", {"rows": TAGS_SHOWN}),
            found=found,
        )


def summed(dates: Sequence[date], funnel: Iterable[FunnelRow], loads: Mapping[date, datetime]) -> list[Day]:
    """Sum the funnel's rows by day, for ``dates`` in their order; ``loads`` says when a load last changed a day."""
    rows: dict[date, list[FunnelRow]] = {day: [] for day in dates}
    for row in funnel:
        rows[row.business_day].append(row)
    return [
        Day(
            business_day=day,
            loaded_at=loads.get(day),
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

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + SECONDS_IN_ALL

    def rows(self, kind: type[Row], name: str, parameters: Mapping[str, Any]) -> list[Row] | None:
        """The rows of one statement, or ``None`` where it took too long."""
        seconds = min(SECONDS_OF_A_PART, self._deadline - time.monotonic())
        try:
            with self._connection.transaction(), self._connection.cursor(row_factory=class_row(kind)) as cursor:
                # A rolled back savepoint takes the limit back, too.
                cursor.execute(sql("limit_time"), {"milliseconds": max(int(seconds * 1000), 1)})
                return cursor.execute(sql(name), parameters).fetchall()
        except psycopg.errors.QueryCanceled:
            return None


@dataclass(frozen=True)
class _Date:
    business_day: date


@dataclass(frozen=True)
class _Load:
    business_day: date
    updated_at: datetime


def _dates(reader: _Reader, asked: Asked) -> list[date] | None:
    """The business days to show and, to know whether there are more, one more."""
    if asked.day:
        return [asked.day]
    rows = reader.rows(
        _Date, "newest_days", {"before": asked.before, "campaign": asked.campaign, "rows": DAYS_SHOWN + 1}
    )
    return None if rows is None else [row.business_day for row in rows]


def _loads(reader: _Reader, days: Sequence[date]) -> dict[date, datetime]:
    rows = reader.rows(_Load, "published_days", {"days": days}) if days else []
    return {row.business_day: row.updated_at for row in rows or []}


def _find(reader: _Reader, wanted: str) -> Found | None:
    """The orders with this key, else with this order id: an id may have a key per item and is not indexed."""
    orders: list[Order] | None = []
    for name in ("orders_by_key", "orders_by_id"):
        orders = reader.rows(Order, name, {"wanted": wanted, "rows": ORDERS_SHOWN})
        if orders is None or orders:
            break
    if orders is None:
        return None
    keys = [order.order_key for order in orders] or [wanted]
    attention = reader.rows(Attention, "order_attention", {"keys": keys, "rows": ORDERS_SHOWN})
    return None if attention is None else Found(orders, attention)
