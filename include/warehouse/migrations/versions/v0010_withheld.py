"""Passports that are withheld from their orders, because the connection does not accept their links."""

from include.warehouse.migrations import execute_file

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Execute ``0010_withheld.sql``."""
    execute_file("0010_withheld.sql")
