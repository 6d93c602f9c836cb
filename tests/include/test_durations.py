"""Durations: how people write them, what is refused, and how they are shown."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from include.durations import BadDurationError, Duration, in_words, parse_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("60d", timedelta(days=60)),
        ("48h", timedelta(days=2)),
        ("15m", timedelta(seconds=900)),
        ("30s", timedelta(seconds=30)),
        ("2592000s", timedelta(days=30)),
        (" 7d ", timedelta(days=7)),
        ("0s", timedelta(0)),
    ],
)
def test_a_number_and_its_unit_are_a_duration(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "60", "d", "60 d", "60D", "1.5h", "-1d", "1d12h", "1w", "soon", "\u0663d", "60d\nx", "1" * 11 + "s"]
)
def test_other_text_is_no_duration(text: str) -> None:
    with pytest.raises(BadDurationError, match="is not a duration; write it like 60d, 48h, 15m or 30s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["100000d", "2399977h", "9999999999s"])
def test_a_duration_that_no_date_can_hold_is_refused(text: str) -> None:
    with pytest.raises(BadDurationError, match="is too long; write at most 99999d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (timedelta(days=60), "60 days"),
        (timedelta(days=1), "1 day"),
        (timedelta(hours=36), "36 hours"),
        (timedelta(minutes=15), "15 minutes"),
        (timedelta(seconds=90), "90 seconds"),
        (timedelta(seconds=1.5), "1.5 seconds"),
        (timedelta(0), "0 seconds"),
    ],
)
def test_a_duration_is_shown_in_the_largest_unit_without_a_fraction(duration: timedelta, words: str) -> None:
    assert in_words(duration) == words


@given(number=st.integers(1, 9_999), unit=st.sampled_from(["days", "hours", "minutes", "seconds"]))
def test_what_is_shown_is_what_was_written(number: int, unit: str) -> None:
    shown = in_words(parse_duration(f"{number}{unit[0]}"))
    amount, name = shown.split()
    assert parse_duration(amount + name[0]) == timedelta(**{unit: number})


class Model(BaseModel):
    wait: Duration


@pytest.mark.parametrize(
    ("value", "seconds"), [("20m", 1200), ("PT20M", 1200), (timedelta(minutes=20), 1200), ("99999d", 99_999 * 86_400)]
)
def test_a_field_takes_text_iso_durations_and_timedeltas(value: Any, seconds: int) -> None:
    assert Model(wait=value).wait == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (300, "is not a duration"),
        ("300", "is not a duration"),
        (True, "is not a duration"),
        (None, "is not a duration"),
        ("0s", "must be longer than nothing"),
        ("PT0S", "must be longer than nothing"),
        ("P100000D", "is too long"),
        (timedelta(-1), "must be longer than nothing"),
    ],
)
def test_a_field_refuses_a_number_without_a_unit_nothing_and_too_much(value: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Model(wait=value)


def test_a_setting_can_be_a_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    class Some(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="SOME_")

        wait: Duration = timedelta(minutes=5)

    assert Some().wait == timedelta(minutes=5)
    monkeypatch.setenv("SOME_WAIT", "3s")
    assert Some().wait == timedelta(seconds=3)
