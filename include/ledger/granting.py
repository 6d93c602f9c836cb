"""Grants: the intents of calls, committed before the calls leave, and why the other orders get none now.

One grant is one transaction. It takes the grant lock, then its orders, then shares its tags, and waits only for the
first of these; ``docs/lifecycle.md`` says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

from include.ledger.going_back import Memory
from include.ledger.intents import Intent
from include.ledger.leases import LEASE_ENDED, lapse_attempts
from include.ledger.limits import Limit, LimitName, NewLinks, give_back
from include.ledger.moves import Move, assign_spares, write_moves
from include.ledger.pace import Gate, Slots
from include.ledger.raw_answers import unread_answers, withheld_passports
from include.ledger.run_starts import RunStart, begin, count_outcomes, lock_grants
from include.ledger.session import NeverPlannedError
from include.ledger.states import ASKED_BY_RUNS, UNSERVED, ReservationState, TagState
from include.ledger.transitions import (
    OrderFacts,
    RunFacts,
    Step,
    TagFacts,
    next_step,
    state_after_unknown,
)
from include.outcomes import MEANINGS
from include.sql_files import sql_of
from include.warehouse.database import Connection, read_rows

sql = sql_of(__package__)

USES_BUDGET = [outcome.value for outcome, meaning in MEANINGS.items() if meaning.uses_budget]
MAX_SPARES_PER_GRANT = 500
_MAY_GET_A_WITHHELD_ONE = frozenset(ASKED_BY_RUNS) - {ReservationState.CALLING}
_MAY_HAVE_AN_ANSWER = frozenset(UNSERVED) - {ReservationState.CALLING}


@dataclass(frozen=True)
class Refusal:
    """No call for this order now: ``step`` says why, ``state`` and ``reason`` describe the order.

    ``wait`` is how many seconds a lease still runs, or the pace lets no call begin.
    """

    order_key: str
    step: Step
    state: ReservationState
    reason: str | None = None
    wait: float = 0.0


@dataclass(frozen=True)
class Grant:
    """What a grant gave: intents to call, refusals, and calls whose answer must be read first.

    A dead process left it unread, or its link was withheld and may be accepted by now.

    ``warehouse_id`` and ``grants`` are the ledger's identity, and its count with this grant.
    """

    warehouse_id: UUID
    grants: int
    intents: list[Intent] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Caller:
    """Who asks for grants: its name in the attempts, and its settings.

    ``lease_seconds`` is how long nobody takes over an order that is being called for. ``concurrency`` is how many calls
    may be under way at once, ``calls_per_second`` how many may begin, and ``max_new_links_per_day`` how many may bring
    a link on a clock day in ``timezone`` (an IANA name): all of them over all runs and processes.
    """

    name: str
    lease_seconds: float
    concurrency: int
    calls_per_second: float | None = None
    max_new_links_per_day: int | None = None
    timezone: str = "UTC"


def grant(
    connection: Connection, caller: Caller, run: RunStart, order_keys: Sequence[str], *, slots: int, memory: Memory
) -> Grant:
    """Commit the intents of at most ``slots`` calls for these orders, and say of the others why not now.

    Orders that somebody else is writing at this moment come back as ``Step.WAIT``. The caller ends the transaction.
    ``memory`` is what the caller knew of the ledger. Raises ``LedgerError`` for a run that was never planned and for a
    ledger that went back in time.
    """
    begin(connection, run)
    count = memory.compare(connection)
    start = _start(connection, caller, run)
    locked = read_rows(connection, _Order, sql("lock_orders"), {"order_keys": list(order_keys)})
    orders = {order.order_key: order for order in locked}
    known = _known(connection, set(order_keys) - orders.keys()) | orders.keys()
    unread = _unread_answers(connection, orders)
    if _lapse(connection, orders, unread):  # they count, and may have stopped the run
        start = _start(connection, caller, run)
    calls_free = min(slots, caller.concurrency - start.calls)
    decisions = _Decisions(connection, caller, run, start, orders, calls_free=calls_free)
    withheld = _withheld_passports(connection, orders)
    to_read_first = unread.keys() | {key for key, _ in withheld}
    refusals: list[Refusal] = []
    for key in order_keys:
        if key not in known:
            reason = "the ledger does not know this order"
            refusals.append(Refusal(key, Step.NO_SUCH_ORDER, ReservationState.CANCELLED, reason))
        elif key not in orders or key in to_read_first:
            refusals.append(Refusal(key, Step.WAIT, ReservationState.PENDING))
        elif refusal := decisions.decide(orders[key]):
            refusals.append(refusal)
    intents = decisions.write()
    to_read = sorted([*unread.values(), *(attempt_id for _, attempt_id in withheld)])
    return Grant(count.warehouse_id, count.grants + decisions.granted, intents, refusals, to_read)


def disown(connection: Connection, caller: Caller, under_way: Sequence[int], memory: Memory) -> int:
    """Free the orders of intents that were committed for this caller without its knowledge; give their number.

    For after a connection broke: whether its last commit happened is unknown, and a call that nobody knows of was never
    sent. ``under_way`` are the attempts that this caller does know of. Raises ``WentBackError`` where the ledger has
    less than is in ``memory``: then its calls may have been sent, and settled.
    """
    # The grant lock waits for what the broken connection may still be committing.
    lock_grants(connection)
    memory.compare(connection)
    freed = read_rows(connection, _Freed, sql("disown_attempts"), {"caller": caller.name, "under_way": list(under_way)})
    connection.execute(
        sql("free_orders"),
        {"order_keys": [order.order_key for order in freed], "fences": [order.fence for order in freed]},
    )
    give_back(connection, [(order.run_id, order.clock_day) for order in freed])
    return len(freed)


@dataclass(frozen=True)
class _Freed:
    order_key: str
    fence: int
    run_id: str
    clock_day: date | None


@dataclass(frozen=True)
class _Start:
    """A run's start as the grant lock finds it; ``calls`` are under way in all, ``own_calls`` of them are its own."""

    stop_reason: str | None
    opened: bool
    max_calls_per_order: int
    stop_after_refusals: int
    calls: int
    own_calls: int
    began_at: datetime
    read_at: datetime
    next_call_at: datetime | None
    paused_until: datetime | None
    max_new_links: int | None
    clock_day: date
    links_of_run: int
    links_of_day: int

    @property
    def gate(self) -> Gate:
        return Gate(self.began_at, self.read_at, self.next_call_at, self.paused_until)

    def limits(self, max_new_links_per_day: int | None) -> list[Limit]:
        return [
            Limit(name, most, links)
            for name, most, links in (
                (LimitName.RUN, self.max_new_links, self.links_of_run),
                (LimitName.DAY, max_new_links_per_day, self.links_of_day),
            )
            if most is not None
        ]


