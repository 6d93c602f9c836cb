"""The ledger, opened from Airflow's connection ``warehouse``."""

from include.ledger.session import Ledger
from include.settings import settings
from passport_airflow.connections import warehouse


def open_ledger(caller: str) -> Ledger:
    """A ledger with this project's settings, for ``with``; ``caller`` names who works in it.

    Raises ``AirflowFailException`` for a connection that is missing or unreadable.
    """
    chosen = settings()
    return Ledger(warehouse(), lease_seconds=chosen.lease_seconds, concurrency=chosen.concurrency, caller=caller)
