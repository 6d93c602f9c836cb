"""What a person settles: decisions about more than orders, and rejected rows by day and reason."""

from include.warehouse.migrations import execute_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Execute ``0004_attention.sql``."""
    execute_file("0004_attention.sql")
