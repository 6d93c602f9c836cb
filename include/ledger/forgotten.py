"""What a restored ledger forgot: orders whose link may have been issued, and links that a hand-over still has.

``include.recovery`` is what a person does about them; an extraction does the same for the orders that it finds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from include.ledger.leases import lapse_attempts
from include.ledger.states import UNSERVED, ReservationState
from include.sql_files import sql_of
from include.warehouse.database import Connection

sql = sql_of(__package__)


def hold_forgotten(connection: Connection, order_keys: Sequence[str] | None = None) -> int:
    """Hold the unserved orders (of these keys, or all) that were paid before the open recovery began; give how many.

    An order that it held before is left alone. Without an open recovery nothing happens.
    """
    parameters = {"unserved": UNSERVED, "order_keys": None if order_keys is None else list(order_keys)}
    held = connection.execute(sql("hold_forgotten"), parameters).fetchall()
    lapse_attempts(connection, [order_key for order_key, state in held if state == ReservationState.CALLING])
    return len(held)


def hold_incoming(connection: Connection, chunk: Mapping[str, Any]) -> None:
    """Hold those orders of a chunk of the extraction under way that an open recovery must hold."""
    waiting = [order_key for (order_key,) in connection.execute(sql("incoming_pending"), chunk)]
    if waiting:
        hold_forgotten(connection, waiting)


def adopt_links(connection: Connection) -> list[str]:
    """Give the links of hand-overs to their orders that have none, without a call; give the keys of these orders."""
    adopted = connection.execute(sql("adopt_links"), {"unserved": UNSERVED})
    return [order_key for (order_key,) in adopted]
