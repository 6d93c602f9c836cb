"""What a recovery holds, adopts and keeps back after the warehouse went back in time."""

from include.warehouse.migrations import execute_file

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Execute ``0011_recovery.sql``."""
    execute_file("0011_recovery.sql")
