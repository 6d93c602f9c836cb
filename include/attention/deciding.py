"""Carry out what a person decides about lines of ``passport.needs_attention``: one, a list, or all of a kind.

``docs/lifecycle.md`` has the moves of orders: back to pending (release), or closed. Other lines are acknowledged.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from include.attention.kinds import ACTIONS, Action, AttentionKind
from include.ledger.moves import Move, write_moves
from include.ledger.states import ReservationState
from include.sql_files import sql_of
from include.warehouse.database import Connection, read_rows, safe_errors
from include.warehouse.transactions import again_after_limit, limited_transaction

sql = sql_of(__package__)
log = logging.getLogger(__name__)

ORDERS_AT_ONCE = 1000
"""Orders of one transaction: others wait for a locked order, so each transaction is short."""

MOST_NAMED = 20
"""Lines of a log, and orders of a sentence."""


class AttentionError(ValueError):
    """The decision cannot be carried out; one sentence that names the order or kind and the next step."""


@dataclass(frozen=True)
class Decision:
    """What a person wants: an action on the lines of some keys, or of a kind.

    ``keys`` are order keys or, to acknowledge, subjects of the kind. ``campaign``, ``day`` (a business day) and ``tag``
    choose among the lines of a kind. Without ``keys`` nothing is changed if there are more lines than ``at_most``; 0
    only counts and shows them. ``reason`` is saved with the decision, so it holds no link.
    """

    action: Action
    reason: str
    keys: tuple[str, ...] = ()
    kind: AttentionKind | None = None
    campaign: str | None = None
    day: date | None = None
    tag: str | None = None
    at_most: int = 0
    decided_by: str | None = None


@dataclass(frozen=True)
class Decided:
    """The move of an order; ``again`` says that it had been carried out before and nothing changed."""

    order_key: str
    from_state: ReservationState
    to_state: ReservationState
    again: bool


@dataclass(frozen=True)
class Resolved:
    """What became of some orders: those decided, and one sentence for each that was left alone."""

    decided: list[Decided]
    refused: list[str]


TARGETS = {Action.RELEASE: ReservationState.PENDING, Action.CLOSE: ReservationState.CLOSED}
NEED_A_PERSON = (ReservationState.HELD, ReservationState.UNKNOWN)
DECIDED_FROM = {
    Action.RELEASE: NEED_A_PERSON,
    Action.CLOSE: (*NEED_A_PERSON, ReservationState.PENDING, ReservationState.OUT_OF_STOCK),
}
"""The states from which a person can move an order."""

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
    order_key: str
    state: str
    reason: str | None
    fence: int
    lease_left: float  # seconds; 0 without a lease


@dataclass(frozen=True)
class _Last:
    order_key: str
    action: str
    reason: str
    from_state: str


@dataclass(frozen=True)
class _Group:
    state: str
    campaign: str
    business_day: date
    orders: int
    first_keys: list[str]


@dataclass(frozen=True)
class _Line:
    subject: str
    since: datetime
    reason: str


def carry_out(connection: Connection, decision: Decision) -> str:
    """Log what the decision touches, carry it out, and give in words what became of it.

    Raises ``AttentionError`` when it cannot be carried out, ``include.warehouse.database.SafeDatabaseError`` when the
    database fails. Carried out again it changes nothing.
    """
    _check(decision)
    if decision.action is Action.ACKNOWLEDGE:
        return _acknowledge(connection, decision)
    keys = [line.subject for line in _lines(connection, decision)] if decision.kind else _unique(decision.keys)
    for line in _groups(connection, keys):
        log.info("%s", line)
    if decision.kind and (answer := _only_look(decision, len(keys), "orders")):
        return answer
    resolved = resolve(connection, keys, decision.action, decision.reason, decision.decided_by)
    for sentence in resolved.refused[:MOST_NAMED]:
        log.warning("not changed: %s", sentence)
    if resolved.refused and not resolved.decided:
        raise AttentionError(_some(resolved.refused))
    return _outcome(resolved)


def resolve(
    connection: Connection, order_keys: Collection[str], action: Action, reason: str, decided_by: str | None = None
) -> Resolved:
    """Send orders back to pending (release) or end them without a link (close), in short transactions.

    A release takes held and unknown orders, a close also those pending and out of stock; others are left alone.
    ``reason`` is the person's, in words and without any link; it is saved with each decision. An order's fence rises,
    so an answer that still comes is late: its passport is not lost. A close erases the raw answers that were kept of
    the order's calls. The same decision given twice is carried out once.

    Raises ``AttentionError`` without a reason, ``include.warehouse.database.SafeDatabaseError`` when the database
    fails: what was decided before stays so, and the same call goes on with the rest.
    """
    reason = reason.strip()
    if not reason:
        message = "nothing was changed: give a reason, it is saved with the decision"
        raise AttentionError(message)
    resolved = Resolved([], [])
    keys = _unique(order_keys)
    for start in range(0, len(keys), ORDERS_AT_ONCE):
        some = keys[start : start + ORDERS_AT_ONCE]
        with safe_errors(f"The decision about {_named(some)} could not be written"):
            done = _resolve_some(connection, some, action, reason, decided_by)
        resolved.decided.extend(done.decided)
        resolved.refused.extend(done.refused)
    return resolved


@again_after_limit
def _resolve_some(
    connection: Connection, order_keys: Sequence[str], action: Action, reason: str, decided_by: str | None
) -> Resolved:
    with limited_transaction(connection):
        return _resolve_locked(connection, order_keys, action, reason, decided_by)


def _resolve_locked(
    connection: Connection, order_keys: Sequence[str], action: Action, reason: str, decided_by: str | None
) -> Resolved:
    resolved = Resolved([], [])
    locked = read_rows(connection, _Order, sql("lock_orders"), {"order_keys": order_keys})
    known = {order.order_key: order for order in locked}
    target, froms = TARGETS[action], DECIDED_FROM[action]
    taken = [order for order in known.values() if order.state in froms]
    left = [order for order in known.values() if order.state not in froms]
    why = f"{action.value}d by {decided_by or 'a person'}: {reason}"
    write_moves(connection, [Move(order.order_key, target, why, order.fence + 1) for order in taken])
    decided = {
        "order_keys": [order.order_key for order in taken],
        "from_states": [order.state for order in taken],
        "abouts": [order.reason for order in taken],
        "action": action.value,
        "reason": reason,
        "to_state": target.value,
        "decided_by": decided_by,
    }
    connection.execute(sql("save_decisions"), decided)
    if action is Action.CLOSE:
        connection.execute(sql("erase_answers"), decided)
    resolved.decided.extend(
        Decided(order.order_key, ReservationState(order.state), target, again=False) for order in taken
    )
    before = {
        last.order_key: last
        for last in read_rows(
            connection, _Last, sql("last_decisions"), {"order_keys": [order.order_key for order in left]}
        )
        if (last.action, last.reason) == (action, reason)
    }
    for order in left:
        if last := before.get(order.order_key):
            resolved.decided.append(
                Decided(order.order_key, ReservationState(last.from_state), ReservationState(order.state), again=True)
            )
        else:
            resolved.refused.append(_refusal(order, froms))
    resolved.refused.extend(
        f"no order {key!r} is in the ledger: correct the order key (case counts)"
        for key in order_keys
        if key not in known
    )
    return resolved


def _acknowledge(connection: Connection, decision: Decision) -> str:
    """Settle the lines of a kind that are shown now; a line is shown again if it happens again."""
    lines = _lines(connection, decision)
    keys = _unique(decision.keys)
    for line in lines[:MOST_NAMED]:
        log.info("%s: %s", line.subject, line.reason)
    if not keys and (answer := _only_look(decision, len(lines), "lines")):
        return answer
    parameters = {
        "kind": decision.kind,
        "subjects": [line.subject for line in lines],
        "sinces": [line.since for line in lines],
        "abouts": [line.reason for line in lines],
        "reason": decision.reason.strip(),
        "decided_by": decision.decided_by,
        "keys": keys,
    }
    with safe_errors(f"The lines of kind {decision.kind} could not be acknowledged"), limited_transaction(connection):
        before = {subject for (subject,) in connection.execute(sql("acknowledged"), parameters)}
        connection.execute(sql("acknowledge"), parameters)
    subjects = {line.subject for line in lines}
    unknown = [
        f"no line of kind {decision.kind} has the key {key!r}: copy it from subject in passport.needs_attention"
        for key in keys
        if key not in subjects | before
    ]
    for sentence in unknown[:MOST_NAMED]:
        log.warning("%s", sentence)
    if unknown and len(unknown) == len(keys):
        raise AttentionError(_some(unknown))
    again = len(before.difference(subjects))
    parts = [
        f"{len(lines)} acknowledged" if lines or not again else "",
        f"{again} acknowledged before, nothing changed" if again else "",
        f"{len(unknown)} not found: the log names them" if unknown else "",
    ]
    return f"{decision.kind}: {'; '.join(filter(None, parts))}"


def _check(decision: Decision) -> None:
    """Raise ``AttentionError`` for a decision that does not say clearly what it is about."""
    kind, action = decision.kind, decision.action
    filtered = decision.campaign or decision.day or decision.tag
    message = ""
    if not decision.reason.strip():
        message = "give a reason, it is saved with the decision"
    elif kind is None and action is Action.ACKNOWLEDGE:
        message = "an acknowledge needs a kind: copy kind and subject from passport.needs_attention"
    elif kind is None and not _unique(decision.keys):
        message = "give order keys, or a kind"
    elif kind is None and filtered:
        message = "campaign, day and tag choose among the lines of a kind: give a kind and no keys"
    elif kind and action is not Action.ACKNOWLEDGE and _unique(decision.keys):
        message = "give order keys or a kind, not both"
    elif kind and action not in ACTIONS[kind]:
        possible = " or ".join(ACTIONS[kind])
        message = f"lines of kind {kind} cannot be {action}d: " + (
            f"{possible} them" if possible else "do what their what_to_do says, and they leave by themselves"
        )
    if message:
        message = f"nothing was changed: {message}"
        raise AttentionError(message)


def _only_look(decision: Decision, found: int, what: str) -> str | None:
    """Give the answer for lines of a kind that are only counted; raise ``AttentionError`` if they are too many."""
    kind, at_most = decision.kind, decision.at_most
    if found == 0:
        return f"no line of kind {kind} fits: there is nothing to do"
    again = f"trigger it again with at_most {found} to {decision.action} them"
    if at_most == 0:
        return f"{found} {what} of kind {kind} fit, nothing was changed: {again}"
    if found > at_most:
        message = f"{found} {what} of kind {kind} fit, more than at_most {at_most}: nothing was changed; {again}"
        raise AttentionError(message)
    return None


def _lines(connection: Connection, decision: Decision) -> list[_Line]:
    parameters = {
        "kind": decision.kind,
        "keys": _unique(decision.keys) or None,
        "campaign": decision.campaign,
        "day": decision.day,
        "tag": decision.tag,
    }
    with safe_errors("What needs attention could not be read"), connection.transaction():
        return read_rows(connection, _Line, sql("lines"), parameters)


def _groups(connection: Connection, order_keys: Sequence[str]) -> list[str]:
    """Say how many of some orders are in which state, by campaign and business day."""
    with safe_errors("The orders could not be counted"), connection.transaction():
        groups = read_rows(connection, _Group, sql("groups"), {"order_keys": order_keys})
    said = [
        f"{group.orders} {group.state} of campaign {group.campaign}, business day {group.business_day}: "
        f"{', '.join(group.first_keys)}{', …' if group.orders > len(group.first_keys) else ''}"
        for group in groups[:MOST_NAMED]
    ]
    if rest := groups[MOST_NAMED:]:
        said.append(f"and {sum(group.orders for group in rest)} more of other campaigns and days")
    return said


def _outcome(resolved: Resolved) -> str:
    moves: dict[str, list[str]] = defaultdict(list)
    for each in resolved.decided:
        before = " (decided before, nothing changed)" if each.again else ""
        moves[f"from {each.from_state} to {each.to_state}{before}"].append(each.order_key)
    parts = [f"{_named(keys)}: {move}" for move, keys in moves.items()]
    if resolved.refused:
        parts.append(f"not changed: {_some(resolved.refused)}")
    return "; ".join(parts)


def _some(sentences: Sequence[str]) -> str:
    more = f"; and {len(sentences) - 3} more" if len(sentences) > 3 else ""
    return "; ".join(sentences[:3]) + more


def _named(order_keys: Sequence[str]) -> str:
    return f"order {order_keys[0]!r}" if len(order_keys) == 1 else f"{len(order_keys)} orders"


def _unique(keys: Iterable[str]) -> list[str]:
    """Give the keys without blanks around them, each once, in their order."""
    return list(dict.fromkeys(filter(None, (str(key).strip() for key in keys))))


def _refusal(order: _Order, froms: Sequence[ReservationState]) -> str:
    state = ReservationState(order.state)
    if state is not ReservationState.CALLING:
        next_step = _NEXT_STEPS[state]
    elif order.lease_left:
        next_step = f"its call may be under way for {order.lease_left:.0f} s more: wait for its run"
    else:
        next_step = "its call's process died: clear the reserve task of its run, or wait for the next one"
    decidable = f"{', '.join(froms[:-1])} or {froms[-1]}"
    return f"order {order.order_key!r} is {state.value}, not {decidable}: {next_step}"
