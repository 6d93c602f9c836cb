"""The business days that an Airflow run serves; nothing else decides them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from airflow.sdk.exceptions import AirflowFailException

from include.business_day import (
    BadDayError,
    UnfinishedDayError,
    day_bounds,
    days_of_interval,
    last_ended_day,
    parse_day,
    require_ended,
)
from include.settings import settings

RUN_TYPES_WITH_INTERVAL = ("scheduled", "backfill")


class Run(Protocol):
    """What decides about the days of an Airflow run: the task SDK's runs have it, and those in Airflow's tables."""

    @property
    def run_type(self) -> str:
        """``scheduled``, ``backfill``, ``manual`` …"""

    @property
    def data_interval_start(self) -> datetime | None:
        """The first instant of the interval that a scheduled or backfill run is for."""

    @property
    def data_interval_end(self) -> datetime | None:
        """The first instant after that interval."""

    @property
    def run_after(self) -> datetime:
        """When the run was made, for one by hand."""


@dataclass(frozen=True)
class RunDays:
    """The business days that a run serves, oldest first, and those of them that it closes: they are over."""

    days: tuple[date, ...]
    closes: tuple[date, ...]


def run_days(run: Run, params: Mapping[str, Any]) -> RunDays:
    """Give the business days of a run, in the shop's time zone.

    A scheduled or backfill run serves all days that its data interval touches, and closes those that end within it. A
    run by hand serves ``day`` of its ``params`` (YYYY-MM-DD), or else the last day that had ended when the run was
    made: a retry after midnight keeps its day. Raises ``AirflowFailException`` (a retry would not help) for a day that
    cannot be read or has not ended.
    """
    zone = settings().timezone
    start, end = run.data_interval_start, run.data_interval_end
    if run.run_type in RUN_TYPES_WITH_INTERVAL and start is not None and end is not None:
        days = days_of_interval(start, end, zone)
        return RunDays(days, tuple(day for day in days if day_bounds(day, zone)[1] <= end))
    text = params.get("day")
    try:
        day = require_ended(parse_day(text), run.run_after, zone) if text else last_ended_day(run.run_after, zone)
    except (BadDayError, UnfinishedDayError) as error:
        raise AirflowFailException(str(error)) from None
    return RunDays((day,), (day,))
