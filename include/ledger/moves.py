"""Moves: orders on their way to a next state, and spares on their way to an order."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from include.ledger.states import ReservationState
from include.sql_files import sql_of
from include.warehouse.database import Connection

sql = sql_of(__package__)


@dataclass(frozen=True)
class Move:
    """An order's next state, the reason in words (never a link), its new fence, and its passport if it has one.

    ``run_id`` is the Airflow run that moves it; ``None`` leaves the order with the run that moved it last.
    """

    order_key: str
    state: ReservationState
    reason: str | None
    fence: int
    passport_id: int | None = None
    run_id: str | None = None


def write_moves(connection: Connection, moves: Collection[Move], *, lease_seconds: float = 0.0) -> None:
    """Write the moves of orders that are locked, each order at most once.

    ``lease_seconds`` is how long nobody takes over an order that moves to ``calling``.
    """
    if not moves:
        return
    connection.execute(
        sql("update_orders"),
        {
            "lease_seconds": lease_seconds,
            "order_keys": [move.order_key for move in moves],
            "states": [move.state.value for move in moves],
            "reasons": [move.reason for move in moves],
            "fences": [move.fence for move in moves],
            "passport_ids": [move.passport_id for move in moves],
            "run_ids": [move.run_id for move in moves],
        },
    )


def assign_spares(connection: Connection, spares: Mapping[str, int]) -> bool:
    """Let spares become the orders' own, by order key; give whether all of them still were spares."""
    assigned = connection.execute(
        sql("assign_spares"), {"passport_ids": list(spares.values()), "order_keys": list(spares)}
    )
    return len(assigned.fetchall()) == len(spares)
