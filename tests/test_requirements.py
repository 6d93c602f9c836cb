"""The pins: the newest and the oldest versions that the project is tested with, on one Airflow."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


def pins(name: str) -> dict[str, str]:
    """The lowest version of each package that a compiled file pins: it may have one to each version of Python."""
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([\w.-]+)(?:\[[\w,]+\])?==([\w.]+)", line) for line in lines)
    return {pin[1]: pin[2] for pin in reversed([pin for pin in found if pin])}


@pytest.mark.parametrize(
    ("package", "oldest", "newest"),
    [("pandas", "2.2.", "3."), ("sqlalchemy", "2.0.", "2.1."), ("psycopg", "3.2.", "3.3.")],
)
def test_the_oldest_pins_are_of_an_older_series_than_the_newest(package: str, oldest: str, newest: str) -> None:
    assert pins("requirements-oldest.txt")[package].startswith(oldest)
    assert pins("requirements.txt")[package].startswith(newest)


def test_every_pin_is_of_one_airflow() -> None:
    files = [path.name for path in PROJECT.glob("requirements*.txt")]
    assert len(files) >= 4
    assert {pins(name)["apache-airflow"] for name in files} == {"3.3.2"}
