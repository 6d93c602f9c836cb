"""``make migrate``: bring the warehouse of the Airflow connection ``warehouse`` up to date."""

import sys

from airflow.sdk.exceptions import AirflowException

from include.warehouse.database import SafeDatabaseError
from include.warehouse.migrate import migrate
from passport_airflow.connections import warehouse


def main() -> int:
    """Migrate; return the exit code: 0, or 1 after one sentence on standard error."""
    try:
        place = migrate(warehouse())
    except (AirflowException, SafeDatabaseError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"Migrated {place}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
