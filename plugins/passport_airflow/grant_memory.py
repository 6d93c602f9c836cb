"""What Airflow remembers of the ledger: how many grants it counted at the end of a run.

It is an Airflow Variable under the warehouse's own id, so in another database than the ledger. A ledger that counts
less went back in time; ``docs/recovery.md`` says what to do.
"""

from uuid import UUID

from airflow.sdk import Variable

from include.ledger.going_back import Memory
from include.ledger.runs import RunLedger


def memory_of(ledger: RunLedger) -> Memory:
    """Give what Airflow remembers of this ledger; nothing at its first run, or after somebody deleted the Variable."""
    warehouse_id = ledger.count_grants().warehouse_id
    return Memory(warehouse_id, _stored(warehouse_id))


def refuse_if_went_back(ledger: RunLedger) -> None:
    """Raise ``WentBackError`` where the ledger counts fewer grants than Airflow remembers."""
    ledger.compare(memory_of(ledger))


def remember_grants(ledger: RunLedger) -> None:
    """Store how many grants the ledger counts; a number that is stored already is never lowered."""
    count = ledger.count_grants()
    if count.grants > _stored(count.warehouse_id):
        description = "How many grants the ledger counted. A lower count there shows a restored backup."
        Variable.set(_name(count.warehouse_id), str(count.grants), description=description)


def _stored(warehouse_id: UUID) -> int:
    return int(Variable.get(_name(warehouse_id), default="0"))


def _name(warehouse_id: UUID) -> str:
    return f"passport_links_grants_{warehouse_id}"
