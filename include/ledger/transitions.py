"""What may happen to an order, decided without a database: the ledger reads, these functions decide, the ledger writes.

Follows ``docs/lifecycle.md``. Nothing here sees a link.
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from include.ledger.states import PassportState, ReservationState
from include.outcomes import AttemptOutcome

FINAL = frozenset(
    {
        ReservationState.RESERVED,
        ReservationState.CLAIMED,
        ReservationState.RESET,
        ReservationState.HELD,
        ReservationState.CANCELLED,
        ReservationState.CLOSED,
    }
)
"""States in which a run has nothing left to do for an order."""

NOT_WANTED = frozenset({ReservationState.CANCELLED, ReservationState.CLOSED, ReservationState.RESET})
"""States in which an order has no link and wants none."""


STATE_AFTER = MappingProxyType(
    {
        AttemptOutcome.NOT_SENT: ReservationState.PENDING,
        AttemptOutcome.OUT_OF_STOCK: ReservationState.OUT_OF_STOCK,
        AttemptOutcome.THROTTLED: ReservationState.PENDING,
        AttemptOutcome.REFUSED: ReservationState.PENDING,
        AttemptOutcome.REDIRECTED: ReservationState.UNKNOWN,
        AttemptOutcome.UNKNOWN: ReservationState.UNKNOWN,
        AttemptOutcome.UNREADABLE: ReservationState.HELD,
        AttemptOutcome.WRONG_LINK: ReservationState.HELD,
    }
)
"""The state of an order after an answer without a usable link; ``settle_link`` decides for the others."""


def state_after_unknown(holds_on_unknown: bool) -> ReservationState:
    """Give the state of an order after a call of unknown outcome: its campaign says whether it may ask again."""
    return ReservationState.HELD if holds_on_unknown else ReservationState.UNKNOWN


def state_after(outcome: AttemptOutcome, *, holds_on_unknown: bool) -> ReservationState:
    """Give the state of an order after an answer without a usable link."""
    state = STATE_AFTER[outcome]
    return state_after_unknown(holds_on_unknown) if state is ReservationState.UNKNOWN else state


class Step(StrEnum):
    """What a request for a link leads to, before any call."""

    CALL = "call"  # commit an intent
    USE_SPARE = "use_spare"  # a passport received earlier is there
    DONE = "done"  # nothing to ask: the order's state says it all
    TAG_EMPTY = "tag_empty"  # its tag is empty for this start of the run
    STOPPED = "stopped"  # this start of the run has stopped calling
    LIMIT = "limit"  # the run or the day has its new links
    RESETTING = "resetting"  # its tag is being reset
    EXHAUSTED = "exhausted"  # its budget of calls is used up
    LEASED = "leased"  # somebody's call for it may still be under way
    WAIT = "wait"  # no call may begin just now
    NO_SUCH_ORDER = "no_such_order"  # the ledger does not know it


@dataclass(frozen=True)
class OrderFacts:
    """One order as a grant finds it: its state, the calls of its budget that are used, and the calls refused for it."""

    state: ReservationState
    calls_used: int
    refusals: int


@dataclass(frozen=True)
class RunFacts:
    """A start of a run as a grant finds it; ``opened`` after its first usable answer."""

    stopped: bool
    opened: bool
    max_calls_per_order: int
    stop_after_refusals: int


@dataclass(frozen=True)
class TagFacts:
    """A tag as a grant finds it; ``locked`` where somebody else is writing its row right now."""

    resetting: bool
    locked: bool
    empty: bool
    has_spare: bool


def next_step(
    order: OrderFacts, run: RunFacts, tag: TagFacts, *, calls_free: int, own_calls: int, links_free: int
) -> Step:
    """Decide what to do for an order that asks for a link.

    ``calls_free`` is how many more calls may begin over all runs and processes, ``own_calls`` how many this start of
    the run has under way, ``links_free`` how many new links the limits leave. An order whose lease has ended is given
    in its ``state_after_unknown``.
    """
    if order.state in FINAL:
        return Step.DONE
    if order.state is ReservationState.CALLING:
        return Step.LEASED
    step = _step_by_tag(order, run, tag)
    if step is not Step.CALL:
        return step
    if links_free <= 0:
        return Step.LIMIT
    first_call_alone = not run.opened and own_calls > 0
    return Step.WAIT if first_call_alone or calls_free <= 0 else Step.CALL


def _step_by_tag(order: OrderFacts, run: RunFacts, tag: TagFacts) -> Step:
    if tag.resetting:
        return Step.RESETTING
    if tag.locked:
        return Step.WAIT
    if tag.has_spare:
        return Step.USE_SPARE
    if order.calls_used >= run.max_calls_per_order or order.refusals >= run.stop_after_refusals:
        return Step.EXHAUSTED
    if run.stopped:
        return Step.STOPPED
    return Step.TAG_EMPTY if tag.empty else Step.CALL


@dataclass(frozen=True)
class Holder:
    """Who has a certificate now: ``state`` is assigned, spare or claimed."""

    passport_id: int
    state: PassportState
    order_key: str | None


@dataclass(frozen=True)
class Answered:
    """One answered call as the ledger finds it, its order locked."""

    order_key: str
    epoch: int
    fence: int
    order_state: ReservationState
    order_fence: int
    order_has_passport: bool
    tag_epoch: int
    tag_resetting: bool = False

    @property
    def on_time(self) -> bool:
        """True while nobody took the order over: the answer may move it."""
        return self.order_state is ReservationState.CALLING and self.order_fence == self.fence


@dataclass(frozen=True)
class LinkSettled:
    """What becomes of a 200 with a link, also with one that is not accepted.

    ``outcome`` is the call's. ``passport`` is the state in which the passport is kept, or None where the certificate
    has a row already. ``promote`` is the spare that becomes the order's. ``order_state`` is the order's next state, or
    None where it does not change. ``end_reason`` says why an ended passport ended.
    """

    outcome: AttemptOutcome
    passport: PassportState | None
    order_state: ReservationState | None
    promote: int | None = None
    end_reason: str | None = None


def withhold_link(answered: Answered) -> LinkSettled:
    """Decide what becomes of a link of the wrong host or environment: it may be accepted later, before a reset."""
    held = ReservationState.HELD if answered.on_time else None
    if _is_of_before_a_reset(answered):
        return LinkSettled(AttemptOutcome.WRONG_LINK, PassportState.ENDED, held, end_reason="old_epoch")
    return LinkSettled(AttemptOutcome.WRONG_LINK, PassportState.WITHHELD, held)


def _is_of_before_a_reset(answered: Answered) -> bool:
    # a reset under way has waited for calls on time; what comes late may be of what it takes back
    return answered.epoch < answered.tag_epoch or (answered.tag_resetting and not answered.on_time)


def settle_link(answered: Answered, holder: Holder | None) -> LinkSettled:
    """Decide what becomes of a 200 with a link, given who has its certificate now."""
    freed = ReservationState.PENDING if answered.on_time else None
    if _is_of_before_a_reset(answered):
        return LinkSettled(AttemptOutcome.ENDED, PassportState.ENDED, freed, end_reason="old_epoch")
    wanted = not answered.order_has_passport and answered.order_state not in NOT_WANTED
    if holder is None:
        if wanted:
            return LinkSettled(AttemptOutcome.RESERVED, PassportState.ASSIGNED, ReservationState.RESERVED)
        return LinkSettled(AttemptOutcome.SPARE, PassportState.SPARE, None)
    if holder.state is PassportState.SPARE:
        if wanted:
            return LinkSettled(AttemptOutcome.RESERVED, None, ReservationState.RESERVED, promote=holder.passport_id)
        return LinkSettled(AttemptOutcome.SPARE, None, None)
    if holder.order_key == answered.order_key:
        return LinkSettled(AttemptOutcome.RESERVED, None, None)
    return LinkSettled(AttemptOutcome.DUPLICATE, PassportState.ENDED, freed, end_reason="duplicate")
