"""``make check``: tries every connection that the DAGs use and reserves nothing."""

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
"""Errors whose text is made for people and holds no secret."""


def check_campaigns() -> str:
    """Reads the campaign file; gives a sentence, raises ``CampaignFileError``."""
    campaigns = Campaigns.load(settings().campaigns_file)
    return f"{settings().campaigns_file}: {', '.join(campaigns.names)}"


def check_orders() -> str:
    """Runs the extraction for the last day that ended; gives a sentence, raises an error of ``EXPECTED``."""
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
    """Whether the warehouse is migrated and may be written; gives a sentence, raises an error of ``EXPECTED``."""
    return check_warehouse(warehouse())


def check_nmp() -> str:
    """Whether host and key work; gives a sentence, raises an error of ``EXPECTED``."""
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
    """Tries all of them, a line each; gives 1 if any failed."""
    failed = False
    for name, check in CHECKS.items():
        try:
            verdict = f"ok      {name}: {check()}"
        except EXPECTED as error:
            failed, verdict = True, f"FAILED  {name}: {error}"
        sys.stdout.write(verdict + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
