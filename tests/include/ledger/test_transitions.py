"""The rules of docs/lifecycle.md, row by row, without a database."""

from typing import Any

import pytest

from include.ledger.states import PassportState, ReservationState
from include.ledger.transitions import (
    STATE_AFTER,
    Answered,
    Holder,
    OrderFacts,
    RunFacts,
    Step,
    TagFacts,
    next_step,
    settle_link,
    state_after,
    state_after_unknown,
)
from include.outcomes import AttemptOutcome

R, P, A = ReservationState, PassportState, AttemptOutcome


def step(*, calls_free: int = 1, own_calls: int = 0, links_free: int = 1, **standing: Any) -> Step:
    """What an order may do that waits in an open run under an open tag, unless said otherwise."""
    order = {"state": R.PENDING, "calls_used": 0, "refusals": 0}
    run = {"stopped": False, "opened": True, "max_calls_per_order": 2, "stop_after_refusals": 3}
    tag = {"resetting": False, "locked": False, "empty": False, "has_spare": False}
    for known in (order, run, tag):
        known.update({name: standing.pop(name) for name in list(standing) if name in known})
    assert not standing
    return next_step(
        OrderFacts(**order),
        RunFacts(**run),
        TagFacts(**tag),
        calls_free=calls_free,
        own_calls=own_calls,
        links_free=links_free,
    )


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (R.PENDING, Step.CALL),
        (R.OUT_OF_STOCK, Step.CALL),
        (R.UNKNOWN, Step.CALL),
        (R.CALLING, Step.LEASED),
        (R.RESERVED, Step.DONE),
        (R.CLAIMED, Step.DONE),
        (R.HELD, Step.DONE),
        (R.CANCELLED, Step.DONE),
        (R.CLOSED, Step.DONE),
        (R.RESET, Step.DONE),
    ],
)
def test_only_a_waiting_order_is_asked_for(state: ReservationState, expected: Step) -> None:
    assert step(state=state) is expected


def test_every_state_has_a_row_above() -> None:
    assert len(ReservationState) == 10


@pytest.mark.parametrize("state", [R.RESERVED, R.CLAIMED, R.HELD, R.CANCELLED, R.CLOSED, R.RESET, R.CALLING])
def test_no_spare_is_given_to_an_order_that_wants_none(state: ReservationState) -> None:
    assert step(state=state, has_spare=True) in (Step.DONE, Step.LEASED)


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        ({"resetting": True, "has_spare": True}, Step.RESETTING),
        ({"resetting": True, "locked": True}, Step.RESETTING),
        ({"locked": True, "has_spare": True}, Step.WAIT),
        ({"has_spare": True, "stopped": True}, Step.USE_SPARE),
        ({"has_spare": True, "empty": True}, Step.USE_SPARE),
        ({"has_spare": True, "calls_used": 2}, Step.USE_SPARE),
        ({"has_spare": True, "calls_free": 0}, Step.USE_SPARE),
        ({"calls_used": 1}, Step.CALL),
        ({"calls_used": 2}, Step.EXHAUSTED),
        ({"calls_used": 2, "stopped": True}, Step.EXHAUSTED),
        ({"refusals": 2}, Step.CALL),
        ({"refusals": 3}, Step.EXHAUSTED),
        ({"has_spare": True, "refusals": 3}, Step.USE_SPARE),
        ({"stopped": True}, Step.STOPPED),
        ({"stopped": True, "empty": True}, Step.STOPPED),
        ({"empty": True}, Step.TAG_EMPTY),
        ({"empty": True, "calls_free": 0}, Step.TAG_EMPTY),
        ({"links_free": 0}, Step.LIMIT),
        ({"links_free": 0, "calls_free": 0, "opened": False}, Step.LIMIT),
        ({"links_free": 0, "empty": True}, Step.TAG_EMPTY),
        ({"links_free": 0, "stopped": True}, Step.STOPPED),
        ({"links_free": 0, "has_spare": True}, Step.USE_SPARE),
        ({"calls_free": 0}, Step.WAIT),
        ({"calls_free": -3}, Step.WAIT),
        ({"opened": False}, Step.CALL),
        ({"opened": False, "own_calls": 1}, Step.WAIT),
        ({"opened": True, "own_calls": 31}, Step.CALL),
    ],
)
def test_what_stands_against_a_call(standing: dict[str, Any], expected: Step) -> None:
    assert step(**standing) is expected


@pytest.mark.parametrize(("holds", "expected"), [(False, R.UNKNOWN), (True, R.HELD)])
def test_after_an_unknown_outcome_the_campaign_says_whether_the_order_asks_again(
    holds: bool, expected: ReservationState
) -> None:
    assert state_after_unknown(holds) is expected
    assert state_after(A.UNKNOWN, holds_on_unknown=holds) is expected
    assert state_after(A.REDIRECTED, holds_on_unknown=holds) is expected
    assert state_after(A.THROTTLED, holds_on_unknown=holds) is R.PENDING
    assert state_after(A.UNREADABLE, holds_on_unknown=holds) is R.HELD


def answered(**fields: Any) -> Answered:
    """An answer that is on time, for an order without a passport."""
    return Answered(
        **{
            "order_key": "A1",
            "epoch": 3,
            "fence": 7,
            "order_state": R.CALLING,
            "order_fence": 7,
            "order_has_passport": False,
            "tag_epoch": 3,
            "tag_resetting": False,
            **fields,
        }
    )