@dataclass
class _Order:
    """An order that wants a link, locked."""

    order_key: str
    state: ReservationState
    reason: str | None
    fence: int
    tag: str
    holds_on_unknown: bool
    lease_left: float
    moved: bool = False  # its state is not yet the one in the database

    def __post_init__(self) -> None:
        self.state = ReservationState(self.state)
        if self.state is ReservationState.UNKNOWN:  # its campaign may say hold by now
            self.move_to(state_after_unknown(self.holds_on_unknown))

    def move_to(self, state: ReservationState, reason: str | None = None) -> None:
        self.moved = self.moved or state is not self.state
        self.state, self.reason = state, reason or self.reason


@dataclass
class _Tag:
    """A tag that orders of this grant want."""

    epoch: int = 0
    locked: bool = True
    resetting: bool = False
    empty: bool = False
    spares: list[int] = field(default_factory=list)

    def facts(self) -> TagFacts:
        return TagFacts(resetting=self.resetting, locked=self.locked, empty=self.empty, has_spare=bool(self.spares))


@dataclass(frozen=True)
class _SharedTag:
    tag: str
    state: str
    epoch: int


@dataclass(frozen=True)
class _Spare:
    passport_id: int
    tag: str


@dataclass(frozen=True)
class _Call:
    order_key: str
    attempt_id: int
    intent_id: UUID


@dataclass(frozen=True)
class _Budget:
    """What an order has used of its budgets: calls that may have cost a passport, and refusals."""

    order_key: str = ""
    calls: int = 0
    refusals: int = 0


@dataclass(frozen=True)
class _WantedCall:
    """An intent that is decided and not yet written."""

    order_key: str
    tag: str
    epoch: int
    fence: int
    wait: float


