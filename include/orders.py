"""Orders: read from the shop's database, then checked, so that a bad row is named and the rest goes on."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
from psycopg.rows import tuple_row

from include.campaigns import Campaign, Campaigns, OnUnknown

TEXT_COLUMNS = ("order_key", "order_id", "customer_ref", "product")
TIME_COLUMNS = ("ordered_at", "paid_at")
COLUMNS = (*TEXT_COLUMNS, *TIME_COLUMNS)
"""What the extraction must return, by name."""


class ExtractionError(ValueError):
    """The extraction SQL cannot be used as it stands."""


class RejectReason(StrEnum):
    """Why a row of the extraction is not served."""

    MISSING_KEY = "missing_key"
    UNPARSABLE_TIME = "unparsable_time"
    DUPLICATE_KEY = "duplicate_key"
    MISSING_PRODUCT = "missing_product"
    NO_CAMPAIGN = "no_campaign"


@dataclass(frozen=True)
class RejectedRow:
    """A row that is not served, for people: where it is, why, and what to do about it."""

    order_key: str | None
    row: str
    reason: RejectReason
    detail: str
    business_day: date | None


@dataclass(frozen=True)
class EligibleOrder:
    """An order that gets a passport. Times are in UTC, days in the shop's time zone."""

    order_key: str
    order_id: str
    customer_ref: str | None
    product: str | None
    ordered_at: datetime | None
    paid_at: datetime
    business_day: date
    campaign: str
    tag: str
    on_unknown: OnUnknown
    stale_after: timedelta
    carry_until: date | None


@dataclass(frozen=True)
class CheckedOrders:
    """Every row of an extraction: served, rejected, or (its key only) of a campaign that this run leaves out."""

    orders: list[EligibleOrder]
    rejected: list[RejectedRow]
    left_out: list[str]


def extract(
    conn: psycopg.Connection[Any],
    sql: str,
    *,
    days: Sequence[tuple[datetime, datetime]],
    statuses: Sequence[str],
    timezone: ZoneInfo,
) -> pd.DataFrame:
    """Run the extraction ``sql`` once for a set of ``days``, each its ``day_bounds``.

    ``statuses`` are the allowed ones, ``timezone`` the shop's, in which times without an offset are read. Gives the
    rows as ``typed`` does. Raises ``ExtractionError`` for SQL that fails or lacks a column; losing the connection
    raises psycopg's ``OperationalError``.
    """
    parameters = {
        "starts": [start for start, _ in days],
        "ends": [end for _, end in days],
        "statuses": list(statuses),
        "timezone": timezone.key,
    }
    try:
        with conn.transaction(), conn.cursor(row_factory=tuple_row) as cursor:
            # Local to this transaction: how times without an offset are read, and how timestamps become text.
            cursor.execute(
                "select set_config('TimeZone', %(timezone)s, true), set_config('DateStyle', 'ISO, YMD', true)",
                parameters,
            )
            cursor.execute(sql.encode(), parameters)
            rows = cursor.fetchall()
            returned = [column.name for column in cursor.description or ()]
    except (psycopg.ProgrammingError, psycopg.DataError) as error:
        problem = str(error).partition("\n")[0]
        message = f"the extraction SQL failed ({error.sqlstate or type(error).__name__}: {problem}); correct it"
        raise ExtractionError(message) from None
    if lacking := [name for name in COLUMNS if returned.count(name) != 1]:
        message = f"the extraction SQL must return {', '.join(COLUMNS)}, each once; correct {', '.join(lacking)}"
        raise ExtractionError(message)
    # As objects: otherwise a column of whole numbers with a gap becomes floats, and order 17 becomes 17.0.
    return typed(pd.DataFrame(rows, columns=returned, dtype=object), timezone)


def typed(frame: pd.DataFrame, tz: ZoneInfo) -> pd.DataFrame:
    """Give the frame's ``COLUMNS`` one type each, whatever the database or driver gave.

    Ids, references and products become ``string`` without blanks around them, blank ones missing; times become
    ``datetime64[us, UTC]``, unreadable ones missing, times without an offset read in ``tz``.
    """
    texts = {name: pd.array([_text(value) for value in frame[name]], dtype="string") for name in TEXT_COLUMNS}
    times = {
        name: pd.array([_instant(v, tz) for v in frame[name]], dtype="datetime64[us, UTC]") for name in TIME_COLUMNS
    }
    return pd.DataFrame({**texts, **times})


