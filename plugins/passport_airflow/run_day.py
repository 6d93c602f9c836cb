"""Which business day an Airflow run serves: one helper decides."""

from datetime import date
from zoneinfo import ZoneInfo

from airflow.sdk import Context
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


def run_day(context: Context) -> date:
    """The business day of a run, in the shop's time zone.

    A scheduled or backfill run serves the day its data interval begins with. A manual run serves the param ``day``, by
    default the last day that had ended when the run was made; a retry after midnight keeps its day. Raises
    ``AirflowFailException`` (a retry would not help) for an unreadable or unfinished day.
    """
    run, zone = context["dag_run"], settings().timezone
    if run.run_type in RUN_TYPES_WITH_INTERVAL and run.data_interval_start is not None:
        return business_day_of(run.data_interval_start, zone)
    return _asked_day(context["params"].get("day"), run.run_after, zone)


def _asked_day(day: str | None, now: object, zone: ZoneInfo) -> date:
    try:
        return require_ended(parse_day(day), now, zone) if day else last_ended_day(now, zone)  # type: ignore[arg-type]
    except (BadDayError, UnfinishedDayError) as error:
        raise AirflowFailException(str(error)) from None
