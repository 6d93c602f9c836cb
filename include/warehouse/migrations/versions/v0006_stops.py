"""Stops after several refusals, and budgets that all scheduled runs of a clock day share."""

from include.warehouse.migrations import execute_file

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Execute ``0006_stops.sql``."""
    execute_file("0006_stops.sql")
