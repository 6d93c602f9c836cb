"""Read the orders from the shop's database and check them, so that a bad row is named and the rest goes on.

The rows come in chunks, so that memory does not grow with the shop, and each chunk is checked column by column.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
from psycopg.rows import tuple_row

from include.campaigns import Campaigns, OnUnknown
from include.orders import CheckedOrder, ExtractionError, RejectReason

TEXT_COLUMNS = ("order_key", "order_id", "customer_ref", "product")
TIME_COLUMNS = ("ordered_at", "paid_at")
COLUMNS = (*TEXT_COLUMNS, *TIME_COLUMNS)
"""What the extraction must return, by name."""

CHUNK_ROWS = 20_000

KEY_LENGTH_LIMIT = 500
"""Characters of an order key, without blanks around it; a longer one is not taken, because no index could hold it."""

FIRST_DATED, LAST_DATED = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
"""Between these every instant has a date in every time zone."""

# Local to the transaction: how times without an offset are read, how times become text, and that all rows are wanted.
SESSION = """
select
    set_config('TimeZone', %(timezone)s, true),
    set_config('DateStyle', 'ISO, YMD', true),
    set_config('cursor_tuple_fraction', '1', true)
"""


def read_orders(
    conn: psycopg.Connection[Any],
    sql: str,
    campaigns: Campaigns,
    *,
    days: Sequence[tuple[datetime, datetime]],
    statuses: Sequence[str],
    timezone: ZoneInfo,
    carry_days: int,
    chunk_rows: int = CHUNK_ROWS,
) -> Iterator[CheckedOrder]:
    """Yield every row of the extraction, checked; see ``extract`` and ``check``."""
    row = 1
    for frame in extract(conn, sql, days=days, statuses=statuses, timezone=timezone, chunk_rows=chunk_rows):
        yield from check(typed(frame, timezone), campaigns, timezone, carry_days, first_row=row)
        row += len(frame)


def extract(
    conn: psycopg.Connection[Any],
    sql: str,
    *,
    days: Sequence[tuple[datetime, datetime]],
    statuses: Sequence[str],
    timezone: ZoneInfo,
    chunk_rows: int = CHUNK_ROWS,
) -> Iterator[pd.DataFrame]:
    """Run the extraction ``sql`` once for a set of ``days``, each its ``day_bounds``.

    ``statuses`` are the allowed ones, ``timezone`` the shop's, in which times without an offset are read. Yields the
    rows as the driver gives them, at most ``chunk_rows`` at a time, out of a cursor on the server. Raises
    ``ExtractionError`` for SQL that fails or lacks a column; losing the connection raises psycopg's
    ``OperationalError``.
    """
    parameters = {
        "starts": [start for start, _ in days],
        "ends": [end for _, end in days],
        "statuses": list(statuses),
        "timezone": timezone.key,
    }
    try:
        with conn.transaction(), conn.cursor("extraction", row_factory=tuple_row) as cursor:
            conn.execute(SESSION, parameters)
            cursor.execute(sql.encode(), parameters)
            returned = [column.name for column in cursor.description or ()]
            if lacking := [name for name in COLUMNS if returned.count(name) != 1]:
                message = (
                    f"the extraction SQL must return {', '.join(COLUMNS)}, each once; correct {', '.join(lacking)}"
                )
                raise ExtractionError(message)
            while rows := cursor.fetchmany(chunk_rows):
                # As objects: otherwise a column of whole numbers with a gap becomes floats, and order 17 becomes 17.0.
                yield pd.DataFrame(rows, columns=returned, dtype=object)
    except (psycopg.ProgrammingError, psycopg.NotSupportedError, psycopg.DataError) as error:
        problem = str(error).partition("\n")[0]
        message = f"the extraction SQL failed ({error.sqlstate or type(error).__name__}: {problem}); correct it"
        raise ExtractionError(message) from None


def typed(frame: pd.DataFrame, tz: ZoneInfo) -> pd.DataFrame:
    """Give the frame's ``COLUMNS`` one type each, whatever the database or driver gave.

    Ids, references and products become text without blanks around it. Times become datetimes in UTC; those without an
    offset are read in ``tz``. What is missing, blank or cannot be read becomes ``None``.
    """
    texts = {name: [str(value).strip() or None for value in _present(frame[name])] for name in TEXT_COLUMNS}
    times = {name: [_instant(value, tz) for value in frame[name]] for name in TIME_COLUMNS}
    return pd.DataFrame({**texts, **times}, dtype=object)


def check(
    frame: pd.DataFrame, campaigns: Campaigns, tz: ZoneInfo, carry_days: int, *, first_row: int = 1
) -> Iterator[CheckedOrder]:
    """Say of each row of ``typed`` which campaign takes it, or why none does; give the rows in their order.

    ``tz`` is the shop's time zone, ``carry_days`` as in the settings, ``first_row`` the number of the frame's first row
    in the extraction. Rows that repeat a key are not found here: the ledger finds them, over all chunks.
    """

    @cache  # once per kind of order, not once per order: a day may have 100,000
    def decide(key_fault: RejectReason | None, product: str | None, day: date | None) -> _Decision:
        return _decide(campaigns, carry_days, key_fault=key_fault, product=product, day=day)

    days = _days(frame["paid_at"], tz)
    numbers = range(first_row, first_row + len(frame))
    fields = zip(numbers, *(frame[name] for name in COLUMNS), days, strict=True)
    decisions = map(decide, map(_key_fault, frame["order_key"]), frame["product"], days)
    for known, decision in zip(fields, decisions, strict=True):
        yield CheckedOrder._make(known + decision)


class _Decision(NamedTuple):
    """The fields of a ``CheckedOrder`` that follow from its business day."""

    campaign: str | None = None
    tag: str | None = None
    on_unknown: OnUnknown | None = None
    stale_after: timedelta | None = None
    carry_until: date | None = None
    reason: RejectReason | None = None
    detail: str | None = None


_KEY_WORDS = {
    RejectReason.MISSING_KEY: "the row has no order key; give the order an id",
    RejectReason.KEY_TOO_LONG: f"its key is longer than {KEY_LENGTH_LIMIT} characters; give the order a shorter one",
}


def _key_fault(order_key: str | None) -> RejectReason | None:
    if order_key is None:
        return RejectReason.MISSING_KEY
    return RejectReason.KEY_TOO_LONG if len(order_key) > KEY_LENGTH_LIMIT else None


def _decide(
    campaigns: Campaigns, carry_days: int, *, key_fault: RejectReason | None, product: str | None, day: date | None
) -> _Decision:
    if key_fault is not None:
        return _Decision(reason=key_fault, detail=_KEY_WORDS[key_fault])
    if day is None:
        return _Decision(
            reason=RejectReason.UNPARSABLE_TIME,
            detail="its paid_at is not a time; write it like 2026-11-23T09:30:00+01:00",
        )
    campaign = campaigns.match(product, day)
    if campaign is not None:
        return _Decision(
            campaign.name,
            campaign.tag_for(day),
            campaign.on_unknown,
            campaign.stale_after,
            campaign.carry_until(carry_days),
        )
    if product is None and any(other.is_open_on(day) for other in campaigns.listed):
        return _Decision(
            reason=RejectReason.MISSING_PRODUCT,
            detail=f"it has no product, which the campaigns of {day} need; add it to the order",
        )
    return _Decision(
        reason=RejectReason.NO_CAMPAIGN,
        detail=f"no campaign takes the product {product!r} on {day}; add one if it should",
    )


def _present(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Give a blank text for what is missing: ``None``, ``NaN`` and pandas' own marks."""
    return column.where(column.notna(), "")


def _instant(value: Any, tz: ZoneInfo) -> datetime | None:
    moment: Any = value if isinstance(value, datetime) else _moment(value)
    if moment is None or moment is pd.NaT:  # NaT is a datetime too
        return None
    try:
        instant = (moment if moment.tzinfo else moment.replace(tzinfo=tz)).astimezone(UTC)
    except OverflowError:  # the first or last hours that datetime knows
        return None
    return instant if FIRST_DATED <= instant < LAST_DATED else None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    return datetime.combine(value, time()) if isinstance(value, date) else None


def _days(instants: "pd.Series[Any]", tz: ZoneInfo) -> list[date | None]:
    days = instants.astype("datetime64[us, UTC]").dt.tz_convert(tz).dt.date
    return [None if missing else day for day, missing in zip(days, days.isna(), strict=True)]
