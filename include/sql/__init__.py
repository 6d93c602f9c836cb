"""The project's SQL: one statement to a file, bound parameters only."""

from functools import cache
from importlib.resources import files
from typing import LiteralString


@cache
def sql(name: str) -> LiteralString:
    """The text of ``include/sql/<name>.sql``.

    ``name`` is like ``ledger/lock_gate``. Raises ``FileNotFoundError`` for a file that is not there.
    """
    return files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
