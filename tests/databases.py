"""A database as tests want it: its URI for an environment, and what opens it for the code under test."""

from typing import Any

import psycopg

from include.warehouse.database import connecting_to


class Database(str):
    """The URI of a database; called, it opens a connection, like every ``Connect``."""

    __slots__ = ()

    def __call__(self) -> psycopg.Connection[Any]:
        """Open a connection."""
        return connecting_to(str(self))()