SPARE = Holder(5, P.SPARE, None)
OWN = Holder(5, P.ASSIGNED, "A1")
OTHERS = Holder(5, P.ASSIGNED, "B2")
CLAIMED = Holder(5, P.CLAIMED, "B2")
SERVED = {"order_state": R.RESERVED, "order_fence": 8, "order_has_passport": True}
LATE = {"order_fence": 9}


@pytest.mark.parametrize(
    ("fields", "holder", "outcome", "passport", "order_state", "promote"),
    [
        pytest.param({}, None, A.RESERVED, P.ASSIGNED, R.RESERVED, None, id="on time"),
        pytest.param({}, SPARE, A.RESERVED, None, R.RESERVED, 5, id="on time, the certificate is a spare"),
        pytest.param({}, OTHERS, A.DUPLICATE, P.ENDED, R.PENDING, None, id="on time, another order's certificate"),
        pytest.param({}, CLAIMED, A.DUPLICATE, P.ENDED, R.PENDING, None, id="on time, a claimed certificate"),
        pytest.param({"tag_epoch": 4}, None, A.ENDED, P.ENDED, R.PENDING, None, id="on time, an older epoch"),
        pytest.param({"tag_epoch": 4}, SPARE, A.ENDED, P.ENDED, R.PENDING, None, id="older epoch, now a spare"),
        pytest.param({"tag_epoch": 4}, OTHERS, A.ENDED, P.ENDED, R.PENDING, None, id="older epoch, now another's"),
        pytest.param(LATE, None, A.RESERVED, P.ASSIGNED, R.RESERVED, None, id="late, called for again"),
        pytest.param(LATE, OTHERS, A.DUPLICATE, P.ENDED, None, None, id="late, another order's certificate"),
        pytest.param(LATE | {"tag_epoch": 4}, None, A.ENDED, P.ENDED, None, None, id="late, an older epoch"),
        pytest.param({"tag_resetting": True}, None, A.RESERVED, P.ASSIGNED, R.RESERVED, None, id="on time, resetting"),
        pytest.param(LATE | {"tag_resetting": True}, None, A.ENDED, P.ENDED, None, None, id="late, resetting"),
        pytest.param(SERVED, None, A.SPARE, P.SPARE, None, None, id="late, already served"),
        pytest.param(SERVED, SPARE, A.SPARE, None, None, None, id="late, served, the certificate is a spare"),
        pytest.param(SERVED, OWN, A.RESERVED, None, None, None, id="the order's own certificate once more"),
        pytest.param(SERVED, OTHERS, A.DUPLICATE, P.ENDED, None, None, id="late, served, another's certificate"),
        pytest.param(SERVED | {"tag_epoch": 4}, None, A.ENDED, P.ENDED, None, None, id="late, served, older epoch"),
        *[
            pytest.param(
                LATE | {"order_state": state}, None, A.RESERVED, P.ASSIGNED, R.RESERVED, None, id=f"late, {state}"
            )
            for state in (R.PENDING, R.OUT_OF_STOCK, R.UNKNOWN, R.HELD)
        ],
        *[
            pytest.param(LATE | {"order_state": state}, None, A.SPARE, P.SPARE, None, None, id=f"late, {state}")
            for state in (R.CANCELLED, R.CLOSED, R.RESET)
        ],
    ],
)
def test_what_becomes_of_a_passport(
    fields: dict[str, Any],
    holder: Holder | None,
    outcome: AttemptOutcome,
    passport: PassportState | None,
    order_state: ReservationState | None,
    promote: int | None,
) -> None:
    settled = settle_link(answered(**fields), holder)
    assert (settled.outcome, settled.passport, settled.order_state, settled.promote) == (
        outcome,
        passport,
        order_state,
        promote,
    )


@pytest.mark.parametrize(
    ("fields", "holder", "reason"),
    [({"tag_epoch": 4}, None, "old_epoch"), ({}, OTHERS, "duplicate"), ({}, None, None), (SERVED, None, None)],
)
def test_an_ended_passport_says_why(fields: dict[str, Any], holder: Holder | None, reason: str | None) -> None:
    assert settle_link(answered(**fields), holder).end_reason == reason


@pytest.mark.parametrize(
    ("state", "fence", "on_time"),
    [(R.CALLING, 7, True), (R.CALLING, 8, False), (R.PENDING, 7, False), (R.RESERVED, 7, False), (R.UNKNOWN, 8, False)],
)
def test_an_answer_is_on_time_while_nobody_took_the_order_over(state: R, fence: int, on_time: bool) -> None:
    assert answered(order_state=state, order_fence=fence).on_time is on_time


def test_each_answer_without_a_usable_link_has_one_state_for_its_order() -> None:
    assert dict(STATE_AFTER) == {
        A.NOT_SENT: R.PENDING,
        A.OUT_OF_STOCK: R.OUT_OF_STOCK,
        A.THROTTLED: R.PENDING,
        A.REFUSED: R.PENDING,
        A.REDIRECTED: R.UNKNOWN,
        A.UNKNOWN: R.UNKNOWN,
        A.UNREADABLE: R.HELD,
        A.WRONG_LINK: R.HELD,
    }


def test_every_other_outcome_is_one_that_a_link_can_have() -> None:
    assert set(AttemptOutcome) - set(STATE_AFTER) == {A.RESERVED, A.DUPLICATE, A.SPARE, A.ENDED}
