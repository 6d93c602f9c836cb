"""The local stack's source table ``orders``, filled from a CSV or from the demo.

Its columns are text: the extraction and its checks say what is wrong with a value.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from include.sql_files import sql_of

sql = sql_of(__package__)


class SourceOrder(NamedTuple):
    """One row of the source table, as text; ``None`` is null."""

    order_id: str | None
    customer_id: str | None
    product: str | None
    status: str | None
    ordered_at: str | None
    paid_at: str | None


class OrdersFileError(ValueError):
    """The CSV cannot be loaded; the message is one sentence that names file, place and next step."""


def load_csv(conn: psycopg.Connection[Any], path: Path | str) -> int:
    """Replace the table ``orders`` by the rows of the CSV at ``path``, in one transaction, and give their number.

    The first line names the columns: those of ``SourceOrder`` are needed, others are ignored. An empty field is null.
    A file with a header only makes an empty table. Raises ``OrdersFileError``; the table is then as it was.
    """
    with conn.transaction():
        conn.execute(sql("drop_orders"))
        return append(conn, _read(Path(path)))


def append(conn: psycopg.Connection[Any], orders: Iterable[SourceOrder]) -> int:
    """Add ``orders`` to the table, made if it is not there, in one transaction; give their number."""
    count = 0
    with conn.transaction(), conn.cursor() as cursor:
        create(conn)
        with cursor.copy(sql("copy_orders")) as copy:
            for order in orders:
                copy.write_row(order)
                count += 1
    return count


def create(conn: psycopg.Connection[Any]) -> None:
    """Make the table if it is not there."""
    conn.execute(sql("create_orders"))


def _read(path: Path) -> Iterator[SourceOrder]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(csv.reader(file, strict=True), path)
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror}); give the path of a CSV file") from None
    except UnicodeDecodeError:
        raise _unusable(path, "is not text in UTF-8; save it as a CSV in UTF-8") from None
    except csv.Error as error:
        raise _unusable(path, f"is not a CSV ({error}); save it as a CSV with commas") from None


def _rows(reader: Any, path: Path) -> Iterator[SourceOrder]:
    header = [name.strip() for name in next(reader, [])]
    if not any(header):
        raise _unusable(path, f"is empty; its first line must name the columns {', '.join(SourceOrder._fields)}")
    if lacking := [name for name in SourceOrder._fields if name not in header]:
        hint = " (columns are separated by commas)" if len(header) == 1 else ""
        raise _unusable(path, f"has no column {', '.join(lacking)}{hint}; name it in the first line")
    if twice := [name for name in SourceOrder._fields if header.count(name) > 1]:
        raise _unusable(path, f"has two columns named {twice[0]}; keep one")
    places = [header.index(name) for name in SourceOrder._fields]
    for row in reader:
        if not row:  # an empty line
            continue
        if len(row) != len(header):
            problem = (
                f"has {len(row)} fields in line {reader.line_num} where the first line has {len(header)}; correct it"
            )
            raise _unusable(path, problem)
        order = SourceOrder(*(row[place] or None for place in places))
        if any("\0" in value for value in order if value):
            raise _unusable(path, f"has a null character in line {reader.line_num}; save it as a CSV in UTF-8")
        yield order


def _unusable(path: Path, problem: str) -> OrdersFileError:
    return OrdersFileError(f"orders file {path} {problem}")
