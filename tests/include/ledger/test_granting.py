"""Grants: which order may be called for, and which may not."""

import pytest

from include.campaigns import OnUnknown
from include.ledger.states import ReservationState
from include.ledger.transitions import Step
from include.outcomes import AttemptOutcome
from tests.builders.world import World, a_link, an_answer, attempt_of, order, world

A, R = AttemptOutcome, ReservationState


def test_an_intent_is_committed_with_its_lease_before_its_call(here: World) -> None:
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


def test_an_unknown_order_may_be_called_again_within_its_budget(here: World) -> None:
    run = here.planned("A1")
    here.answer(here.intend(run, "A1"), an_answer(A.UNKNOWN))
    here.answer(here.intend(run, "A1"), an_answer(A.UNKNOWN))
    refusal = here.refused(run, "A1")
    assert (refusal.step, refusal.state, refusal.reason) == (Step.EXHAUSTED, R.UNKNOWN, "an answer that is unknown")


def test_a_cleared_run_has_a_budget_a_stop_and_empty_tags_of_its_own(here: World) -> None:
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


def test_an_empty_tag_is_not_asked_again_by_this_run_and_its_other_orders_are_out_of_stock(here: World) -> None:
    run = here.planned("A1", "B2")
    here.answer(here.intend(run, "A1"), an_answer(A.OUT_OF_STOCK))
    refusal = here.refused(run, "B2")
    assert (refusal.step, refusal.state, refusal.reason) == (Step.TAG_EMPTY, R.OUT_OF_STOCK, "tag gift is empty")
    assert here.state("B2") is R.OUT_OF_STOCK
    assert here.one("select last_empty_at is not null from passport.tag_stock")


def test_an_empty_tag_is_asked_by_another_run_and_other_tags_are_asked(here: World) -> None:
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
