"""``make check``: try every connection that the DAGs use. It reserves nothing."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime

from airflow.sdk.exceptions import AirflowException

from include.business_day import last_ended_day
from include.campaigns import CampaignFileError, Campaigns
from include.intake import read_orders
from include.nmp.errors import NmpConfigurationError, NmpError
from include.orders import ExtractionError
from include.settings import settings
from include.warehouse.database import SafeDatabaseError, open_session, place
from include.warehouse.migrate import check_warehouse
from passport_airflow.connections import orders_db, warehouse
from passport_airflow.nmp_hook import NmpHook

EXPECTED = (
    AirflowException,
    CampaignFileError,
    SafeDatabaseError,
    ExtractionError,
    NmpConfigurationError,
    NmpError,
)
"""Errors with a text for people, without a secret."""


def check_campaigns() -> str:
    """Read the campaign file; give a sentence, raise ``CampaignFileError``."""
    campaigns = Campaigns.load(settings().campaigns_file)
    return f"{settings().campaigns_file}: {', '.join(campaigns.names)}"


def check_orders() -> str:
    """Run the extraction for the last day that ended; give a sentence, raise an error of ``EXPECTED``."""
    chosen = settings()
    day = last_ended_day(datetime.now(UTC), chosen.timezone)
    database = orders_db()
    with open_session(database, application_name="passport-links check") as connection:
        where = place(connection)
    read, eligible = 0, set()
    for row in read_orders(database, [day], Campaigns.load(chosen.campaigns_file), chosen):
        read += 1
        if row.reason is None:
            eligible.add(row.order_key)
    return f"{where}: {len(eligible)} eligible orders on {day}, {read - len(eligible)} rows not taken"


def check_ledger() -> str:
    """See that the warehouse is migrated and can be written; give a sentence, raise an error of ``EXPECTED``."""
    return check_warehouse(warehouse())


def check_nmp() -> str:
    """See that host and key work; give a sentence, raise an error of ``EXPECTED``."""
    client = NmpHook().client()
    try:
        return client.check()
    finally:
        client.close()


CHECKS: dict[str, Callable[[], str]] = {
    "campaigns": check_campaigns,
    "orders_db": check_orders,
    "warehouse": check_ledger,
    "nmp": check_nmp,
}


def main() -> int:
    """Try all of them and print a line for each; return 1 if any failed."""
    failed = False
    for name, check in CHECKS.items():
        try:
            result = f"ok      {name}: {check()}"
        except EXPECTED as error:
            failed, result = True, f"FAILED  {name}: {error}"
        sys.stdout.write(result + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