def check(frame: pd.DataFrame, campaigns: Campaigns, tz: ZoneInfo, carry_days: int) -> CheckedOrders:
    """Sort the rows of ``extract`` into orders to serve and rows to report, both by paid_at, product and key.

    A row without key or readable paid_at is reported. Of several rows with one key the first by paid_at, then product,
    is the order, the others are reported. An order that no campaign wants on its business day in ``tz`` is reported.
    """
    rows = frame.assign(position=range(1, len(frame) + 1)).sort_values(
        ["paid_at", "product", "order_key", "position"], na_position="last", ignore_index=True
    )
    rows["business_day"] = rows["paid_at"].dt.tz_convert(tz).dt.date
    no_key, no_time = rows["order_key"].isna(), rows["paid_at"].isna()
    usable = rows[~no_key & ~no_time]
    repeated = usable["order_key"].duplicated()
    served, rejected, left_out = _match(usable[~repeated], campaigns, carry_days)

    def rejects(selected: pd.DataFrame, reason: RejectReason) -> list[RejectedRow]:
        return [_rejected(row, reason) for row in _records(selected)]

    return CheckedOrders(
        orders=served,
        rejected=[
            *rejects(rows[no_key], RejectReason.MISSING_KEY),
            *rejects(rows[~no_key & no_time], RejectReason.UNPARSABLE_TIME),
            *rejects(usable[repeated], RejectReason.DUPLICATE_KEY),
            *rejected,
        ],
        left_out=left_out,
    )


Record = dict[Hashable, Any]


def _match(
    rows: pd.DataFrame, campaigns: Campaigns, carry_days: int
) -> tuple[list[EligibleOrder], list[RejectedRow], list[str]]:
    """Ask the campaigns once per product and day, not once per order: a day may have 100,000."""
    found: dict[tuple[str | None, date], Campaign | None] = {}
    served, rejected, left_out = [], [], []
    for row in _records(rows):
        product, day = row["product"], row["business_day"]
        if (product, day) not in found:
            found[product, day] = campaigns.match(product, day)
        campaign = found[product, day]
        if campaign is None:
            lacks_product = product is None and any(other.is_open_on(day) for other in campaigns.listed)
            reason = RejectReason.MISSING_PRODUCT if lacks_product else RejectReason.NO_CAMPAIGN
            rejected.append(_rejected(row, reason))
        elif campaigns.serves(campaign):
            served.append(_eligible(row, campaign, campaigns, carry_days))
        else:
            left_out.append(row["order_key"])
    return served, rejected, left_out


def _eligible(row: Record, campaign: Campaign, campaigns: Campaigns, carry_days: int) -> EligibleOrder:
    return EligibleOrder(
        order_key=row["order_key"],
        order_id=row["order_id"] or row["order_key"],
        customer_ref=row["customer_ref"],
        product=row["product"],
        ordered_at=row["ordered_at"],
        paid_at=row["paid_at"],
        business_day=row["business_day"],
        campaign=campaign.name,
        tag=campaigns.tag_for(campaign, row["business_day"]),
        on_unknown=campaign.on_unknown,
        stale_after=campaign.stale_after,
        carry_until=campaigns.carry_until(campaign, carry_days),
    )


def _rejected(row: Record, reason: RejectReason) -> RejectedRow:
    key, product, day, paid_at = row["order_key"], row["product"], row["business_day"], row["paid_at"]
    detail = {
        RejectReason.MISSING_KEY: "the row has no order key; give the order an id",
        RejectReason.UNPARSABLE_TIME: "its paid_at is not a time; write it like 2026-11-23T09:30:00+01:00",
        RejectReason.DUPLICATE_KEY: f"an earlier row has the key {key!r} too and is served; give each order one row",
        RejectReason.MISSING_PRODUCT: f"it has no product, which the campaigns of {day} need; add it to the order",
        RejectReason.NO_CAMPAIGN: f"no campaign takes the product {product!r} on {day}; add one if it should",
    }[reason]
    found_by = f"order_id {row['order_id']}" if row["order_id"] else f"row {row['position']} of the extraction"
    if paid_at is not None:
        found_by += f", paid at {paid_at.isoformat()}"
    return RejectedRow(key, found_by, reason, detail, None if paid_at is None else day)


def _records(rows: pd.DataFrame) -> list[Record]:
    """Plain Python rows: ``None`` for what is missing, ``datetime`` for times."""
    columns = {}
    for name in rows:
        column = rows[name]
        values = column.dt.to_pydatetime() if name in TIME_COLUMNS else column
        columns[name] = [None if missing else value for value, missing in zip(values, column.isna(), strict=True)]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value).strip() or None


def _instant(value: Any, tz: ZoneInfo) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if value is pd.NaT:
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        return None
    try:
        return (value if value.tzinfo else value.replace(tzinfo=tz)).astimezone(UTC)
    except OverflowError:  # the first or last hours that datetime knows
        return None
