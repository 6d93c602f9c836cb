"""Leases: what becomes of calls whose lease ended without an answer. The one place that says so.

Their outcome is unknown, so a passport may have been consumed; their order asks again or is held, as its campaign says.
"""

from collections.abc import Collection
from dataclasses import dataclass

from include.ledger.moves import Move, write_moves
from include.ledger.run_starts import RunStart
from include.ledger.transitions import state_after_unknown
from include.sql_files import sql_of
from include.warehouse.database import Connection, read_rows
from include.warehouse.transactions import limited_transaction

sql = sql_of(__package__)

LEASE_ENDED = "the lease of its call ended without an answer"
"""Why such an order is unknown or held."""


@dataclass(frozen=True)
class _LapsedOrder:
    order_key: str
    fence: int
    holds_on_unknown: bool


def lapse_attempts(connection: Connection, order_keys: Collection[str]) -> list[RunStart]:
    """Write that the calls of these orders are of unknown outcome; give the run start of each call.

    The orders are locked and their lease is over. Their own state is the caller's to write.
    """
    if not order_keys:
        return []
    return read_rows(connection, RunStart, sql("lapse_attempts"), {"order_keys": list(order_keys)})


def lapse_calls_of_tag(connection: Connection, tag: str) -> None:
    """Give up the calls under a tag whose lease ended: their outcome is unknown, and their orders move on.

    In one transaction of its own. For a reset, which waits until no call under its tag has a lease.
    """
    with limited_transaction(connection):
        orders = read_rows(connection, _LapsedOrder, sql("lock_lapsed_orders"), {"tag": tag})
        lapse_attempts(connection, [order.order_key for order in orders])
        write_moves(
            connection,
            [
                Move(order.order_key, state_after_unknown(order.holds_on_unknown), LEASE_ENDED, order.fence + 1)
                for order in orders
            ],
        )
