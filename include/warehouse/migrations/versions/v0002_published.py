"""The published tables, schema passport."""

from include.warehouse.migrations import execute_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Execute ``0002_published.sql``."""
    execute_file("0002_published.sql")
