"""The business day: midnight to midnight in the shop's time zone. Every other module asks here.

Every instant that goes in or out has a time zone. Bounds are in UTC: Python compares and subtracts two times of one
time zone by their wall clocks, so every day would be 24 hours long.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

ONE_DAY = timedelta(days=1)
FIRST_YEAR, LAST_YEAR = 1900, 2999

DayBounds = Mapping[date, tuple[datetime, datetime]]
"""Days with their first instant and the first of the next day, in UTC."""


class BadDayError(ValueError):
    """A text is not a day."""


class UnfinishedDayError(ValueError):
    """A day has not ended yet, so its orders are not complete."""


def parse_day(text: str) -> date:
    """Read ``YYYY-MM-DD``; blanks around it are ignored.

    Raises ``BadDayError`` for anything else, also for a day that is not in the calendar.
    """
    day = None
    # date.fromisoformat alone would also take 20171124 and 2017-W47-5.
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text.strip()):
        try:
            day = date.fromisoformat(text.strip())
        except ValueError:
            day = None
    if day is None or not FIRST_YEAR <= day.year <= LAST_YEAR:
        message = f"{text!r} is not a day; write it as YYYY-MM-DD, for example 2026-11-23"
        raise BadDayError(message)
    return day


def day_bounds(day: date, tz: ZoneInfo) -> tuple[datetime, datetime]:
    """Give the first instant of ``day`` in ``tz`` and the first of the next day, in UTC: ``start <= t < end``.

    A day may have 23 or 25 hours. Where the clock skips midnight the day begins when it has jumped; where midnight
    comes twice, at the first. A day that a zone left out (Samoa, 2011-12-30) is empty.
    """
    return _first_instant(day, tz), _first_instant(day + ONE_DAY, tz)


def business_day_of(instant: datetime, tz: ZoneInfo) -> date:
    """Give the day in ``tz`` of an aware ``instant``.

    Raises ``ValueError`` for a time without a zone: Python would read it in this machine's zone.
    """
    if instant.tzinfo is None:
        message = f"{instant.isoformat()} has no time zone; give an aware time"
        raise ValueError(message)
    return instant.astimezone(tz).date()


def days_of_interval(start: datetime, end: datetime, tz: ZoneInfo) -> tuple[date, ...]:
    """Give every day in ``tz`` that the aware interval ``start <= t < end`` touches, oldest first.

    An interval without length touches the day of ``start``.
    """
    first, last = business_day_of(start, tz), business_day_of(end, tz)
    if last > first and day_bounds(last, tz)[0] >= end:
        last -= ONE_DAY
    return days_between(first, last)


def days_between(first: date, last: date) -> tuple[date, ...]:
    """Give every day from ``first`` to ``last``, both included; none where ``last`` is before ``first``."""
    return tuple(first + timedelta(days=number) for number in range((last - first).days + 1))


def bounds_of(days: Iterable[date], tz: ZoneInfo) -> DayBounds:
    """Give the bounds of each of ``days``, as ``day_bounds`` does."""
    return {day: day_bounds(day, tz) for day in days}


def days_in_words(days: Collection[date]) -> str:
    """Name days in a text: ``2026-11-22``, ``2026-11-11 to 2026-11-20``, or several of these with commas."""
    spans: list[tuple[date, date]] = []
    for day in sorted(days):
        if spans and spans[-1][1] + ONE_DAY == day:
            spans[-1] = (spans[-1][0], day)
        else:
            spans.append((day, day))
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in spans)


def last_ended_day(now: datetime, tz: ZoneInfo) -> date:
    """Give the newest day in ``tz`` that is over at the aware instant ``now``."""
    return business_day_of(now, tz) - ONE_DAY


def require_ended(day: date, now: datetime, tz: ZoneInfo) -> date:
    """Give ``day`` back if it is over in ``tz`` at the aware instant ``now``.

    Raises ``UnfinishedDayError``, which names the day and the last one that ended.
    """
    last = last_ended_day(now, tz)
    if day > last:
        message = (
            f"{day} has not ended in {tz.key}; the last day that has is {last}: ask for that one or an earlier one"
        )
        raise UnfinishedDayError(message)
    return day


def _first_instant(day: date, tz: ZoneInfo) -> datetime:
    # With fold=0 a midnight that the clock skips is read with the offset before the jump, which gives the jump itself;
    # of two midnights it is the first.
    return datetime.combine(day, time(), tzinfo=tz).astimezone(UTC)
