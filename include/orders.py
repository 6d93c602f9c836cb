"""Orders as the shop's database returns them: what a row holds once it is checked, and why a row is not taken.

Reading and checking them is ``include.extraction``, which alone imports pandas: parsing a DAG must not.
"""

from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from include.campaigns import OnUnknown


class ExtractionError(ValueError):
    """The extraction SQL fails or does not return what it must; the message says what to correct."""


class RejectReason(StrEnum):
    """Why a row of the extraction is not taken."""

    MISSING_KEY = "missing_key"
    VALUE_TOO_LONG = "value_too_long"
    INVALID_VALUE = "invalid_value"
    UNPARSABLE_TIME = "unparsable_time"
    DUPLICATE_KEY = "duplicate_key"  # found by the ledger's mark_duplicates.sql: it takes all rows to know
    MISSING_PRODUCT = "missing_product"
    NO_CAMPAIGN = "no_campaign"


class CheckedOrder(NamedTuple):
    """One row of the extraction, checked. Times are in UTC, the business day is in the shop's time zone.

    ``row_number`` counts the rows of the extraction from 1. A value that the database would refuse is ``None``, so an
    ``order_key`` is one that can be used. A row that can be taken has a campaign and all that follows
    from it; any other has a ``reason`` and, as ``detail``, what to do about it.
    """

    row_number: int
    order_key: str | None
    order_id: str | None
    customer_ref: str | None
    product: str | None
    ordered_at: datetime | None
    paid_at: datetime | None
    business_day: date | None
    campaign: str | None
    tag: str | None
    on_unknown: OnUnknown | None
    stale_after: timedelta | None
    carry_until: date | None
    reason: RejectReason | None = None
    detail: str | None = None
