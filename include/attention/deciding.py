"""Attention: what a person decides about an order whose call ended in a way that no program can judge.

Follows "The life of a reservation" of the design: held and unknown orders go back to pending or are closed by a person.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
from psycopg.rows import dict_row

from include.ledger.states import ReservationState
from include.sql_files import sql_of
from include.warehouse.database import safe_errors

sql = sql_of(__package__)

Connection = psycopg.Connection[Any]


class Action(StrEnum):
    """What a person may decide."""

    RELEASE = "release"  # ask for a link again; a passport that was consumed unseen stays lost
    CLOSE = "close"  # this order gets no link


class AttentionError(ValueError):
    """The decision cannot be carried out; one sentence that names the order, its state and what to do."""


@dataclass(frozen=True)
class Decided:
    """Where a decision took an order; ``again`` where it had been carried out already and nothing changed."""

    order_key: str
    from_state: ReservationState
    to_state: ReservationState
    again: bool


TARGETS = {Action.RELEASE: ReservationState.PENDING, Action.CLOSE: ReservationState.CLOSED}
NEED_A_PERSON = (ReservationState.HELD, ReservationState.UNKNOWN)

_WHAT_TO_DO = {
    ReservationState.PENDING: "it waits for its link already: the next run, or a clear of one, asks for it",
    ReservationState.RESERVED: "it has its link: there is nothing to decide",
    ReservationState.CLAIMED: "its customer owns the passport: there is nothing to decide",
    ReservationState.OUT_OF_STOCK: "fill the pool of its tag: the next run, or a clear of one, asks again",
    ReservationState.CANCELLED: "the shop cancelled it: mend the order in the shop, and the next run finds it again",
    ReservationState.CLOSED: "a person has closed it",
    ReservationState.RESET: "its link was taken back: let its campaign requeue, if it is to get another",
}


def resolve(
    connection: Connection, order_key: str, action: Action, reason: str, decided_by: str | None = None
) -> Decided:
    """Send a held or unknown order back to pending (release) or end it without a link (close), in one transaction.

    ``reason`` is the person's, in words and without any link; it is kept with the decision. The order's fence rises, so
    that an answer still to come is late: its passport is not lost, but it no longer moves the order. A close erases the
    raw answers that were kept of its calls. The same decision twice is carried out once. Raises ``AttentionError``.
    """
    order_key, reason = order_key.strip(), reason.strip()
    if not reason:
        message = f"order {order_key!r} was not touched: give a reason, it is kept with the decision"
        raise AttentionError(message)
    asked: dict[str, Any] = {"order_key": order_key, "action": action.value, "reason": reason, "decided_by": decided_by}
    with (
        safe_errors(f"The decision about order {order_key!r} could not be written"),
        connection.transaction(),
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        order = cursor.execute(sql("lock_order"), asked).fetchone()
        if order is None:
            message = f"no order {order_key!r} is in the ledger: correct the order_key (case counts)"
            raise AttentionError(message)
        state = ReservationState(order["state"])
        if state not in NEED_A_PERSON:
            last = cursor.execute(sql("last_decision"), asked).fetchone()
            if last and (last["action"], last["reason"]) == (action, reason):
                return Decided(order_key, ReservationState(last["from_state"]), state, again=True)
            raise AttentionError(_refusal(order_key, state, order["lease_left"]))
        target = TARGETS[action]
        moved = {
            **asked,
            "from_state": state.value,
            "to_state": target.value,
            "reason_kept": f"{action.value}d by {decided_by or 'a person'}: {reason}",
        }
        cursor.execute(sql("move_order"), moved)
        cursor.execute(sql("save_decision"), moved)
        if action is Action.CLOSE:
            cursor.execute(sql("erase_answers"), asked)
    return Decided(order_key, state, target, again=False)


def _refusal(order_key: str, state: ReservationState, lease_left: float | None) -> str:
    if state is ReservationState.CALLING:
        what = (
            f"its call may be under way for {lease_left:.0f} s more: wait for its run"
            if lease_left
            else "its call's process died: clear the reserve task of its run, or wait for the next one"
        )
    else:
        what = _WHAT_TO_DO[state]
    return f"order {order_key!r} is {state.value}, and only held or unknown orders need a person: {what}"
