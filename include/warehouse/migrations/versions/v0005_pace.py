"""The gate row also holds the pace of calls."""

from include.warehouse.migrations import execute_file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Execute ``0005_pace.sql``."""
    execute_file("0005_pace.sql")
