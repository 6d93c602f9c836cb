"""The calendar of business days, with the days that the ledger knows; the shop's time zone bounds them."""

from alembic import op

from include.business_day import day_bounds
from include.settings import settings
from include.warehouse.migrations import FOLDER, execute_file

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Execute the ``0009_*.sql`` files, and give each known day its bounds."""
    execute_file("0009_days.sql")
    connection = op.get_bind().connection.driver_connection
    assert connection is not None, "a revision runs on an open connection"  # noqa: S101
    known = connection.execute((FOLDER / "sql" / "0009_known_days.sql").read_bytes()).fetchall()
    if known:
        zone = settings().timezone
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into passport_ops.day (business_day, begins_at, ends_at, scheduled) values (%s, %s, %s, %s)",
                [(day, *day_bounds(day, zone), scheduled) for day, scheduled in known],
            )
        execute_file("0009_read_days.sql")
