"""Durations as people write them in the campaign file and in settings: ``60d``, ``48h``, ``15m``, ``30s``."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

LONGEST = timedelta(days=99_999)
"""A date plus a longer duration may be a date that neither Python nor the database can hold."""

_UNITS = {
    "d": ("day", timedelta(days=1)),
    "h": ("hour", timedelta(hours=1)),
    "m": ("minute", timedelta(minutes=1)),
    "s": ("second", timedelta(seconds=1)),
}
_WRITTEN = re.compile(r"([0-9]{1,10})([dhms])")
_TOO_LONG = f"is too long; write at most {LONGEST.days}d"


class BadDurationError(ValueError):
    """A duration cannot be used; the message continues a sentence that began with its name and its value."""


def parse_duration(text: str) -> timedelta:
    """Read a number and its unit, like ``60d``; raises BadDurationError for other text and for over 99999 days."""
    written = _WRITTEN.fullmatch(text.strip())
    if written is None:
        message = "is not a duration; write it like 60d, 48h, 15m or 30s"
        raise BadDurationError(message)
    number, (_, unit) = int(written[1]), _UNITS[written[2]]
    if number > LONGEST / unit:
        raise BadDurationError(_TOO_LONG)
    return number * unit


def in_words(duration: timedelta) -> str:
    """Write a duration for a log line, in the largest unit that needs no fraction: ``60 days``, ``36 hours``."""
    name, unit = next((each for each in _UNITS.values() if duration and not duration % each[1]), _UNITS["s"])
    number = duration / unit
    return f"{number:.15g} {name}" + ("" if number == 1 else "s")


def _read(value: Any) -> Any:
    # pydantic would take a number, and text of digits, for seconds.
    if isinstance(value, timedelta) or (isinstance(value, str) and value.startswith("P")):
        return value
    return parse_duration(value if isinstance(value, str) else "")


def _usable(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        message = "must be longer than nothing; write at least 1s"
        raise BadDurationError(message)
    if value > LONGEST:
        raise BadDurationError(_TOO_LONG)
    return value


Duration = Annotated[timedelta, BeforeValidator(_read), AfterValidator(_usable)]
"""A field of a pydantic model: text like ``60d`` (or ISO 8601, like ``PT36H``) becomes a timedelta above zero."""
