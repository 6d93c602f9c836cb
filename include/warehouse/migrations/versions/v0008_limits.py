"""New links are counted per run and clock day, so that they can be limited."""

from include.warehouse.migrations import execute_file

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Execute ``0008_limits.sql``."""
    execute_file("0008_limits.sql")
