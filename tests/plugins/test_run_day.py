"""Which business days a run serves, and which of them it closes."""

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.timetables.base import TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable
from pendulum import datetime as at

from include.settings import Settings
from passport_airflow.run_day import RunDays, run_days


def a_run(run_type: str, *, day: str | None = None, **times: datetime) -> tuple[Any, dict[str, Any]]:
    """A run and its params."""
    run = SimpleNamespace(run_type=run_type, data_interval_start=None, data_interval_end=None, run_after=None)
    vars(run).update(times)
    return run, {"day": day}


def one(day: date) -> RunDays:
    return RunDays((day,), (day,))


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
@pytest.mark.parametrize(
    ("start", "end", "days", "closes"),
    [
        ("2026-11-21 00:00", "2026-11-22 00:00", [21], [21]),
        ("2026-11-21 22:00", "2026-11-21 23:00", [21], []),
        ("2026-11-21 23:45", "2026-11-22 00:00", [21], [21]),
        ("2026-11-22 00:00", "2026-11-22 00:15", [22], []),
        ("2026-11-21 06:00", "2026-11-22 06:00", [21, 22], [21]),
        ("2026-11-16 00:00", "2026-11-23 00:00", [16, 17, 18, 19, 20, 21, 22], [16, 17, 18, 19, 20, 21, 22]),
        ("2026-11-21 12:00", "2026-11-21 12:00", [21], []),
    ],
    ids=["daily", "hourly", "closing", "next day", "from six to six", "weekly", "no length"],
)
def test_a_scheduled_or_backfill_run_serves_all_days_that_its_interval_touches(
    run_type: str, start: str, end: str, days: list[int], closes: list[int]
) -> None:
    interval = {
        "data_interval_start": datetime.fromisoformat(f"{start}+00:00"),
        "data_interval_end": datetime.fromisoformat(f"{end}+00:00"),
    }
    run = a_run(run_type, day="2026-01-01", run_after=datetime(2026, 11, 23, tzinfo=UTC), **interval)
    of_month = [date(2026, 11, number) for number in range(1, 31)]
    assert run_days(*run) == RunDays(
        tuple(of_month[number - 1] for number in days), tuple(of_month[number - 1] for number in closes)
    )


def test_a_manual_run_serves_the_day_it_is_asked_for() -> None:
    run = a_run("manual", day="2026-11-03", run_after=datetime(2026, 11, 23, 1, tzinfo=UTC))
    assert run_days(*run) == one(date(2026, 11, 3))


def test_a_manual_run_serves_the_last_day_that_had_ended_when_it_was_made_also_after_midnight() -> None:
    run = a_run("manual", run_after=datetime(2026, 11, 22, 23, 59, tzinfo=UTC))
    assert run_days(*run) == one(date(2026, 11, 21))


def test_a_manual_run_ignores_the_interval_that_a_logical_date_gives_it() -> None:
    at_new_year = datetime(2026, 1, 1, tzinfo=UTC)
    interval = {"data_interval_start": at_new_year, "data_interval_end": at_new_year}
    run = a_run("manual", **interval, run_after=datetime(2026, 11, 22, 12, tzinfo=UTC))
    assert run_days(*run) == one(date(2026, 11, 21))


@pytest.mark.parametrize(
    ("day", "sentence"),
    [("2026-11-23", "2026-11-23 has not ended in UTC"), ("yesterday", "'yesterday' is not a day")],
)
def test_a_day_that_cannot_be_served_fails_without_a_retry(day: str, sentence: str) -> None:
    with pytest.raises(AirflowFailException, match=sentence):
        run_days(*a_run("manual", day=day, run_after=datetime(2026, 11, 23, 12, tzinfo=UTC)))


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
        run = a_run("scheduled", data_interval_start=interval.start, data_interval_end=interval.end)
        days.append(run_days(*run))
        lengths.append((interval.end - interval.start).total_seconds() / 3600)
    assert days == [one(first + timedelta(days=n)) for n in range(len(hours))]
    assert lengths == hours


def test_every_quarter_of_an_hour_serves_its_own_day_when_the_clocks_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passport_airflow.run_day.settings", lambda: Settings(shop_timezone="Europe/Paris"))
    timetable = CronDataIntervalTimetable("*/15 * * * *", timezone="Europe/Paris")
    restriction = TimeRestriction(at(2026, 10, 25, tz="Europe/Paris"), None, catchup=True)
    runs, interval = [], None
    while not runs or runs[-1].days == (date(2026, 10, 25),):
        info = timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction)
        assert info is not None
        interval = info.data_interval
        runs.append(run_days(*a_run("scheduled", data_interval_start=interval.start, data_interval_end=interval.end)))
    assert len(runs) == 25 * 4 + 1
    assert [number for number, run in enumerate(runs) if run.closes] == [25 * 4 - 1]
