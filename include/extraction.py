"""Read the orders from the shop's database and check them, so that a bad row is named and the rest goes on.

The rows come in chunks, so that memory does not grow with the shop, and each chunk is checked column by column.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.rows import tuple_row
from psycopg.types.string import TextLoader

from include.campaigns import Campaigns, OnUnknown
from include.orders import CheckedOrder, ExtractionError, RejectReason

TEXT_COLUMNS = ("order_key", "order_id", "customer_ref", "product")
TIME_COLUMNS = ("ordered_at", "paid_at")
COLUMNS = (*TEXT_COLUMNS, *TIME_COLUMNS)
"""What the extraction must return, by name."""

CHUNK_ROWS = 20_000

LENGTH_LIMITS = {name: 500 if name == "order_key" else 10_000 for name in TEXT_COLUMNS}
"""Characters of a text, without blanks around it; a longer one is not taken. No index could hold a longer order key."""

TEXT_TYPES = (str, int, float, Decimal, UUID, date)
"""What the driver may give for a text; ``bool`` is an ``int``, ``datetime`` a ``date``."""

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
            _load_carefully(cursor)
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


class _CarefulLoader(Loader):
    """Loads a value as the driver does or, where the driver cannot, as the text that the database sent.

    The driver fails on times such as infinity and the year 10000, and on text that is not of the database's encoding;
    one such value must not fail the others. Bytes that are no text become lone surrogates, which ``typed`` finds.
    """

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        known = psycopg.adapters.get_loader(oid, self.format) or TextLoader
        self._driver = known(oid, context)

    def load(self, data: Buffer) -> Any:
        """Load one value that is not null."""
        try:
            value = self._driver.load(data)
        except (psycopg.DataError, ValueError, OverflowError):
            value = bytes(data)
        # A database without an encoding (SQL_ASCII) gives bytes for every text.
        return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


LOADED_BY_THE_DRIVER = frozenset(
    {"int2", "int4", "int8", "oid", "float4", "float8", "numeric", "bool", "uuid", "bytea"}
)
"""Types of which the driver loads every value."""

ANY_OTHER_TYPE = 0
"""What the driver looks up for a type that it does not know."""


def _load_carefully(cursor: psycopg.ServerCursor[Any]) -> None:
    for known in psycopg.adapters.types:
        if known.name not in LOADED_BY_THE_DRIVER:
            cursor.adapters.register_loader(known.oid, _CarefulLoader)
            cursor.adapters.register_loader(known.array_oid, _CarefulLoader)
    cursor.adapters.register_loader(ANY_OTHER_TYPE, _CarefulLoader)


class Fault(NamedTuple):
    """Why a row cannot be taken whatever the campaigns are, and what to do about it."""

    reason: RejectReason
    detail: str


def typed(frame: pd.DataFrame, tz: ZoneInfo) -> pd.DataFrame:
    """Give the frame's ``COLUMNS`` one type each, whatever the database or driver gave, and a column ``fault``.

    Ids, references and products become text without blanks around it. Times become datetimes in UTC; those without an
    offset are read in ``tz``. What is missing, blank or cannot be read becomes ``None``, and so does a text that the
    ledger's database would refuse: ``fault`` says of its row which one and why. Otherwise ``fault`` is ``None``.
    """
    faults: list[Fault | None] = [None] * len(frame)
    texts = {name: _texts(name, frame[name], faults) for name in TEXT_COLUMNS}
    times = {name: [_instant(value, tz) for value in frame[name]] for name in TIME_COLUMNS}
    return pd.DataFrame({**texts, **times, "fault": faults}, dtype=object)


def _texts(name: str, values: Iterable[Any], faults: list[Fault | None]) -> list[str | None]:
    """Give a column's texts; each one that cannot be used is ``None``, and ``faults`` gets its row's first fault."""
    texts: list[str | None] = []
    limit = LENGTH_LIMITS[name]
    for place, value in enumerate(values):
        text = value.strip() if isinstance(value, str) else _as_text(value)
        if text is None or "\0" in text or (not text.isascii() and _is_broken(text)):
            faults[place] = faults[place] or _invalid(name, value)
            text = None
        elif len(text) > limit:
            detail = f"its {name} is longer than {limit} characters{_beginning(name, text)}; give it a shorter one"
            faults[place] = faults[place] or Fault(RejectReason.VALUE_TOO_LONG, detail)
            text = None
        elif not text and name == "order_key":
            faults[place] = Fault(RejectReason.MISSING_KEY, "the row has no order key; give the order an id")
        texts.append(text or None)
    return texts


def _as_text(value: Any) -> str | None:
    """Give the text of a value that is none itself, blank for one that is missing; ``None`` if it cannot be a text."""
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if not isinstance(value, TEXT_TYPES):
        return None
    if isinstance(value, float | Decimal) and not (number := Decimal(value)).is_finite():
        return "" if number.is_nan() else None
    try:
        return str(value).strip()
    except ValueError:  # a whole number of thousands of digits
        return None


def _is_broken(text: str) -> bool:
    """Say whether a text holds half a character, so that it has no bytes in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _invalid(name: str, value: Any) -> Fault:
    if isinstance(value, str):
        wrong = f"holds a NUL or bytes that are no text{_beginning(name, value)}; correct it in the shop"
    else:
        wrong = f"is of type {type(value).__name__}, or no number; cast it to text in the extraction SQL"
    return Fault(RejectReason.INVALID_VALUE, f"its {name} {wrong}")


def _beginning(name: str, text: str) -> str:
    """Give how the text of an id begins, so that a person finds it; a customer is not named."""
    return f": {text[:50]!a}…" if name in ("order_key", "order_id") else ""


def check(
    frame: pd.DataFrame, campaigns: Campaigns, tz: ZoneInfo, carry_days: int, *, first_row: int = 1
) -> Iterator[CheckedOrder]:
    """Say of each row of ``typed`` which campaign takes it, or why none does; give the rows in their order.

    ``tz`` is the shop's time zone, ``carry_days`` as in the settings, ``first_row`` the number of the frame's first row
    in the extraction. Rows that repeat a key are not found here: the ledger finds them, over all chunks.
    """

    @cache  # once per kind of order, not once per order: a day may have 100,000
    def decide(product: str | None, day: date | None) -> _Decision:
        return _decide(campaigns, carry_days, product=product, day=day)

    days = _days(frame["paid_at"], tz)
    numbers = range(first_row, first_row + len(frame))
    fields = zip(numbers, *(frame[name] for name in COLUMNS), days, strict=True)
    decisions = map(decide, frame["product"], days)
    for known, decision, fault in zip(fields, decisions, frame["fault"], strict=True):
        yield CheckedOrder._make(known + (_Decision(reason=fault.reason, detail=fault.detail) if fault else decision))


class _Decision(NamedTuple):
    """The fields of a ``CheckedOrder`` that follow from its business day."""

    campaign: str | None = None
    tag: str | None = None
    on_unknown: OnUnknown | None = None
    stale_after: timedelta | None = None
    carry_until: date | None = None
    reason: RejectReason | None = None
    detail: str | None = None


def _decide(campaigns: Campaigns, carry_days: int, *, product: str | None, day: date | None) -> _Decision:
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


def _instant(value: Any, tz: ZoneInfo) -> datetime | None:
    moment: Any = value if isinstance(value, datetime) else _moment(value)
    if moment is None or moment is pd.NaT:  # NaT is a datetime too
        return None
    try:
        instant = (moment if moment.tzinfo else moment.replace(tzinfo=tz)).astimezone(UTC)
    except (OverflowError, ValueError):  # the first or last hours that datetime knows
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
