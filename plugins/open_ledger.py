"""The ledger, opened from Airflow's connection ``warehouse``."""

from connections import warehouse_uri
from include.ledger import Ledger
from include.settings import settings


def open_ledger(caller: str) -> Ledger:
    """A ledger with this project's settings, for ``with``; ``caller`` names who works in it.

    Raises ``AirflowFailException`` for a connection that is missing or unreadable.
    """
    chosen = settings()
    return Ledger(warehouse_uri(), lease_seconds=chosen.lease_seconds, concurrency=chosen.concurrency, caller=caller)
