"""What the views of ``views.sql`` need."""

from include.warehouse.migrations import execute_file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Execute ``0003_views.sql``."""
    execute_file("0003_views.sql")
