"""Plans of runs: extractions are taken in and orders are assigned to tasks."""

from datetime import date, timedelta

import pytest

from include.campaigns import OnUnknown
from include.ledger.session import LedgerError
from include.ledger.states import ReservationState
from include.orders import RejectReason
from include.outcomes import AttemptOutcome
from tests.builders.world import DAY, World, a_link, an_answer, attempt_of, order, plan

A, R = AttemptOutcome, ReservationState
NEXT_DAY, DAY_BEFORE = DAY + timedelta(days=1), DAY - timedelta(days=1)


def test_a_new_key_waits_for_its_link(here: World) -> None:
    here.register(order("A1"))
    assert here.states("A1", "B2") == {"A1": (R.PENDING, None)}
    assert here.runs.orders_of_days([DAY]) == {"A1": (R.PENDING, None)}
    assert here.runs.orders_of_days([NEXT_DAY]) == {}


def test_a_known_key_that_waits_follows_its_campaign(here: World) -> None:
    here.register(order("A1"))
    here.register(order("A1", tag="gift-2", on_unknown=OnUnknown.HOLD))
    assert here.one("select tag from passport_ops.reservation") == "gift-2"
    assert here.one("select on_unknown from passport_ops.reservation") == "hold"


def test_a_key_with_a_link_is_left_alone_by_an_extraction(here: World) -> None:
    run = here.planned("A1")
    here.served(run, "A1")
    here.register(order("A1", tag="gift-2"))
    assert here.state("A1") is R.RESERVED
    assert here.one("select tag from passport_ops.reservation") == "gift"


def test_an_unserved_key_that_is_gone_is_cancelled_and_comes_back(here: World) -> None:
    here.register(order("A1"), order("B2"))
    here.register(order("A1"))
    assert (here.state("A1"), here.state("B2")) == (R.PENDING, R.CANCELLED)
    here.register(order("A1"), order("B2"))
    assert here.states("B2") == {"B2": (R.PENDING, None)}


def test_a_key_of_a_day_that_was_not_read_is_not_cancelled(here: World) -> None:
    here.register(order("A1", day=DAY_BEFORE), days=(DAY_BEFORE,))
    here.register(days=(DAY,))
    assert here.state("A1") is R.PENDING


def test_a_key_that_is_served_or_being_asked_for_is_not_cancelled(here: World) -> None:
    run = here.planned("A1", "B2")
    here.served(run, "A1")
    here.intend(run, "B2")
    here.register()
    assert (here.state("A1"), here.state("B2")) == (R.RESERVED, R.CALLING)


def test_a_cancelled_orders_last_call_is_unknown_and_its_late_link_becomes_a_spare(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.end_leases()
    here.register()
    assert (here.state("A1"), here.outcome(intent)) == (R.CANCELLED, "unknown")
    settled = here.answer(intent, a_link("77"))
    assert (settled.outcome, settled.state, settled.late) == (A.SPARE, R.CANCELLED, True)
    assert here.passports() == [("77", "spare", None)]


def test_rejected_rows_are_named_once_per_reason(here: World) -> None:
    rows = [
        order("A1", row_number=number, order_key=None, reason=RejectReason.MISSING_KEY, detail="it has no key")
        for number in (1, 2)
    ]
    for _ in range(2):
        here.register(*rows)
    assert here.rows.execute("select row_key, reason, detail from passport_ops.rejected_row").fetchall() == [
        ("order_id A1, paid at 2026-11-22T12:00:00+00:00", "missing_key", "it has no key")
    ]


def test_a_run_gets_one_task_per_order_oldest_first(here: World) -> None:
    here.register(order("B2"), order("A1", paid_at=order("A1").paid_at + timedelta(hours=1)), order("C3"))
    planned = here.runs.plan_run(plan())
    assert (planned.sliced, planned.orders, planned.labels) == (False, 3, ["B2", "C3", "A1"])
    assert here.runs.is_sliced("run") is False
    assert [here.runs.orders_of_task("run", index) for index in (0, 2, 9)] == [
        (False, ["B2"]),
        (False, ["A1"]),
        (False, []),
    ]


def test_above_the_limit_a_run_is_assigned_to_slices(here: World) -> None:
    here.register(*(order(f"A{n}") for n in range(5)))
    planned = here.runs.plan_run(plan(per_order_limit=4, max_tasks=2))
    assert (planned.sliced, planned.orders) == (True, 5)
    assert planned.labels == ["slice 1 of 2: 3 orders", "slice 2 of 2: 2 orders"]
    assert here.runs.is_sliced("run") is True
    assert here.runs.orders_of_task("run", 0) == (True, ["A0", "A2", "A4"])
    assert here.runs.orders_of_task("run", 1) == (True, ["A1", "A3"])


def test_a_run_planned_again_is_assigned_what_is_left(here: World) -> None:
    run = here.planned("A1", "B2")
    here.served(run, "A1")
    assert here.runs.plan_run(plan()).labels == ["B2"]
    assert here.runs.orders_of_task("run", 0) == (False, ["B2"])
    assert here.runs.orders_of_task("run", 1) == (False, [])


def test_a_held_order_waits_for_a_person_and_gets_no_task(here: World) -> None:
    run = here.planned("A1")
    here.answer(here.intend(run, "A1"), an_answer(A.UNREADABLE))
    assert here.runs.plan_run(plan()).labels == []


def test_a_run_serves_only_the_campaigns_it_was_asked_for(here: World) -> None:
    here.register(order("A1"), order("B2", campaign="watch"))
    assert here.runs.plan_run(plan(campaigns=("watch",))).labels == ["B2"]


def test_unserved_orders_carry_over_to_a_scheduled_run_until_their_campaigns_end(here: World) -> None:
    here.register(
        order("OLD", day=DAY_BEFORE, carry_until=DAY),
        order("GONE", day=DAY_BEFORE, carry_until=DAY_BEFORE),
        order("NEW"),
        days=(DAY_BEFORE, DAY),
    )
    assert here.runs.unserved_days(DAY) == [DAY_BEFORE]
    assert here.runs.unserved_days(NEXT_DAY) == [DAY]
    assert here.runs.plan_run(plan("scheduled", scheduled=True)).labels == ["OLD", "NEW"]
    assert here.runs.plan_run(plan("by hand")).labels == ["NEW"]


def test_an_order_later_than_the_run_is_not_carried_back(here: World) -> None:
    here.register(order("A1", day=NEXT_DAY), days=(NEXT_DAY,), run_id="of the next day")
    assert here.runs.plan_run(plan(scheduled=True)).labels == []


def test_a_run_that_was_never_planned_is_said_so(here: World) -> None:
    here.register(order("A1"))
    with pytest.raises(LedgerError, match="run other was never planned in this warehouse: clear its extract_orders"):
        here.grant(attempt_of("other"), "A1")
    with pytest.raises(LedgerError, match="run other was never planned"):
        here.runs.is_sliced("other")
    with pytest.raises(LedgerError, match="run other was never planned"):
        here.runs.orders_of_task("other", 0)


def test_the_day_of_a_carried_over_order_stays_its_own(here: World) -> None:
    here.register(order("A1", day=DAY_BEFORE), days=(DAY_BEFORE,))
    here.runs.plan_run(plan(scheduled=True))
    here.open(attempt_of())
    here.served(attempt_of(), "A1")
    assert here.runs.orders_of_days([DAY_BEFORE]) == {"A1": (R.RESERVED, None)}
    assert here.one("select business_day from passport_ops.reservation") == date(2026, 11, 21)
