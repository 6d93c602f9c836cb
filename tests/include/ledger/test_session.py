"""Every transition of the ledger, on a real PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import psycopg
import pytest

from include.attention.deciding import Action, resolve
from include.campaigns import OnUnknown
from include.ledger.granting import Intent
from include.ledger.leases import lapse_calls_of_tag
from include.ledger.run_starts import RunStart
from include.ledger.session import LedgerError
from include.ledger.states import ReservationState
from include.ledger.transitions import Step
from include.nmp.answers import CallFailure, RawAnswer
from include.orders import RejectReason
from include.outcomes import AttemptOutcome
from include.sql_files import sql_of
from include.warehouse.database import SafeDatabaseError
from local.postgres import EmbeddedPostgres
from tests.include.planned import DAY, RAW, World, a_link, an_answer, attempt_of, order, plan, world

reset_sql = sql_of("include.resets")

A, R = AttemptOutcome, ReservationState
NEXT_DAY, DAY_BEFORE = DAY + timedelta(days=1), DAY - timedelta(days=1)


@pytest.fixture
def here(emptied_warehouse: str) -> Iterator[World]:
    with world(emptied_warehouse) as made:
        yield made


# -- planning ----------------------------------------------------------------------------------------------------------


def test_a_new_key_waits_for_its_link(here: World) -> None:
    here.register(order("A1"))
    assert here.states("A1", "B2") == {"A1": (R.PENDING, None)}
    assert here.runs.orders_of_day(DAY) == {"A1": (R.PENDING, None)}
    assert here.runs.orders_of_day(NEXT_DAY) == {}


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


def test_above_the_limit_a_run_is_dealt_into_slices(here: World) -> None:
    here.register(*(order(f"A{n}") for n in range(5)))
    planned = here.runs.plan_run(plan(per_order_limit=4, max_tasks=2))
    assert (planned.sliced, planned.orders) == (True, 5)
    assert planned.labels == ["slice 1 of 2: 3 orders", "slice 2 of 2: 2 orders"]
    assert here.runs.is_sliced("run") is True
    assert here.runs.orders_of_task("run", 0) == (True, ["A0", "A2", "A4"])
    assert here.runs.orders_of_task("run", 1) == (True, ["A1", "A3"])


def test_a_run_planned_again_is_dealt_what_is_left(here: World) -> None:
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
    here.register(order("A1", day=NEXT_DAY), days=(NEXT_DAY,))
    assert here.runs.plan_run(plan(scheduled=True)).labels == []


def test_a_run_that_was_never_planned_is_said_so(here: World) -> None:
    here.register(order("A1"))
    with pytest.raises(LedgerError, match="run other was never planned in this warehouse: clear its extract_orders"):
        here.grant(attempt_of("other"), "A1")
    with pytest.raises(LedgerError, match="run other was never planned"):
        here.runs.is_sliced("other")
    with pytest.raises(LedgerError, match="run other was never planned"):
        here.runs.orders_of_task("other", 0)


# -- intents -----------------------------------------------------------------------------------------------------------


def test_an_intent_stands_with_its_lease_before_its_call(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    assert (intent.order_key, intent.tag, here.state("A1")) == ("A1", "gift", R.CALLING)
    assert here.one("select lease_until - intended_at <= interval '60 s' from passport_ops.attempt")
    assert here.one("select lease_until > clock_timestamp() + interval '50 s' from passport_ops.attempt")
    assert here.one("select caller from passport_ops.attempt") == "worker 1"


def test_an_order_under_way_is_leased_and_says_for_how_long(here: World) -> None:
    run = here.planned("A1")
    here.intend(run, "A1")
    refusal = here.refused(run, "A1", by=here.worker("worker 2"))
    assert refusal.step is Step.LEASED
    assert 50 < refusal.wait <= 60


def test_an_unknown_key_is_refused_and_the_others_go_on(here: World) -> None:
    run = here.planned("A1")
    grant = here.grant(run, "NOPE", "A1")
    assert [intent.order_key for intent in grant.intents] == ["A1"]
    assert [(refusal.order_key, refusal.step) for refusal in grant.refusals] == [("NOPE", Step.NO_SUCH_ORDER)]


def test_asking_for_a_served_order_costs_nothing(here: World) -> None:
    run = here.planned("A1")
    here.served(run, "A1")
    assert here.refused(run, "A1").step is Step.DONE
    assert here.refused(here.planned("A1", run_id="other"), "A1").state is R.RESERVED
    assert here.one("select count(*) from passport_ops.attempt") == 1


def test_the_first_call_of_a_run_goes_alone(here: World) -> None:
    run = here.planned("A1", "B2", opened=False)
    grant = here.grant(run, "A1", "B2")
    assert [intent.order_key for intent in grant.intents] == ["A1"]
    assert [(refusal.order_key, refusal.step) for refusal in grant.refusals] == [("B2", Step.WAIT)]
    assert here.refused(run, "B2", by=here.worker("worker 2")).step is Step.WAIT
    here.answer(grant.intents[0], a_link())
    assert here.intend(run, "B2").order_key == "B2"


@pytest.mark.parametrize("outcome", [A.NOT_SENT, A.THROTTLED, A.UNKNOWN, A.UNREADABLE])
def test_an_answer_that_is_not_usable_does_not_open_the_run(here: World, outcome: AttemptOutcome) -> None:
    run = here.planned("A1", "B2", "C3", opened=False)
    here.answer(here.intend(run, "A1"), an_answer(outcome))
    assert [intent.order_key for intent in here.grant(run, "B2", "C3").intents] == ["B2"]


def test_an_empty_tag_opens_the_run_as_a_link_does(here: World) -> None:
    run = here.planned("A1", opened=False)
    here.register(order("A1"), order("B2", tag="other"), order("C3", tag="other"))
    here.answer(here.intend(run, "A1"), an_answer(A.OUT_OF_STOCK))
    assert len(here.grant(run, "B2", "C3").intents) == 2


def test_each_run_has_a_first_call_of_its_own(here: World) -> None:
    first = here.planned("A1", "B2", run_id="first", opened=False)
    second = here.planned("A1", "B2", run_id="second", opened=False)
    here.intend(first, "A1")
    assert here.intend(second, "B2").order_key == "B2"


def test_one_cap_holds_over_all_ledgers_and_runs(emptied_warehouse: str) -> None:
    with world(emptied_warehouse, concurrency=3) as here:
        keys = [f"A{n}" for n in range(6)]
        first, second = here.planned(*keys, run_id="first"), here.planned(*keys, run_id="second")
        assert len(here.grant(first, *keys[:2]).intents) == 2
        other = here.grant(second, *keys[2:], by=here.worker("worker 2"))
        assert len(other.intents) == 1
        assert {refusal.step for refusal in other.refusals} == {Step.WAIT}
        here.answer(other.intents[0], a_link())
        assert len(here.grant(first, *keys[3:]).intents) == 1


def test_a_lease_that_ended_no_longer_counts_against_the_cap(emptied_warehouse: str) -> None:
    with world(emptied_warehouse, concurrency=1) as here:
        run = here.planned("A1", "B2")
        here.intend(run, "A1")
        assert here.refused(run, "B2").step is Step.WAIT
        here.end_leases()
        assert here.intend(run, "B2").order_key == "B2"


def test_a_cleared_run_makes_its_first_call_beside_those_of_before_the_clear(here: World) -> None:
    run = here.planned("A1", "B2", opened=False)
    here.intend(run, "A1")
    assert here.intend(attempt_of(clear=1), "B2").order_key == "B2"


def test_no_more_intents_than_slots(here: World) -> None:
    run = here.planned("A1", "B2", "C3")
    assert [intent.order_key for intent in here.grant(run, "A1", "B2", "C3", slots=2).intents] == ["A1", "B2"]


# -- answers -----------------------------------------------------------------------------------------------------------


def test_a_link_makes_its_order_reserved(here: World) -> None:
    settled = here.served(here.planned("A1"), "A1", "440105186")
    assert (settled.outcome, settled.state, settled.late) == (A.RESERVED, R.RESERVED, False)
    assert here.passports() == [("440105186", "assigned", "A1")]
    assert here.one("select reserved_at is not null and lease_until is null from passport_ops.reservation")
    assert here.one(
        "select certificate_id from passport_ops.passport join passport_ops.reservation using (passport_id)"
    )


@pytest.mark.parametrize(
    ("outcome", "state", "uses_budget"),
    [
        (A.NOT_SENT, R.PENDING, False),
        (A.THROTTLED, R.PENDING, False),
        (A.REFUSED, R.PENDING, False),
        (A.OUT_OF_STOCK, R.OUT_OF_STOCK, False),
        (A.REDIRECTED, R.UNKNOWN, True),
        (A.UNKNOWN, R.UNKNOWN, True),
        (A.UNREADABLE, R.HELD, True),
        (A.WRONG_LINK, R.HELD, True),
    ],
)
def test_an_answer_without_a_link_moves_its_order_by_the_table(
    here: World, outcome: AttemptOutcome, state: ReservationState, uses_budget: bool
) -> None:
    run = here.planned("A1", max_calls_per_order=1)
    intent = here.intend(run, "A1")
    settled = here.answer(intent, an_answer(outcome))
    assert (settled.outcome, settled.state, settled.reason) == (outcome, state, f"an answer that is {outcome}")
    assert (here.state("A1"), here.outcome(intent)) == (state, outcome)
    if state is not R.HELD:
        expected = {
            A.NOT_SENT: None,
            A.THROTTLED: None,
            A.REFUSED: Step.STOPPED,
            A.OUT_OF_STOCK: Step.TAG_EMPTY,
            A.REDIRECTED: Step.EXHAUSTED,
            A.UNKNOWN: Step.EXHAUSTED,
        }[outcome]
        grant = here.grant(run, "A1")
        assert [refusal.step for refusal in grant.refusals] == ([expected] if expected else [])
        assert uses_budget == (expected is Step.EXHAUSTED)


@pytest.mark.parametrize("outcome", [A.UNREADABLE, A.WRONG_LINK])
def test_an_answer_that_only_a_person_can_read_is_kept(here: World, outcome: AttemptOutcome) -> None:
    run = here.planned("A1")
    here.answer(here.intend(run, "A1"), an_answer(outcome))
    assert here.answers_left() == 1


@pytest.mark.parametrize("outcome", [A.NOT_SENT, A.THROTTLED, A.REFUSED, A.OUT_OF_STOCK, A.REDIRECTED, A.UNKNOWN])
def test_an_answer_that_was_read_is_erased(here: World, outcome: AttemptOutcome) -> None:
    run = here.planned("A1")
    here.answer(here.intend(run, "A1"), an_answer(outcome))
    assert here.answers_left() == 0


def test_a_raw_answer_stands_as_it_came_until_it_is_read(here: World) -> None:
    run = here.planned("A1", "B2")
    link, lost = here.intend(run, "A1"), here.intend(run, "B2")
    answers = {
        link.attempt_id: RawAnswer(200, b"\x00\xff body", retry_after="3"),
        lost.attempt_id: RawAnswer(None, b"", failure=CallFailure.RESET, error="ConnectionResetError"),
    }
    here.ledger.keep_answers(answers)
    assert here.ledger.kept_answers([link.attempt_id, lost.attempt_id, 999]) == answers
    here.ledger.settle({link.attempt_id: a_link()})
    assert list(here.ledger.kept_answers([link.attempt_id, lost.attempt_id])) == [lost.attempt_id]


@pytest.mark.parametrize("header", ["soon\x00", "\xe9\xff", "5; \t'\\"])
def test_no_header_keeps_an_answer_from_being_kept(here: World, header: str) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RawAnswer(429, b"\x00", retry_after=header)})
    (kept,) = here.ledger.kept_answers([intent.attempt_id]).values()
    assert (kept.status, kept.body) == (429, b"\x00")


def test_the_servers_log_never_holds_an_answer_or_its_link(here: World, postgres: EmbeddedPostgres) -> None:
    run = here.planned("A1", "B2")
    link = "https://canary.example/771009,ledgercanary"
    reading = replace(a_link("771009"), link=link)
    for key in ("A1", "B2"):  # the second is a duplicate
        intent = here.intend(run, key)
        here.ledger.keep_answers({intent.attempt_id: RawAnswer(200, link.encode())})
        assert here.ledger.kept_answers([intent.attempt_id])[intent.attempt_id].body == link.encode()
        here.ledger.settle({intent.attempt_id: reading})
    log = postgres.log.read_text(errors="replace")
    assert "copy pg_temp.incoming_link" in log
    for secret in ("canary.example", "ledgercanary", link.encode().hex()):
        assert secret not in log


def test_nor_does_it_when_the_copy_of_an_answer_or_its_link_fails(here: World, postgres: EmbeddedPostgres) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    link = "https://canary.example/771010,copycanary"
    fails = "create function pg_temp.fails() returns trigger language plpgsql as $$ begin raise 'copy fails'; end $$"
    with here.ledger.transaction() as connection:
        connection.execute(fails)
        for table in ("incoming_answer", "incoming_link"):
            trigger = f"create trigger fails before insert on pg_temp.{table} for each row"
            connection.execute(f"{trigger} execute function pg_temp.fails()".encode())
    with pytest.raises(SafeDatabaseError):
        here.ledger.keep_answers({intent.attempt_id: RawAnswer(200, link.encode())})
    with pytest.raises(SafeDatabaseError):
        here.ledger.settle({intent.attempt_id: replace(a_link("771010"), link=link)})
    log = postgres.log.read_text(errors="replace")
    assert log.count("ERROR:  copy fails") >= 2
    for secret in ("canary.example/771010", "copycanary", link.encode().hex()):
        assert secret not in log


def test_keeping_an_answer_twice_keeps_the_first(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RAW})
    here.ledger.keep_answers({intent.attempt_id: RawAnswer(500, b"other")})
    assert here.ledger.kept_answers([intent.attempt_id]) == {intent.attempt_id: RAW}


def test_a_link_is_settled_once(here: World) -> None:
    run = here.planned("A1")
    intent, link = here.intend(run, "A1"), a_link("77")
    assert len(here.ledger.settle({intent.attempt_id: link})) == 1
    assert here.ledger.settle({intent.attempt_id: link}) == []
    assert here.passports() == [("77", "assigned", "A1")]


def test_an_unknown_outcome_is_settled_once(here: World) -> None:
    run = here.planned("A1", max_unknown_per_run=2)
    intent = here.intend(run, "A1")
    here.ledger.settle({intent.attempt_id: an_answer(A.UNKNOWN)})
    assert here.ledger.settle({intent.attempt_id: an_answer(A.UNKNOWN)}) == []
    assert here.one("select unknown_count from passport_ops.run_attempt") == 1
    assert here.one("select late from passport_ops.attempt") is False


def test_a_call_that_lapsed_and_then_timed_out_counts_as_one_unknown(here: World) -> None:
    run = here.planned("A1", max_unknown_per_run=2)
    intent = here.intend(run, "A1")
    here.end_leases()
    here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RawAnswer(None, b"", failure=CallFailure.TIMEOUT)})
    here.ledger.settle({intent.attempt_id: an_answer(A.UNKNOWN)})
    assert here.one("select unknown_count from passport_ops.run_attempt") == 1
    assert here.stop_reason(run) is None
    assert here.answers_left() == 0


def test_an_answer_kept_again_after_it_was_settled_is_erased(here: World) -> None:
    """Its first keeping was committed unnoticed, somebody else read it, and its holder keeps it once more."""
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RAW})
    here.worker("worker 2").settle({intent.attempt_id: a_link("77")})
    here.ledger.keep_answers({intent.attempt_id: RAW})
    here.ledger.settle({intent.attempt_id: a_link("77")})
    assert here.answers_left() == 0


def test_an_unreadable_answer_that_is_settled_again_is_still_kept(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.answer(intent, an_answer(A.UNREADABLE))
    assert here.ledger.settle({intent.attempt_id: an_answer(A.UNREADABLE)}) == []
    assert here.answers_left() == 1


def test_many_answers_are_settled_in_one_go(here: World) -> None:
    run = here.planned("A1", "B2", "C3", "D4")
    grant = here.grant(run, "A1", "B2", "C3", "D4")
    first, second, third, fourth = (intent.attempt_id for intent in grant.intents)
    settled = here.ledger.settle(
        {first: a_link("1"), second: an_answer(A.UNKNOWN), third: a_link("3"), fourth: an_answer(A.OUT_OF_STOCK)}
    )
    assert {done.order_key: done.state for done in settled} == {
        "A1": R.RESERVED,
        "B2": R.UNKNOWN,
        "C3": R.RESERVED,
        "D4": R.OUT_OF_STOCK,
    }


# -- unknown outcomes, leases and late answers -------------------------------------------------------------------------


def test_an_unknown_order_may_be_called_again_within_its_budget(here: World) -> None:
    run = here.planned("A1")
    here.answer(here.intend(run, "A1"), an_answer(A.UNKNOWN))
    here.answer(here.intend(run, "A1"), an_answer(A.UNKNOWN))
    refusal = here.refused(run, "A1")
    assert (refusal.step, refusal.state, refusal.reason) == (Step.EXHAUSTED, R.UNKNOWN, "an answer that is unknown")


def test_a_cleared_run_has_a_budget_a_stop_and_rests_of_its_own(here: World) -> None:
    run = here.planned("A1", max_calls_per_order=1, max_unknown_per_run=1)
    here.answer(here.intend(run, "A1"), an_answer(A.UNKNOWN))
    assert here.stop_reason(run) is not None
    cleared = attempt_of(clear=1)
    here.answer(here.intend(cleared, "A1"), an_answer(A.OUT_OF_STOCK))
    assert here.refused(cleared, "A1").step is Step.TAG_EMPTY
    assert here.intend(attempt_of(clear=2), "A1").order_key == "A1"


def test_each_run_has_a_budget_of_its_own(here: World) -> None:
    first = here.planned("A1", run_id="first", max_calls_per_order=1)
    here.answer(here.intend(first, "A1"), an_answer(A.UNKNOWN))
    assert here.refused(first, "A1").step is Step.EXHAUSTED
    assert here.intend(here.planned("A1", run_id="second", max_calls_per_order=1), "A1").order_key == "A1"


def test_a_campaign_that_holds_on_unknown_is_never_called_again(here: World) -> None:
    run = here.planned("A1")
    here.register(order("A1", on_unknown=OnUnknown.HOLD))
    settled = here.answer(here.intend(run, "A1"), an_answer(A.UNKNOWN))
    assert settled.state is R.HELD
    assert here.refused(run, "A1").step is Step.DONE


def test_a_lapsed_call_of_such_a_campaign_is_held_too(here: World) -> None:
    run = here.planned("A1")
    here.register(order("A1", on_unknown=OnUnknown.HOLD))
    here.intend(run, "A1")
    here.end_leases()
    refusal = here.refused(run, "A1")
    assert (refusal.step, refusal.state) == (Step.DONE, R.HELD)
    assert here.state("A1") is R.HELD


def test_a_call_whose_lease_ended_is_unknown_and_called_again(here: World) -> None:
    run = here.planned("A1")
    lost = here.intend(run, "A1")
    here.end_leases()
    here.intend(run, "A1", by=here.worker("worker 2"))
    assert here.outcome(lost) == "unknown"
    assert here.one("select unknown_count from passport_ops.run_attempt") == 1
    assert here.one("select array_agg(fence order by fence) from passport_ops.attempt") == [1, 2]


def test_a_lapsed_call_counts_against_the_run_that_made_it(here: World) -> None:
    mine, other = here.planned("A1", run_id="mine"), here.planned("A1", run_id="other")
    here.intend(mine, "A1")
    here.end_leases()
    here.intend(other, "A1")
    counts = "select unknown_count from passport_ops.run_attempt where run_id = %s"
    assert (here.one(counts, "mine"), here.one(counts, "other")) == (1, 0)


def test_a_run_that_its_own_lapsed_calls_stop_makes_no_further_call(here: World) -> None:
    run = here.planned("A1", max_unknown_per_run=1)
    here.intend(run, "A1")
    here.end_leases()
    refusal = here.refused(run, "A1")
    assert (refusal.step, refusal.state, here.state("A1")) == (Step.STOPPED, R.UNKNOWN, R.UNKNOWN)


def test_a_late_link_is_the_orders_own_if_it_still_has_none(here: World) -> None:
    run = here.planned("A1")
    late = here.intend(run, "A1")
    here.end_leases()
    second = here.intend(run, "A1")
    settled = here.answer(late, a_link("1"))
    assert (settled.outcome, settled.state, settled.late) == (A.RESERVED, R.RESERVED, True)
    here.answer(second, a_link("2"))
    assert here.passports() == [("1", "assigned", "A1"), ("2", "spare", None)]


def test_a_late_answer_without_a_link_moves_nothing(here: World) -> None:
    run = here.planned("A1")
    late = here.intend(run, "A1")
    here.end_leases()
    here.intend(run, "A1")
    settled = here.answer(late, an_answer(A.OUT_OF_STOCK))
    assert (settled.late, settled.state) == (True, R.CALLING)
    assert here.one("select count(*) from passport_ops.resting_tag") == 0


def test_the_late_link_of_a_held_order_is_its_own(here: World) -> None:
    run = here.planned("A1")
    here.register(order("A1", on_unknown=OnUnknown.HOLD))
    late = here.intend(run, "A1")
    here.end_leases()
    here.refused(run, "A1")
    assert here.answer(late, a_link("1")).state is R.RESERVED


def test_two_answers_for_one_order_in_one_go_give_one_link_and_one_spare(here: World) -> None:
    run = here.planned("A1")
    late = here.intend(run, "A1")
    here.end_leases()
    second = here.intend(run, "A1")
    here.ledger.settle({late.attempt_id: a_link("1"), second.attempt_id: a_link("2")})
    assert sorted(state for _, state, _ in here.passports()) == ["assigned", "spare"]
    assert here.state("A1") is R.RESERVED


def test_a_committed_answer_of_a_dead_process_is_read_before_its_order_is_called_again(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RAW})
    other = here.worker("worker 2")
    assert other.unread_answers() == []
    here.end_leases()
    assert other.unread_answers() == [intent.attempt_id]
    grant = here.grant(run, "A1", by=other)
    assert (grant.intents, grant.unread) == ([], [intent.attempt_id])
    assert other.kept_answers(grant.unread) == {intent.attempt_id: RAW}
    (settled,) = other.settle({intent.attempt_id: a_link("1")})
    assert (settled.state, settled.late) == (R.RESERVED, False)
    assert (here.answers_left(), other.unread_answers()) == (0, [])


def test_an_answer_that_a_process_kept_after_its_call_lapsed_and_died_over_is_read_all_the_same(here: World) -> None:
    run = here.planned("A1")
    late = here.intend(run, "A1")
    here.end_leases()
    here.served(run, "A1", "1")
    here.ledger.keep_answers({late.attempt_id: RAW})
    other = here.worker("worker 2")
    assert other.unread_answers() == [late.attempt_id]
    (settled,) = other.settle({late.attempt_id: a_link("2")})
    assert (settled.outcome, here.answers_left(), other.unread_answers()) == (A.SPARE, 0, [])


# -- duplicates and spares ---------------------------------------------------------------------------------------------


def test_a_certificate_that_is_another_orders_is_not_given_again(here: World) -> None:
    run = here.planned("A1", "B2")
    here.served(run, "A1", "77")
    settled = here.served(run, "B2", "77")
    assert (settled.outcome, settled.state) == (A.DUPLICATE, R.PENDING)
    assert here.passports() == [("77", "assigned", "A1"), ("77", "ended", "B2")]
    assert here.one("select link is null and end_reason = 'duplicate' from passport_ops.passport where state = 'ended'")
    assert here.served(run, "B2").state is R.RESERVED


def test_a_certificate_that_its_customer_claimed_is_not_given_again(here: World) -> None:
    run = here.planned("A1", "B2")
    here.served(run, "A1", "77")
    with here.rows.transaction():
        here.rows.execute("update passport_ops.passport set state = 'claimed'")
        here.rows.execute("update passport_ops.reservation set state = 'claimed' where order_key = 'A1'")
    settled = here.served(run, "B2", "77")
    assert (settled.outcome, settled.state) == (A.DUPLICATE, R.PENDING)
    assert here.passports() == [("77", "claimed", "A1"), ("77", "ended", "B2")]


def test_one_certificate_for_two_orders_in_one_go_is_given_once(here: World) -> None:
    run = here.planned("A1", "B2")
    first, second = here.grant(run, "A1", "B2").intents
    settled = here.ledger.settle({first.attempt_id: a_link("77"), second.attempt_id: a_link("77")})
    assert sorted(done.outcome for done in settled) == [A.DUPLICATE, A.RESERVED]
    assert sorted(state for _, state, _ in here.passports()) == ["assigned", "ended"]


def test_a_duplicate_uses_budget_and_too_many_stop_the_run(here: World) -> None:
    run = here.planned("A1", "B2", max_duplicates_per_run=2)
    here.served(run, "A1", "77")
    here.served(run, "B2", "77")
    assert here.stop_reason(run) is None
    here.served(run, "B2", "77")
    assert here.stop_reason(run) == (
        "2 certificates came twice (max_duplicates_per_run is 2): ask the NMP's operator, then clear the run"
    )
    assert here.refused(run, "B2").step is Step.EXHAUSTED


def test_the_orders_own_certificate_once_more_is_one_passport(here: World) -> None:
    run = here.planned("A1")
    late = here.intend(run, "A1")
    here.end_leases()
    here.answer(here.intend(run, "A1"), a_link("77"))
    assert here.answer(late, a_link("77")).outcome is A.RESERVED
    assert here.passports() == [("77", "assigned", "A1")]


def test_a_spare_is_used_before_the_next_call_for_its_tag(here: World) -> None:
    run = here.planned("A1", "B2")
    here.register(order("A1"), order("B2"), order("C3", tag="other"))
    here.spare(run, "A1", "2", own="1")
    assert here.intend(run, "C3").tag == "other"
    refusal = here.refused(run, "B2")
    assert (refusal.step, refusal.state) == (Step.DONE, R.RESERVED)
    assert here.passports() == [("1", "assigned", "A1"), ("2", "assigned", "B2")]


def test_a_spare_that_is_received_again_becomes_its_orders_own(here: World) -> None:
    run = here.planned("A1", "B2")
    late = here.intend(run, "A1")
    here.end_leases()
    second, other = here.intend(run, "A1"), here.intend(run, "B2")
    here.answer(second, a_link("1"))
    here.answer(late, a_link("2"))
    assert here.answer(other, a_link("2")).outcome is A.RESERVED
    assert here.passports() == [("1", "assigned", "A1"), ("2", "assigned", "B2")]


def test_spares_run_out_and_then_calls_begin(here: World) -> None:
    run = here.planned("A1", "B2", "C3")
    here.spare(run, "A1", "2", own="1")
    grant = here.grant(run, "B2", "C3")
    assert [refusal.order_key for refusal in grant.refusals] == ["B2"]
    assert [intent.order_key for intent in grant.intents] == ["C3"]


# -- epochs ------------------------------------------------------------------------------------------------------------


def test_a_link_of_before_a_reset_is_never_used(here: World) -> None:
    run = here.planned("A1")
    late = here.intend(run, "A1")
    here.reset()
    settled = here.answer(late, a_link("77"))
    assert (settled.outcome, settled.state) == (A.ENDED, R.PENDING)
    assert here.passports() == [("77", "ended", "A1")]
    assert here.one("select link is null and end_reason = 'old_epoch' from passport_ops.passport")


def test_a_certificate_comes_back_after_a_reset(here: World) -> None:
    run = here.planned("A1", "B2")
    here.served(run, "A1", "77")
    here.reset()
    assert here.served(run, "B2", "77").state is R.RESERVED
    assert here.passports() == [("77", "ended", "A1"), ("77", "assigned", "B2")]


def test_a_spare_of_an_older_epoch_is_not_given(here: World) -> None:
    run = here.planned("A1", "B2")
    here.spare(run, "A1", "2", own="1")
    here.rows.execute("update passport_ops.tag set epoch = epoch + 1")
    assert here.intend(run, "B2").order_key == "B2"


def test_a_resetting_tag_is_treated_as_resting(here: World) -> None:
    run = here.planned("A1")
    here.rows.execute("update passport_ops.tag set state = 'resetting'")
    refusal = here.refused(run, "A1")
    assert (refusal.step, refusal.reason, here.state("A1")) == (Step.RESETTING, "tag gift is being reset", R.PENDING)


# -- rests and stops ---------------------------------------------------------------------------------------------------


def test_an_empty_tag_rests_for_this_run_and_the_others_of_it_are_out_of_stock(here: World) -> None:
    run = here.planned("A1", "B2")
    here.answer(here.intend(run, "A1"), an_answer(A.OUT_OF_STOCK))
    refusal = here.refused(run, "B2")
    assert (refusal.step, refusal.state, refusal.reason) == (Step.TAG_EMPTY, R.OUT_OF_STOCK, "tag gift is empty")
    assert here.state("B2") is R.OUT_OF_STOCK
    assert here.one("select last_empty_at is not null from passport.tag_stock")


def test_an_empty_tag_does_not_rest_for_another_run_or_another_tag(here: World) -> None:
    run = here.planned("A1")
    here.register(order("A1"), order("B2", tag="other"))
    here.answer(here.intend(run, "A1"), an_answer(A.OUT_OF_STOCK))
    assert here.intend(run, "B2").tag == "other"
    assert here.intend(here.planned("A1", run_id="next"), "A1").tag == "gift"


@pytest.mark.parametrize("outcome", [A.REFUSED, A.REDIRECTED, A.WRONG_LINK])
def test_a_misconfigured_run_stops_and_says_what_is_missing(here: World, outcome: AttemptOutcome) -> None:
    run = here.planned("A1", "B2")
    here.answer(here.intend(run, "A1"), an_answer(outcome))
    assert here.stop_reason(run) == f"an answer that is {outcome}"
    refusal = here.refused(run, "B2")
    assert (refusal.step, refusal.reason, refusal.state) == (Step.STOPPED, f"an answer that is {outcome}", R.PENDING)


def test_a_run_stops_after_too_many_unknown_outcomes_and_keeps_its_first_reason(here: World) -> None:
    run = here.planned("A1", "B2", "C3", max_unknown_per_run=2)
    intents = here.grant(run, "A1", "B2", "C3").intents
    here.answer(intents[0], an_answer(A.UNKNOWN))
    assert here.stop_reason(run) is None
    here.answer(intents[1], an_answer(A.UNKNOWN))
    reason = "2 calls of unknown outcome (max_unknown_per_run is 2): see whether the NMP is well, then clear the run"
    assert here.stop_reason(run) == reason
    here.answer(intents[2], an_answer(A.REFUSED))
    assert here.stop_reason(run) == reason


def test_a_stop_does_not_reach_another_run(here: World) -> None:
    run = here.planned("A1", "B2")
    here.answer(here.intend(run, "A1"), an_answer(A.REFUSED))
    assert here.intend(here.planned("A1", "B2", run_id="other"), "B2").order_key == "B2"


# -- a broken connection -----------------------------------------------------------------------------------------------


def test_intents_that_were_committed_unnoticed_are_given_back(here: World) -> None:
    run = here.planned("A1", "B2")
    unnoticed, known = here.intend(run, "A1"), here.intend(run, "B2")
    assert here.ledger.disown([known.attempt_id]) == 1
    assert (here.state("A1"), here.outcome(unnoticed)) == (R.PENDING, "not_sent")
    assert (here.state("B2"), here.outcome(known)) == (R.CALLING, None)
    assert here.intend(run, "A1").order_key == "A1"
    assert here.ledger.disown([known.attempt_id, unnoticed.attempt_id]) == 1


def test_nobody_gives_back_the_intents_of_another_caller(here: World) -> None:
    run = here.planned("A1")
    here.intend(run, "A1")
    assert here.worker("worker 2").disown([]) == 0
    assert here.state("A1") is R.CALLING


def test_an_unnoticed_intent_that_was_overtaken_gives_nobody_elses_call_back(here: World) -> None:
    run = here.planned("A1", max_calls_per_order=9)
    late = here.intend(run, "A1")
    here.end_leases()
    unnoticed = here.intend(run, "A1")
    here.answer(late, a_link("1"))
    here.reset(to="pending")
    here.intend(run, "A1", by=here.worker("worker 2"))
    assert here.ledger.disown([]) == 1
    assert (here.outcome(unnoticed), here.state("A1")) == ("not_sent", R.CALLING)


def test_a_ledger_makes_a_new_connection_after_it_lost_one(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.rows.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'passport-links ledger'"
    )
    with pytest.raises(SafeDatabaseError) as trouble:
        here.ledger.keep_answers({intent.attempt_id: RAW})
    assert trouble.value.transient
    assert here.answer(intent, a_link()).state is R.RESERVED


def test_the_database_itself_refuses_a_second_live_link(here: World) -> None:
    run = here.planned("A1", "B2")
    here.served(run, "A1", "77")
    insert = """
        insert into passport_ops.passport (certificate_id, link_sha256, tag, epoch, state, order_key)
        values (%s, %s, 'gift', 0, 'assigned', %s)
    """
    for values, constraint in (
        (("77", b"x", "B2"), "passport_live_certificate"),
        (("78", b"x", "A1"), "passport_live_order"),
    ):
        with pytest.raises(psycopg.errors.UniqueViolation) as refusal:
            here.rows.execute(insert, values)
        assert refusal.value.diag.constraint_name == constraint


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("update passport_ops.reservation set state = 'reserved' where order_key = 'B2'", "served_has_a_passport"),
        ("update passport_ops.reservation set passport_id = null where order_key = 'A1'", "served_has_a_passport"),
        ("update passport_ops.reservation set state = 'pending' where order_key = 'C3'", "calling_has_a_lease"),
        ("update passport_ops.reservation set state = 'calling' where order_key = 'B2'", "calling_has_a_lease"),
        (
            "update passport_ops.reservation set state = 'reserved', passport_id = "
            "(select passport_id from passport_ops.passport where state = 'spare') where order_key = 'B2'",
            "reservation_passport_id_order_key_fkey",
        ),
        (
            "insert into passport_ops.passport (certificate_id, link_sha256, state) "
            "select '79', link_sha256, 'spare' from passport_ops.passport where certificate_id = '77'",
            "passport_live_link",
        ),
        (
            "insert into passport_ops.passport (certificate_id, link_sha256, state, order_key) "
            "values ('78', 'x', 'assigned', 'B2')",
            "passport_live_certificate",
        ),
        (
            "insert into passport_ops.passport (certificate_id, link_sha256, state, order_key) "
            "select '80', 'y', 'claimed', order_key from passport_ops.passport where certificate_id = '77'",
            "passport_live_order",
        ),
        (
            "insert into passport_ops.attempt (order_key, tag, epoch, fence, run_id, run_started_at, caller, "
            "intended_at, lease_until) select order_key, tag, epoch, fence, run_id, run_started_at, 'another', "
            "intended_at, lease_until from passport_ops.attempt where order_key = 'C3'",
            "attempt_fence",
        ),
    ],
)
def test_the_database_itself_refuses_rows_that_would_break_a_promise(
    here: World, statement: str, constraint: str
) -> None:
    run = here.planned("A1", "B2", "C3")
    here.served(run, "A1", "77")
    here.intend(run, "C3")
    here.rows.execute(
        "insert into passport_ops.passport (certificate_id, link_sha256, tag, epoch, state) "
        "values ('78', 'z', 'gift', 0, 'spare')"
    )
    with pytest.raises(psycopg.errors.IntegrityError) as refusal:
        here.rows.execute(statement)
    assert refusal.value.diag.constraint_name == constraint


def test_the_day_of_a_carried_over_order_stays_its_own(here: World) -> None:
    here.register(order("A1", day=DAY_BEFORE), days=(DAY_BEFORE,))
    here.runs.plan_run(plan(scheduled=True))
    here.open(attempt_of())
    here.served(attempt_of(), "A1")
    assert here.runs.orders_of_day(DAY_BEFORE) == {"A1": (R.RESERVED, None)}
    assert here.one("select business_day from passport_ops.reservation") == date(2026, 11, 21)


def test_a_call_whose_order_was_served_by_a_late_link_still_counts_against_the_cap(emptied_warehouse: str) -> None:
    with world(emptied_warehouse, concurrency=1) as here:
        run = here.planned("A1", "B2")
        late = here.intend(run, "A1")
        here.end_leases()
        under_way = here.intend(run, "A1")
        here.answer(late, a_link())
        assert here.state("A1") is R.RESERVED
        assert here.refused(run, "B2").step is Step.WAIT
        here.answer(under_way, an_answer(A.UNKNOWN))
        assert here.intend(run, "B2").order_key == "B2"


# -- answers that nobody has read --------------------------------------------------------------------------------------


def lapsed_with_an_unread_answer(here: World) -> tuple[RunStart, Intent]:
    """A process dies with its answer committed; a reset that comes to nothing finds the lease over."""
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RAW})
    here.end_leases()
    lapse_calls_of_tag(here.rows, "gift")
    assert here.state("A1") is R.UNKNOWN
    return run, intent


@pytest.mark.parametrize("released", [False, True], ids=["as the reset left it", "released by a person"])
def test_an_unread_answer_is_read_before_its_lapsed_order_is_called_again(here: World, released: bool) -> None:
    run, intent = lapsed_with_an_unread_answer(here)
    if released:
        resolve(here.rows, "A1", Action.RELEASE, "ask again")
    grant = here.grant(run, "A1", by=here.worker("worker 2"))
    assert (grant.intents, grant.unread) == ([], [intent.attempt_id])


def test_a_close_does_not_erase_an_answer_that_nobody_has_read(here: World) -> None:
    _, intent = lapsed_with_an_unread_answer(here)
    resolve(here.rows, "A1", Action.CLOSE, "no link for this one")
    left = here.ledger.unread_answers()
    assert left == [intent.attempt_id]
    assert list(here.ledger.kept_answers(left)) == left
    here.ledger.settle({intent.attempt_id: a_link("77")})
    assert here.passports() == [("77", "spare", None)]
    assert here.answers_left() == 0


def test_a_close_still_erases_an_unreadable_answer(here: World) -> None:
    run = here.planned("A1")
    here.answer(here.intend(run, "A1"), an_answer(A.UNREADABLE))
    assert here.answers_left() == 1
    resolve(here.rows, "A1", Action.CLOSE, "no link for this one")
    assert here.answers_left() == 0
