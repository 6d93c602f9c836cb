"""The published tables: their schema, and the load that moves what is reserved from the ledger to where people read.

``python -m include.warehouse migrate`` brings the database of ``AIRFLOW_CONN_WAREHOUSE`` up to date.
"""

import argparse
import logging
import os
import sys

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from include.connections import BadConnection, postgres_uri
from include.database import DatabaseTrouble, connect, place, trouble
from include.migrations import FOLDER as MIGRATIONS

log = logging.getLogger(__name__)

MIGRATION_LOCK = 0x70617373706F7274  # "passport": two migrations of one database wait for each other


def migrate(uri: str) -> None:
    """Bring the warehouse at ``uri`` (libpq URI, or Airflow's URI or JSON form) up to date, in one transaction.

    Safe to run again, and to run from two processes at once: the second waits, then finds nothing to do.
    Raises ``DatabaseTrouble`` in one sentence when the database cannot be reached or its role may not create schemas.
    """
    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(uri), poolclass=NullPool)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    try:
        with engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (DBAPIError, psycopg.Error) as error:
        raise _not_migrated(error, uri) from None


def _not_migrated(error: DBAPIError | psycopg.Error, uri: str) -> DatabaseTrouble:
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        raise cause or error
    if cause.sqlstate == "42501":
        doing = f"The role may not migrate {place(uri)}; grant it CREATE on the database, or migrate as the owner"
    else:
        doing = f"The migration of {place(uri)} failed and changed nothing"
    return trouble(cause, doing)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, or 1 after one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="python -m include.warehouse", description="The passport warehouse.")
    parser.add_argument("action", choices=["migrate"], help="bring the database of AIRFLOW_CONN_WAREHOUSE up to date")
    parser.parse_args(arguments)
    try:
        uri = postgres_uri(os.environ.get("AIRFLOW_CONN_WAREHOUSE", ""), "AIRFLOW_CONN_WAREHOUSE")
        migrate(uri)
    except (BadConnection, DatabaseTrouble) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"Migrated {place(uri)}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
