"""Carry out a person's decision about a held or unknown order: its call ended in a way that no program can judge.

``docs/lifecycle.md`` has the moves: such an order goes back to pending, or is closed.
"""

from dataclasses import dataclass
from enum import StrEnum

from include.ledger.moves import Move, write_moves
from include.ledger.states import ReservationState
from include.sql_files import sql_of
from include.warehouse.database import Connection, read_rows, safe_errors

sql = sql_of(__package__)


class Action(StrEnum):
    """What a person may decide."""

    RELEASE = "release"  # ask for a link again; a passport that was consumed unseen stays lost
    CLOSE = "close"  # this order gets no link


class AttentionError(ValueError):
    """The decision cannot be carried out; one sentence that names the order, its state and the next step."""


@dataclass(frozen=True)
class Decided:
    """The move of a decision; ``again`` says that it had been carried out before and nothing changed."""

    order_key: str
    from_state: ReservationState
    to_state: ReservationState
    again: bool


TARGETS = {Action.RELEASE: ReservationState.PENDING, Action.CLOSE: ReservationState.CLOSED}
NEED_A_PERSON = (ReservationState.HELD, ReservationState.UNKNOWN)

_NEXT_STEPS = {
    ReservationState.PENDING: "it waits for its link already: the next run, or a clear of one, asks for it",
    ReservationState.RESERVED: "it has its link: there is nothing to decide",
    ReservationState.CLAIMED: "its customer owns the passport: there is nothing to decide",
    ReservationState.OUT_OF_STOCK: "fill the pool of its tag: the next run, or a clear of one, asks again",
    ReservationState.CANCELLED: "the shop cancelled it: correct the order in the shop, and the next run finds it again",
    ReservationState.CLOSED: "a person has closed it",
    ReservationState.RESET: "its link was taken back: let its campaign requeue, if it is to get another",
}


@dataclass(frozen=True)
class _Order:
    state: str
    fence: int
    lease_left: float  # seconds; 0 without a lease


@dataclass(frozen=True)
class _Decision:
    action: str
    reason: str
    from_state: str


def resolve(
    connection: Connection, order_key: str, action: Action, reason: str, decided_by: str | None = None
) -> Decided:
    """Send a held or unknown order back to pending (release) or end it without a link (close), in one transaction.

    ``reason`` is the person's, in words and without any link; it is saved with the decision. The order's fence rises,
    so an answer that still comes is late: its passport is not lost. A close erases the raw answers that were kept of
    the order's calls. The same decision given twice is carried out once.

    Raises ``AttentionError`` when the decision cannot be carried out, ``include.warehouse.database.SafeDatabaseError``
    when the database fails.
    """
    order_key, reason = order_key.strip(), reason.strip()
    if not reason:
        message = f"order {order_key!r} was not changed: give a reason, it is saved with the decision"
        raise AttentionError(message)
    key = {"order_key": order_key}
    with safe_errors(f"The decision about order {order_key!r} could not be written"), connection.transaction():
        found = read_rows(connection, _Order, sql("lock_order"), key)
        if not found:
            message = f"no order {order_key!r} is in the ledger: correct the order_key (case counts)"
            raise AttentionError(message)
        [order] = found
        state, target = ReservationState(order.state), TARGETS[action]
        if state not in NEED_A_PERSON:
            for last in read_rows(connection, _Decision, sql("last_decision"), key):
                if (last.action, last.reason) == (action, reason):
                    return Decided(order_key, ReservationState(last.from_state), state, again=True)
            raise AttentionError(_refusal(order_key, state, order.lease_left))
        decision = {
            **key,
            "action": action.value,
            "reason": reason,
            "decided_by": decided_by,
            "from_state": state.value,
            "to_state": target.value,
        }
        why = f"{action.value}d by {decided_by or 'a person'}: {reason}"
        write_moves(connection, [Move(order_key, target, why, order.fence + 1)])
        connection.execute(sql("save_decision"), decision)
        if action is Action.CLOSE:
            connection.execute(sql("erase_answers"), key)
    return Decided(order_key, state, target, again=False)


def _refusal(order_key: str, state: ReservationState, lease_left: float) -> str:
    if state is not ReservationState.CALLING:
        next_step = _NEXT_STEPS[state]
    elif lease_left:
        next_step = f"its call may be under way for {lease_left:.0f} s more: wait for its run"
    else:
        next_step = "its call's process died: clear the reserve task of its run, or wait for the next one"
    return f"order {order_key!r} is {state.value}, and only held or unknown orders need a person: {next_step}"
