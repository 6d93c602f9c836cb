"""Settling: what an answer means for its order, its passport and its run."""

import pytest

from include.campaigns import OnUnknown
from include.ledger.states import ReservationState
from include.ledger.transitions import Step
from include.nmp.answers import CallFailure, RawAnswer
from include.outcomes import AttemptOutcome
from tests.builders.world import World, a_link, an_answer, order

A, R = AttemptOutcome, ReservationState


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
            A.REFUSED: None,
            A.OUT_OF_STOCK: Step.TAG_EMPTY,
            A.REDIRECTED: Step.EXHAUSTED,
            A.UNKNOWN: Step.EXHAUSTED,
        }[outcome]
        grant = here.grant(run, "A1")
        assert [refusal.step for refusal in grant.refusals] == ([expected] if expected else [])
        assert uses_budget == (expected is Step.EXHAUSTED)


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
    assert here.stop_reason(run) is None
    assert here.one("select late from passport_ops.attempt") is False


def test_a_call_that_lapsed_and_then_timed_out_counts_as_one_unknown(here: World) -> None:
    run = here.planned("A1", max_unknown_per_run=2)
    intent = here.intend(run, "A1")
    here.end_leases()
    here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RawAnswer(None, b"", failure=CallFailure.TIMEOUT)})
    here.ledger.settle({intent.attempt_id: an_answer(A.UNKNOWN)})
    assert here.one("select count(*) from passport_ops.attempt where outcome = 'unknown'") == 1
    assert here.stop_reason(run) is None
    assert here.answers_left() == 0


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


def test_a_resetting_tag_is_treated_as_empty(here: World) -> None:
    run = here.planned("A1")
    here.rows.execute("update passport_ops.tag set state = 'resetting'")
    refusal = here.refused(run, "A1")
    assert (refusal.step, refusal.reason, here.state("A1")) == (Step.RESETTING, "tag gift is being reset", R.PENDING)
