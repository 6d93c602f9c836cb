"""One helper decides which business day a run serves."""

from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from run_day import run_day


def a_run(run_type: str, *, day: str | None = None, **times: datetime) -> Any:
    run = SimpleNamespace(run_type=run_type, data_interval_start=None, run_after=None)
    vars(run).update(times)
    return {"dag_run": run, "params": {"day": day}}


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_a_scheduled_or_backfill_run_serves_the_day_its_interval_begins_with(run_type: str) -> None:
    start = datetime(2026, 11, 21, tzinfo=UTC)
    context = a_run(run_type, day="2026-01-01", data_interval_start=start, run_after=datetime(2026, 11, 23, tzinfo=UTC))
    assert run_day(context) == date(2026, 11, 21)


def test_a_manual_run_serves_the_day_it_is_asked_for() -> None:
    context = a_run("manual", day="2026-11-03", run_after=datetime(2026, 11, 23, 1, tzinfo=UTC))
    assert run_day(context) == date(2026, 11, 3)


def test_a_manual_run_serves_the_last_day_that_had_ended_when_it_was_made_also_after_midnight() -> None:
    context = a_run("manual", run_after=datetime(2026, 11, 22, 23, 59, tzinfo=UTC))
    assert run_day(context) == date(2026, 11, 21)


def test_a_manual_run_ignores_the_interval_that_a_logical_date_gives_it() -> None:
    interval = datetime(2026, 1, 1, tzinfo=UTC)
    context = a_run("manual", data_interval_start=interval, run_after=datetime(2026, 11, 22, 12, tzinfo=UTC))
    assert run_day(context) == date(2026, 11, 21)


@pytest.mark.parametrize(
    ("day", "sentence"),
    [("2026-11-23", "2026-11-23 has not ended in UTC"), ("yesterday", "'yesterday' is not a day")],
)
def test_a_day_that_cannot_be_served_fails_without_a_retry(day: str, sentence: str) -> None:
    with pytest.raises(AirflowFailException, match=sentence):
        run_day(a_run("manual", day=day, run_after=datetime(2026, 11, 23, 12, tzinfo=UTC)))
