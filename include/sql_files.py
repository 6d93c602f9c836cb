"""SQL files: one statement to a file, bound parameters only, in the folder ``sql`` beside the code that runs it."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import LiteralString


def sql_of(package: str | None) -> Callable[[str], LiteralString]:
    """Give the reader of a package's SQL files: called with ``lock_gate`` it reads ``<package>/sql/lock_gate.sql``.

    ``package`` is the caller's ``__package__``. The reader reads each file once and raises ``FileNotFoundError`` for
    one that does not exist.
    """
    folder = files(package or "").joinpath("sql")

    @cache
    def sql(name: str) -> LiteralString:
        return folder.joinpath(f"{name}.sql").read_text(encoding="utf-8")

    return sql
