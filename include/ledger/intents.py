"""Intents: committed before their calls leave, and what becomes of an answer whose intent the ledger lost.

A ledger loses intents when it goes back in time: it was restored from a backup, or lost its last commits in a failover.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from include.sql_files import sql_of
from include.warehouse.database import Connection

sql = sql_of(__package__)


@dataclass(frozen=True)
class Intent:
    """A committed intent: this call, and no other, may leave ``wait`` seconds after its transaction began.

    After a restore the ledger may give ``attempt_id`` to another call; ``intent_id`` is never given again.
    """

    attempt_id: int
    order_key: str
    tag: str
    intent_id: UUID
    wait: float = 0.0


def lost_intents(connection: Connection, intents: Mapping[int, Intent]) -> dict[int, Intent]:
    """Give those of these intents, by attempt, that the ledger does not have; another call may have their number."""
    if not intents:
        return {}
    called = {"attempt_ids": list(intents), "intent_ids": [intent.intent_id for intent in intents.values()]}
    return {attempt_id: intents[attempt_id] for (attempt_id,) in connection.execute(sql("lost_intents"), called)}


def keep_lost_links(connection: Connection, lost: Collection[Intent]) -> None:
    """Keep the links of such calls, copied before, as passports that ended, and erase their raw answers."""
    parameters = {
        "attempt_ids": [intent.attempt_id for intent in lost],
        "intent_ids": [intent.intent_id for intent in lost],
        "order_keys": [intent.order_key for intent in lost],
        "tags": [intent.tag for intent in lost],
    }
    connection.execute(sql("keep_lost_links"), parameters)
    connection.execute(sql("erase_lost_answers"), parameters)
