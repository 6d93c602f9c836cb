"""The ledger, schema passport_ops."""

from include.warehouse.migrations import execute_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Execute ``0001_ledger.sql``."""
    execute_file("0001_ledger.sql")
