"""Which business day a run serves."""

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.timetables.base import TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable
from pendulum import datetime as at

from include.settings import Settings
from passport_airflow.run_day import run_day


def a_run(run_type: str, *, day: str | None = None, **times: datetime) -> tuple[Any, dict[str, Any]]:
    """A run and its params."""
    run = SimpleNamespace(run_type=run_type, data_interval_start=None, run_after=None)
    vars(run).update(times)
    return run, {"day": day}


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_a_scheduled_or_backfill_run_serves_the_day_its_interval_begins_with(run_type: str) -> None:
    start = datetime(2026, 11, 21, tzinfo=UTC)
    run = a_run(run_type, day="2026-01-01", data_interval_start=start, run_after=datetime(2026, 11, 23, tzinfo=UTC))
    assert run_day(*run) == date(2026, 11, 21)


def test_a_manual_run_serves_the_day_it_is_asked_for() -> None:
    run = a_run("manual", day="2026-11-03", run_after=datetime(2026, 11, 23, 1, tzinfo=UTC))
    assert run_day(*run) == date(2026, 11, 3)


def test_a_manual_run_serves_the_last_day_that_had_ended_when_it_was_made_also_after_midnight() -> None:
    run = a_run("manual", run_after=datetime(2026, 11, 22, 23, 59, tzinfo=UTC))
    assert run_day(*run) == date(2026, 11, 21)


def test_a_manual_run_ignores_the_interval_that_a_logical_date_gives_it() -> None:
    interval = datetime(2026, 1, 1, tzinfo=UTC)
    run = a_run("manual", data_interval_start=interval, run_after=datetime(2026, 11, 22, 12, tzinfo=UTC))
    assert run_day(*run) == date(2026, 11, 21)


@pytest.mark.parametrize(
    ("day", "sentence"),
    [("2026-11-23", "2026-11-23 has not ended in UTC"), ("yesterday", "'yesterday' is not a day")],
)
def test_a_day_that_cannot_be_served_fails_without_a_retry(day: str, sentence: str) -> None:
    with pytest.raises(AirflowFailException, match=sentence):
        run_day(*a_run("manual", day=day, run_after=datetime(2026, 11, 23, 12, tzinfo=UTC)))


@pytest.mark.parametrize(
    ("zone", "first", "hours"),
    [
        ("Europe/Paris", date(2026, 3, 27), [24, 24, 23, 24, 24]),
        ("Europe/Paris", date(2026, 10, 23), [24, 24, 25, 24, 24]),
        ("America/Sao_Paulo", date(2017, 10, 13), [24, 24, 23, 24, 24]),
        ("America/Sao_Paulo", date(2018, 2, 15), [24, 24, 25, 24, 24]),
    ],
)
def test_the_schedule_gives_every_day_one_run_when_the_clocks_change(
    monkeypatch: pytest.MonkeyPatch, zone: str, first: date, hours: list[int]
) -> None:
    monkeypatch.setattr("passport_airflow.run_day.settings", lambda: Settings(shop_timezone=zone))
    timetable = CronDataIntervalTimetable("0 0 * * *", timezone=zone)
    restriction = TimeRestriction(at(first.year, first.month, first.day, tz=zone), None, catchup=True)
    days, lengths, interval = [], [], None
    for _ in hours:
        info = timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction)
        assert info is not None
        interval = info.data_interval
        days.append(run_day(*a_run("scheduled", data_interval_start=interval.start)))
        lengths.append((interval.end - interval.start).total_seconds() / 3600)
    assert days == [first + timedelta(days=n) for n in range(len(hours))]
    assert lengths == hours
