"""``make check``: tries every connection that the DAGs use and reserves nothing."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime

from airflow.sdk.exceptions import AirflowException

from include.business_day import last_ended_day
from include.campaigns import CampaignFileError, Campaigns
from include.connections import BadConnection
from include.intake import read_orders
from include.nmp.errors import NmpConfigurationError, NmpError
from include.orders import ExtractionError
from include.settings import settings
from include.warehouse.database import DatabaseTrouble, place
from include.warehouse.publishing import check_warehouse
from passport_airflow.connections import orders_uri, warehouse_uri
from passport_airflow.nmp_hook import NmpHook

EXPECTED = (
    AirflowException,
    BadConnection,
    CampaignFileError,
    DatabaseTrouble,
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
    chosen, uri = settings(), orders_uri()
    day = last_ended_day(datetime.now(UTC), chosen.timezone)
    checked = read_orders(uri, [day], Campaigns.load(chosen.campaigns_file), chosen).checked
    return f"{place(uri)}: {len(checked.orders)} eligible orders on {day}, {len(checked.rejected)} rows not taken"


def check_ledger() -> str:
    """Whether the warehouse is migrated and may be written; gives a sentence, raises an error of ``EXPECTED``."""
    return check_warehouse(warehouse_uri())


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
