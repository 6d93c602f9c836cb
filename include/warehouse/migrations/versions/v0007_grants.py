"""What shows that the ledger went back in time: a counter of grants, and an identity of each intent."""

from include.warehouse.migrations import execute_file

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Execute ``0007_grants.sql``."""
    execute_file("0007_grants.sql")