def _start(connection: Connection, caller: Caller, run: RunStart) -> _Start:
    found = read_rows(connection, _Start, sql("run_start"), {**run.key, "timezone": caller.timezone})
    if not found:
        raise NeverPlannedError(run.run_id)
    return found[0]


def _known(connection: Connection, order_keys: set[str]) -> set[str]:
    """Give those of the orders that the ledger knows: somebody else is writing them at this moment."""
    if not order_keys:
        return set()
    found = connection.execute(sql("known_orders"), {"order_keys": sorted(order_keys)})
    return {order_key for (order_key,) in found}


def _unread_answers(connection: Connection, orders: dict[str, _Order]) -> dict[str, int]:
    """Give the attempts, by order, whose lease ended and whose raw answer nobody has read.

    Whoever gave up such a call may have left its answer unread: a grant, a reset, an extraction, a person.
    """
    given_up = [key for key, order in orders.items() if order.state in _MAY_HAVE_AN_ANSWER]
    asking = [*given_up, *_lease_over(orders)]
    return dict(unread_answers(connection, asking)) if asking else {}


def _withheld_passports(connection: Connection, orders: dict[str, _Order]) -> list[tuple[str, int]]:
    """Give order and attempt of withheld passports that these orders may get, if the connection accepts them by now."""
    waiting = [key for key, order in orders.items() if order.state in _MAY_GET_A_WITHHELD_ONE]
    return withheld_passports(connection, waiting) if waiting else []


def _lapse(connection: Connection, orders: dict[str, _Order], unread: dict[str, int]) -> bool:
    """Give up the calls whose lease ended without an answer; give whether there were any."""
    lapsed = [key for key in _lease_over(orders) if key not in unread]
    for run in set(lapse_attempts(connection, lapsed)):
        count_outcomes(connection, run)
    for key in lapsed:
        orders[key].move_to(state_after_unknown(orders[key].holds_on_unknown), LEASE_ENDED)
    return bool(lapsed)


def _lease_over(orders: dict[str, _Order]) -> list[str]:
    return [key for key, order in orders.items() if order.state is ReservationState.CALLING and order.lease_left <= 0]


