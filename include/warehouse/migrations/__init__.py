"""The warehouse's schema as alembic revisions; each one executes a ``.sql`` file of this folder as it is.

There is no way down: a ledger of what was handed out is never dropped by a command.
"""

from pathlib import Path

from alembic import op

FOLDER = Path(__file__).resolve().parent
VIEWS, GRANTS = FOLDER / "sql" / "views.sql", FOLDER / "sql" / "grants.sql"
"""Not revisions: executed at the end of every migration, in this order."""


def execute_file(name: str) -> None:
    """Execute ``sql/<name>`` in the revision's transaction, statement by statement as the server reads it.

    It goes to the driver directly, because SQLAlchemy would read ``:name`` and ``%`` in it as parameters.
    """
    connection = op.get_bind().connection.driver_connection
    assert connection is not None, "a revision runs on an open connection"  # noqa: S101
    connection.execute((FOLDER / "sql" / name).read_text(encoding="utf-8"))
