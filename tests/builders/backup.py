"""An older copy of a warehouse, and its way back over the warehouse: what a restore from a backup does."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from local.postgres import EmbeddedPostgres


class Backup:
    """A copy of a warehouse as it was when this was made; whoever is connected loses the connection."""

    def __init__(self, postgres: EmbeddedPostgres, warehouse: str) -> None:
        self._postgres = postgres
        self._name = str(conninfo_to_dict(warehouse)["dbname"])
        self._copy = f"{self._name}_backup"
        with self._nobody_connected():
            self._postgres.create_database(self._copy, self._name)

    def put_back(self) -> None:
        """The warehouse is again as it was; what was committed since is gone."""
        self._postgres.drop_database(self._name)
        self._postgres.create_database(self._name, self._copy)

    def discard(self) -> None:
        self._postgres.drop_database(self._copy)

    @contextmanager
    def _nobody_connected(self) -> Iterator[None]:
        with psycopg.connect(self._postgres.uri("postgres"), autocommit=True) as connection:
            allow = sql.SQL("alter database {} with allow_connections {}")
            connection.execute(allow.format(sql.Identifier(self._name), sql.Literal(False)))
            connection.execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = %s", [self._name]
            )
            try:
                yield
            finally:
                connection.execute(allow.format(sql.Identifier(self._name), sql.Literal(True)))


@contextmanager
def backup_of(postgres: EmbeddedPostgres, warehouse: str) -> Iterator[Backup]:
    """Take a backup of a warehouse, and delete it afterwards."""
    taken = Backup(postgres, warehouse)
    try:
        yield taken
    finally:
        taken.discard()