class _Decisions:
    """Decides for one order after the other, then writes all at once."""

    def __init__(
        self,
        connection: Connection,
        caller: Caller,
        run: RunStart,
        start: _Start,
        orders: dict[str, _Order],
        *,
        calls_free: int,
    ) -> None:
        self._connection = connection
        self._caller = caller
        self._run = run
        self._start = start
        self._slots = Slots(start.gate, caller.calls_per_second)
        self._calls_free = min(calls_free, self._slots.free())
        self._new_links = NewLinks(run, start.clock_day, start.limits(caller.max_new_links_per_day))
        self._limit_reached = False
        self._own_calls = start.own_calls
        self._budgets = _budgets(connection, run, list(orders))
        self._tags = _tags(connection, run, sorted({order.tag for order in orders.values()}))
        self._wanted: list[_WantedCall] = []
        self._spares: dict[str, int] = {}
        self._moves: list[Move] = []

    @property
    def granted(self) -> int:
        """How many orders get an intent or a spare."""
        return len(self._wanted) + len(self._spares)

    def decide(self, order: _Order) -> Refusal | None:
        """Decide for one order; give the refusal where it gets no call."""
        tag = self._tags[order.tag]
        used = self._budgets.get(order.order_key, _Budget())
        step = next_step(
            OrderFacts(order.state, used.calls, used.refusals),
            RunFacts(
                stopped=self._start.stop_reason is not None,
                opened=self._start.opened,
                max_calls_per_order=self._start.max_calls_per_order,
                stop_after_refusals=self._start.stop_after_refusals,
            ),
            tag.facts(),
            calls_free=self._calls_free,
            own_calls=self._own_calls,
            links_free=self._new_links.free,
        )
        if step is Step.CALL:
            self._new_links.take()
            self._calls_free, self._own_calls = self._calls_free - 1, self._own_calls + 1
            self._wanted.append(_WantedCall(order.order_key, order.tag, tag.epoch, order.fence + 1, self._slots.take()))
            self._move(order, ReservationState.CALLING, None)
            return None
        if step is Step.USE_SPARE:
            spare = self._spares[order.order_key] = tag.spares.pop()
            self._move(order, ReservationState.RESERVED, None, spare)
            return Refusal(order.order_key, Step.DONE, ReservationState.RESERVED)
        refusal = self._refuse(order, step)
        waits_anew = step is Step.LIMIT and order.state is ReservationState.PENDING and order.reason != refusal.reason
        if order.moved or refusal.state is not order.state or waits_anew:
            self._move(order, refusal.state, refusal.reason)
        return refusal

    def write(self) -> list[Intent]:
        """Write what was decided; give the intents."""
        if self._limit_reached:
            self._new_links.note(self._connection)
        if self._spares:
            assign_spares(self._connection, self._spares)
        if self.granted:
            self._connection.execute(sql("count_grants"), {"granted": self.granted})
        # A call that waits for its slot keeps its whole deadline, so its lease lasts longer too.
        lease_seconds = self._caller.lease_seconds + max((call.wait for call in self._wanted), default=0.0)
        write_moves(self._connection, self._moves, lease_seconds=lease_seconds)
        if not self._wanted:
            return []
        written = read_rows(
            self._connection,
            _Call,
            sql("insert_attempts"),
            {
                **self._run.key,
                "caller": self._caller.name,
                "lease_seconds": lease_seconds,
                "clock_day": self._new_links.clock_day,
                "order_keys": [call.order_key for call in self._wanted],
                "tags": [call.tag for call in self._wanted],
                "epochs": [call.epoch for call in self._wanted],
                "fences": [call.fence for call in self._wanted],
            },
        )
        self._slots.write(self._connection)
        wanted = {call.order_key: call for call in self._wanted}
        return [
            Intent(
                call.attempt_id,
                call.order_key,
                wanted[call.order_key].tag,
                call.intent_id,
                wanted[call.order_key].wait,
            )
            for call in written
        ]

    def _move(self, order: _Order, state: ReservationState, reason: str | None, passport_id: int | None = None) -> None:
        self._moves.append(Move(order.order_key, state, reason, order.fence + 1, passport_id, self._run.run_id))

    def _refuse(self, order: _Order, step: Step) -> Refusal:
        """Say why an order gets no call now, and the state it has then."""
        state, reason = order.state, order.reason
        if step is Step.TAG_EMPTY:
            state, reason = ReservationState.OUT_OF_STOCK, f"tag {order.tag} is empty"
        elif step is Step.RESETTING:
            reason = f"tag {order.tag} is being reset"
        elif step is Step.STOPPED:
            reason = self._start.stop_reason
        elif step is Step.LIMIT:
            self._limit_reached = True
            reason = self._new_links.reason
        elif step is Step.EXHAUSTED:
            reason = reason or f"{self._budgets[order.order_key].calls} calls gave it nothing"
        waits = {Step.LEASED: order.lease_left, Step.WAIT: self._slots.seconds_to_wait()}
        return Refusal(order.order_key, step, state, reason, waits.get(step, 0.0))


def _budgets(connection: Connection, run: RunStart, order_keys: list[str]) -> dict[str, _Budget]:
    parameters = {**run.key, "order_keys": order_keys, "outcomes": USES_BUDGET}
    return {row.order_key: row for row in read_rows(connection, _Budget, sql("call_budgets"), parameters)}


def _tags(connection: Connection, run: RunStart, names: list[str]) -> dict[str, _Tag]:
    """Share the rows of these tags, and read what a grant must know of them."""
    tags = {name: _Tag() for name in names}
    for shared in read_rows(connection, _SharedTag, sql("share_tags"), {"tags": names}):
        tags[shared.tag] = _Tag(shared.epoch, locked=False, resetting=shared.state == TagState.RESETTING)
    if locked := [name for name, tag in tags.items() if tag.locked]:
        for (name,) in connection.execute(sql("resetting_tags"), {"tags": locked}):
            tags[name].resetting = True
    for (name,) in connection.execute(sql("empty_tags"), {**run.key, "tags": names}):
        tags[name].empty = True
    usable = {name: tag for name, tag in tags.items() if not tag.locked and not tag.resetting}
    spares = read_rows(
        connection,
        _Spare,
        sql("lock_spares"),
        {
            "tags": list(usable),
            "epochs": [tag.epoch for tag in usable.values()],
            "most": MAX_SPARES_PER_GRANT,
        },
    )
    for spare in spares:
        tags[spare.tag].spares.append(spare.passport_id)
    return tags
