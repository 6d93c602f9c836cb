"""The warehouse's schema: bring it up to date, and check that it is. ``make migrate`` and ``make check`` call this."""

import logging
from dataclasses import dataclass

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from include.sql_files import sql_of
from include.warehouse.database import (
    Connect,
    Connection,
    SafeDatabaseError,
    open_session,
    place,
    read_rows,
    safe_error,
)
from include.warehouse.migrations import FOLDER as MIGRATIONS
from include.warehouse.migrations import GRANTS, VIEWS

sql = sql_of(__package__)
log = logging.getLogger(__name__)

MIGRATION_LOCK = 0x70617373706F7274  # "passport": two migrations of one database wait for each other


def migrate(connect: Connect) -> str:
    """Bring the warehouse that ``connect`` opens up to date, in one transaction; give its place in words.

    Safe to run again, and to run from two processes at once: the second waits, then finds nothing to do.
    Raises ``SafeDatabaseError`` in one sentence when the database cannot be reached or its role may not create schemas.
    """
    with open_session(connect, application_name="passport-links migrate") as connection:
        where = place(connection)
        # Alembic wants an engine: this one hands it the open connection and makes no other.
        engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=NullPool)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        try:
            with engine.begin() as transaction:
                transaction.execute(sqlalchemy.text("select pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
                config.attributes["connection"] = transaction
                command.upgrade(config, "head")
                _finish(connection)
        except (DBAPIError, psycopg.Error) as error:
            raise _migration_failed(error, where) from None
    return where


@dataclass(frozen=True)
class _Rights:
    version: str | None
    may_write: bool


def check_warehouse(connect: Connect) -> str:
    """Check that the warehouse is migrated and its role may write; give one sentence, change nothing.

    Raises ``SafeDatabaseError`` with the next step where something is missing.
    """
    newest = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    with open_session(connect, application_name="passport-links check") as connection:
        where = place(connection)
        try:
            [rights] = read_rows(connection, _Rights, sql("check_rights"))
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise safe_error(error, f"{where} was never migrated; run `make migrate`") from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise safe_error(
                error, f"The role may not read the ledger in {where}; grant it passport_pipeline"
            ) from None
    if rights.version != newest:
        message = f"{where} is at version {rights.version}, the project at {newest}; run `make migrate`"
        raise SafeDatabaseError(message, sqlstate=None, constraint=None, transient=False)
    if not rights.may_write:
        message = f"The role may not write the ledger in {where}; grant it passport_pipeline"
        raise SafeDatabaseError(message, sqlstate="42501", constraint=None, transient=False)
    return f"{where}: migrated to {newest}, may be written"


def _finish(connection: Connection) -> None:
    """Make the views anew and grant rights, where the role owns the schemas."""
    [(owns,)] = connection.execute(sql("owns_schemas")).fetchall()
    if not owns:
        return
    connection.execute(VIEWS.read_bytes())
    connection.add_notice_handler(lambda notice: log.warning("%s: %s", notice.severity, notice.message_primary))
    connection.execute(GRANTS.read_bytes())


def _migration_failed(error: DBAPIError | psycopg.Error, where: str) -> SafeDatabaseError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.Error):
        raise cause or error
    if cause.sqlstate == "42501":
        doing = f"The role may not migrate {where}; grant it CREATE on the database, or migrate as the owner"
    else:
        doing = f"The migration of {where} failed and changed nothing"
    return safe_error(cause, doing)
