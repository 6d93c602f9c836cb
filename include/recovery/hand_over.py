"""What a hand-over wrote: CSV files with the columns ``order_key``, ``certificate_id`` and ``link``."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

COLUMNS = ("order_key", "certificate_id", "link")


class RecoveryError(Exception):
    """A step of a recovery cannot be done; the message says what to do."""


class HandedOver(NamedTuple):
    """One link that was handed over; ``place`` is its file and line. Never log it: it holds a link."""

    place: str
    order_key: str | None
    certificate_id: str | None
    link: str | None


def read_hand_over(path: Path) -> Iterator[HandedOver]:
    """Yield the rows of one file, UTF-8 with a header; other columns are ignored.

    Raises ``RecoveryError`` for a file that cannot be read; its text holds no value of a row.
    """
    yield from (HandedOver(place, *values) for place, values in _rows(path, COLUMNS))


def read_order_keys(path: Path) -> list[str]:
    """Give the order keys of one file with a column ``order_key``. Raises what ``read_hand_over`` raises."""
    return [key for _, [key] in _rows(path, ("order_key",)) if key]


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, list[str | None]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if lacking := [name for name in columns if name not in (rows.fieldnames or ())]:
                message = f"{path} has no column {', '.join(lacking)}: its first line must be {','.join(columns)}"
                raise RecoveryError(message)
            for row in rows:
                yield f"{path.name} line {rows.line_num}", [_value(row[name]) for name in columns]
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}; correct the path"
        raise RecoveryError(message) from None
    except (UnicodeDecodeError, csv.Error):
        message = f"{path} is no CSV file in UTF-8: write it as {','.join(columns)}"
        raise RecoveryError(message) from None


def _value(text: str | None) -> str | None:
    """Give a value as the database can take it; what it cannot take is no value."""
    return text if text and "\0" not in text else None
