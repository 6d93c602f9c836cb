"""The business day that an Airflow run serves; nothing else decides it."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Protocol

from airflow.sdk.exceptions import AirflowFailException

from include.business_day import (
    BadDayError,
    UnfinishedDayError,
    business_day_of,
    last_ended_day,
    parse_day,
    require_ended,
)
from include.settings import settings

RUN_TYPES_WITH_INTERVAL = ("scheduled", "backfill")


class Run(Protocol):
    """What decides about the day of an Airflow run: the task SDK's runs have it, and those in Airflow's tables."""

    @property
    def run_type(self) -> str:
        """``scheduled``, ``backfill``, ``manual`` …"""

    @property
    def data_interval_start(self) -> datetime | None:
        """The first instant of the day that a scheduled or backfill run is for."""

    @property
    def run_after(self) -> datetime:
        """When the run was made, for one by hand."""


def run_day(run: Run, params: Mapping[str, Any]) -> date:
    """Give the business day of a run, in the shop's time zone.

    A scheduled or backfill run serves the day that its data interval begins with. A run by hand serves ``day`` of its
    ``params`` (YYYY-MM-DD), or else the last day that had ended when the run was made: a retry after midnight keeps its
    day. Raises ``AirflowFailException`` (a retry would not help) for a day that cannot be read or has not ended.
    """
    zone = settings().timezone
    if run.run_type in RUN_TYPES_WITH_INTERVAL and run.data_interval_start is not None:
        return business_day_of(run.data_interval_start, zone)
    day = params.get("day")
    try:
        return require_ended(parse_day(day), run.run_after, zone) if day else last_ended_day(run.run_after, zone)
    except (BadDayError, UnfinishedDayError) as error:
        raise AirflowFailException(str(error)) from None
