from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.business_day import (
    BadDayError,
    UnfinishedDayError,
    business_day_of,
    day_bounds,
    last_ended_day,
    parse_day,
    require_ended,
)

PARIS = ZoneInfo("Europe/Paris")
SAO_PAULO = ZoneInfo("America/Sao_Paulo")

# Zones whose clocks change, or changed, at or around midnight, beside ordinary ones.
ZONES = [
    ZoneInfo(name)
    for name in (
        "UTC",
        "Europe/Paris",
        "America/Sao_Paulo",
        "America/Havana",
        "America/Santiago",
        "America/Asuncion",
        "America/Nuuk",
        "America/St_Johns",
        "Asia/Beirut",
        "Asia/Gaza",
        "Asia/Amman",
        "Asia/Tehran",
        "Africa/Cairo",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kiritimati",
    )
]


@pytest.mark.parametrize(
    ("zone", "day", "start", "end", "hours"),
    [
        (PARIS, date(2026, 11, 22), "2026-11-21T23:00+00:00", "2026-11-22T23:00+00:00", 24),
        (PARIS, date(2026, 3, 29), "2026-03-28T23:00+00:00", "2026-03-29T22:00+00:00", 23),
        (PARIS, date(2026, 10, 25), "2026-10-24T22:00+00:00", "2026-10-25T23:00+00:00", 25),
        # The clock jumped from 00:00 to 01:00: that day had no midnight.
        (SAO_PAULO, date(2017, 10, 15), "2017-10-15T03:00+00:00", "2017-10-16T02:00+00:00", 23),
        (SAO_PAULO, date(2017, 10, 14), "2017-10-14T03:00+00:00", "2017-10-15T03:00+00:00", 24),
        # At 24:00 the clock went back to 23:00 of the same day.
        (SAO_PAULO, date(2018, 2, 17), "2018-02-17T02:00+00:00", "2018-02-18T03:00+00:00", 25),
        (SAO_PAULO, date(2017, 11, 24), "2017-11-24T02:00+00:00", "2017-11-25T02:00+00:00", 24),
        # Midnight came twice, at 04:00 and at 05:00 UTC: the day begins at the first.
        (ZoneInfo("America/Havana"), date(2026, 11, 1), "2026-11-01T04:00+00:00", "2026-11-02T05:00+00:00", 25),
        # Samoa left this day out.
        (ZoneInfo("Pacific/Apia"), date(2011, 12, 30), "2011-12-30T10:00+00:00", "2011-12-30T10:00+00:00", 0),
    ],
)
def test_a_day_runs_from_its_first_instant_to_the_next_days(
    zone: ZoneInfo, day: date, start: str, end: str, hours: int
) -> None:
    bounds = day_bounds(day, zone)

    assert bounds == (datetime.fromisoformat(start), datetime.fromisoformat(end))
    assert bounds[1] - bounds[0] == timedelta(hours=hours)


@given(st.datetimes(datetime.fromisoformat("2012-01-01"), datetime.fromisoformat("2036-12-31")), st.sampled_from(ZONES))
def test_every_instant_lies_within_the_bounds_of_its_business_day(naive: datetime, zone: ZoneInfo) -> None:
    instant = naive.replace(tzinfo=UTC)
    start, end = day_bounds(business_day_of(instant, zone), zone)
    assert start <= instant < end


def test_bounds_and_business_days_agree_on_every_day_of_twenty_years_in_zones_that_change_at_midnight() -> None:
    days = [date(2012, 1, 1) + timedelta(days=n) for n in range(20 * 365)]
    for zone in ZONES:
        for day in days:
            start, end = day_bounds(day, zone)
            last = end - timedelta(microseconds=1)
            assert business_day_of(start, zone) == business_day_of(last, zone) == day, (zone.key, day)


def test_the_business_day_is_the_shops_not_the_servers() -> None:
    assert business_day_of(datetime(2017, 11, 25, 1, 59, tzinfo=UTC), SAO_PAULO) == date(2017, 11, 24)
    assert business_day_of(datetime(2017, 11, 25, 2, 0, tzinfo=UTC), SAO_PAULO) == date(2017, 11, 25)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="2026-11-23T00:00:00 has no time zone"):
        business_day_of(datetime.fromisoformat("2026-11-23"), PARIS)


def test_a_day_has_ended_at_its_last_midnight_and_not_before() -> None:
    midnight = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)
    assert last_ended_day(midnight, PARIS) == date(2026, 11, 22)
    assert last_ended_day(midnight - timedelta(seconds=1), PARIS) == date(2026, 11, 21)


def test_an_unfinished_day_is_refused_with_the_last_one_that_ended() -> None:
    now = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
    assert require_ended(date(2026, 11, 22), now, PARIS) == date(2026, 11, 22)
    message = (
        "2026-11-23 has not ended in Europe/Paris; the last day that has is 2026-11-22: "
        "ask for that one or an earlier one"
    )
    with pytest.raises(UnfinishedDayError) as raised:
        require_ended(date(2026, 11, 23), now, PARIS)
    assert str(raised.value) == message


def test_a_day_is_read_from_its_iso_form() -> None:
    assert parse_day("2017-11-24") == date(2017, 11, 24)
    assert parse_day(" 2024-02-29\n") == date(2024, 2, 29)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "24/11/2017",
        "20171124",
        "2017-W47-5",
        "2017-1-4",
        "2017-02-29",
        "yesterday",
        "2017-11-24T00:00",
        "0001-01-01",
    ],
)
def test_anything_else_is_no_day(text: str) -> None:
    with pytest.raises(BadDayError, match="is not a day; write it as YYYY-MM-DD"):
        parse_day(text)
