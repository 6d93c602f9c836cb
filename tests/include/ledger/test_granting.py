"""Grants: which order may be called for, and which may not."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from include.attention.deciding import Action, resolve
from include.campaigns import OnUnknown
from include.ledger.run_starts import RunStart
from include.ledger.states import ReservationState
from include.ledger.transitions import Step
from include.nmp.answers import Reading
from include.outcomes import MEANINGS, AttemptOutcome, Consumed
from include.sql_files import sql_of
from tests.builders.world import World, a_link, an_answer, attempt_of, order, plan, world

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
    assert here.one("select array_agg(fence order by fence) from passport_ops.attempt") == [1, 2]


def test_a_lapsed_call_counts_against_the_run_that_made_it(here: World) -> None:
    mine = here.planned("A1", run_id="mine", max_unknown_per_run=1)
    other = here.planned("A1", run_id="other", max_unknown_per_run=1)
    here.intend(mine, "A1")
    here.end_leases()
    here.intend(other, "A1")
    assert here.stop_reason(mine) is not None
    assert here.stop_reason(other) is None


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


@pytest.mark.parametrize(
    ("outcome", "opened"), [(A.REFUSED, False), (A.REDIRECTED, False), (A.WRONG_LINK, False), (A.WRONG_LINK, True)]
)
def test_a_misconfigured_run_stops_and_says_what_is_missing(here: World, outcome: AttemptOutcome, opened: bool) -> None:
    run = here.planned("A1", "B2", opened=opened)
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
    reason = (
        "2 calls of unknown outcome (max_unknown_per_run is 2, or 2 % of the calls): see whether the NMP is well, then "
        "clear the run"
    )
    assert here.stop_reason(run) == reason
    here.answer(intents[2], an_answer(A.WRONG_LINK))
    assert here.stop_reason(run) == reason


def refusal(status: int) -> Reading:
    outcome = A.REDIRECTED if status < 400 else A.REFUSED
    return Reading(outcome, f"an answer {status}", status)


def answered(here: World, run: RunStart, *answers: tuple[str, Reading]) -> str | None:
    """Calls for these orders one after the other, answered so; gives why the run's start stopped, if it did."""
    for key, reading in answers:
        here.answer(here.intend(run, key), reading)
    return here.stop_reason(run)


def two_tags(here: World, **fields: Any) -> RunStart:
    """An opened run with four orders of the tag gift and two of the tag watch."""
    run = here.planned("A1", **fields)
    here.register(*(order(key) for key in ("A1", "B2", "C3", "D4")), order("E5", tag="watch"), order("F6", tag="watch"))
    return run


@pytest.mark.parametrize("status", [301, 401, 403, 405])
def test_after_a_usable_answer_a_run_stops_when_several_refusals_come_without_a_usable_one_between(
    here: World, status: int
) -> None:
    run = two_tags(here)
    assert answered(here, run, ("A1", refusal(status)), ("E5", refusal(302)), ("B2", a_link())) is None
    assert answered(here, run, ("C3", refusal(status)), ("A1", refusal(401))) is None
    assert answered(here, run, ("F6", refusal(status))) == (
        f"an answer {status} (3 such answers came, and no usable one between them: stop_after_refusals)"
    )
    assert here.refused(run, "D4").step is Step.STOPPED


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_that_may_be_of_its_tag_alone_is_counted_for_that_tag(here: World, status: int) -> None:
    run = two_tags(here)
    answers = ("A1", refusal(status)), ("E5", refusal(status)), ("B2", refusal(status)), ("F6", refusal(status))
    assert answered(here, run, *answers) is None
    assert answered(here, run, ("C3", a_link()), ("D4", refusal(status))) is None
    assert answered(here, run, ("E5", refusal(status))) == (
        f"an answer {status} (3 such answers came, and no usable one between them: stop_after_refusals)"
    )


def test_refusals_of_the_run_and_of_its_tags_are_counted_apart(here: World) -> None:
    run = two_tags(here)
    answers = ("A1", refusal(401)), ("B2", refusal(404)), ("C3", refusal(401)), ("D4", refusal(404))
    assert answered(here, run, *answers) is None
    assert answered(here, run, ("E5", refusal(403))) is not None


def test_a_usable_answer_of_the_same_group_is_between_its_refusals(here: World) -> None:
    run = here.planned("A1", "B2", "C3", "D4")
    readings = [refusal(401), a_link(), refusal(401), refusal(401)]
    intents = here.grant(run, "A1", "B2", "C3", "D4").intents
    here.ledger.settle({intent.attempt_id: reading for intent, reading in zip(intents, readings, strict=True)})
    assert here.stop_reason(run) is None


def test_the_statement_that_counts_knows_which_outcomes_are_usable_refuse_or_are_unknown() -> None:
    statement = sql_of("include.ledger")("count_outcomes")
    usable = [outcome for outcome, meaning in MEANINGS.items() if meaning.usable]
    refusing = [outcome for outcome, meaning in MEANINGS.items() if meaning.is_refusal]
    unknown = [outcome for outcome, meaning in MEANINGS.items() if meaning.consumed is Consumed.POSSIBLY]
    for outcomes in (usable, refusing, unknown):
        listed = re.findall(r"outcome in \(([^)]*)\)", statement)
        assert sorted(outcomes) in [sorted(names.replace("'", "").split(", ")) for names in listed]


def test_an_order_that_is_refused_waits_and_is_asked_for_again_so_many_times(here: World) -> None:
    run = here.planned("A1", "B2", max_calls_per_order=1)
    assert answered(here, run, ("A1", refusal(401)), ("A1", refusal(401)), ("B2", a_link())) is None
    assert answered(here, run, ("A1", refusal(403))) is None
    refused = here.refused(run, "A1")
    assert (refused.step, refused.state, refused.reason) == (Step.EXHAUSTED, R.PENDING, "an answer 403")
    assert here.intend(attempt_of(clear=1), "A1").order_key == "A1"


def test_two_percent_of_the_calls_may_be_of_unknown_outcome(here: World) -> None:
    keys = [f"A{n:03}" for n in range(150)]
    run = here.planned(*keys, max_unknown_per_run=2)
    for first in range(0, 147, 7):
        intents = here.grant(run, *keys[first : first + 7]).intents
        here.ledger.settle({intent.attempt_id: a_link() for intent in intents})
    unknown = an_answer(A.UNKNOWN)
    assert answered(here, run, (keys[147], unknown), (keys[148], unknown)) is None
    assert answered(here, run, (keys[149], unknown)) == (
        "3 calls of unknown outcome (max_unknown_per_run is 2, or 2 % of the calls): see whether the NMP is well, then "
        "clear the run"
    )


def test_a_stop_does_not_reach_another_run(here: World) -> None:
    run = here.planned("A1", "B2", opened=False)
    here.answer(here.intend(run, "A1"), an_answer(A.REFUSED))
    assert here.intend(here.planned("A1", "B2", run_id="other"), "B2").order_key == "B2"


# -- one budget for all scheduled runs of a clock day ------------------------------------------------------------------

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def scheduled(here: World, run_id: str, day_began_at: datetime = MIDNIGHT, **fields: Any) -> RunStart:
    """A run of the schedule, planned on the clock day that began then."""
    here.register(order("A1"), order("B2"), run_id=run_id)
    here.runs.plan_run(plan(run_id, scheduled=True, **fields), day_began_at=day_began_at)
    return attempt_of(run_id)


def lose(here: World, run: RunStart, key: str) -> None:
    here.answer(here.intend(run, key), an_answer(A.UNKNOWN))


def test_scheduled_runs_of_a_clock_day_share_the_budget_of_an_order(here: World) -> None:
    lose(here, scheduled(here, "00:15"), "A1")
    lose(here, scheduled(here, "00:30"), "A1")
    refused = here.refused(scheduled(here, "00:45"), "A1")
    assert (refused.step, refused.state) == (Step.EXHAUSTED, R.UNKNOWN)
    assert here.intend(scheduled(here, "01:00"), "B2").order_key == "B2"


def test_the_next_clock_day_has_a_budget_of_its_own(here: World) -> None:
    lose(here, scheduled(here, "today", max_calls_per_order=1), "A1")
    tomorrow = here.one("select clock_timestamp()")
    assert here.intend(scheduled(here, "tomorrow", tomorrow, max_calls_per_order=1), "A1").order_key == "A1"


def test_a_clear_renews_the_budget_for_itself_and_for_the_runs_after_it(here: World) -> None:
    first = scheduled(here, "00:15", max_calls_per_order=1)
    lose(here, first, "A1")
    cleared = attempt_of("00:15", clear=1)
    lose(here, cleared, "A1")
    assert here.refused(cleared, "A1").step is Step.EXHAUSTED
    later = scheduled(here, "00:30", max_calls_per_order=2)
    lose(here, later, "A1")
    assert here.refused(later, "A1").step is Step.EXHAUSTED


def test_a_run_by_hand_and_a_backfill_have_budgets_of_their_own(here: World) -> None:
    lose(here, scheduled(here, "00:15", max_calls_per_order=1), "A1")
    by_hand = here.planned("A1", run_id="by hand", max_calls_per_order=1, opened=False)
    lose(here, by_hand, "A1")
    assert here.refused(by_hand, "A1").step is Step.EXHAUSTED
    later = scheduled(here, "00:30", max_calls_per_order=2)
    lose(here, later, "A1")
    assert here.refused(later, "A1").step is Step.EXHAUSTED


@pytest.mark.parametrize("by_schedule", [True, False])
def test_a_release_renews_the_budget_of_its_order_alone(here: World, by_schedule: bool) -> None:
    if by_schedule:
        run = scheduled(here, "00:15", max_calls_per_order=1)
    else:
        run = here.planned("A1", "B2", max_calls_per_order=1)
    for key in ("A1", "B2"):
        lose(here, run, key)
    if by_schedule:
        run = scheduled(here, "00:30", max_calls_per_order=1)
    resolve(here.rows, ["A1"], Action.RELEASE, "the NMP has no passport for it")
    grant = here.grant(run, "A1", "B2")
    assert [intent.order_key for intent in grant.intents] == ["A1"]
    here.answer(grant.intents[0], an_answer(A.UNKNOWN))
    assert [refusal.step for refusal in here.grant(run, "A1", "B2").refusals] == [Step.EXHAUSTED] * 2


def test_unknown_outcomes_count_on_over_the_scheduled_runs_of_a_clock_day(here: World) -> None:
    first = scheduled(here, "00:15", max_unknown_per_run=2)
    lose(here, first, "A1")
    second = scheduled(here, "00:30", max_unknown_per_run=2)
    lose(here, second, "A1")
    reason = (
        "2 calls of unknown outcome in the scheduled runs of this day (max_unknown_per_run is 2, or 2 % of the calls): "
        "see whether the NMP is well, then clear the run"
    )
    assert (here.stop_reason(first), here.stop_reason(second)) == (None, reason)
    third = scheduled(here, "00:45", max_unknown_per_run=2)
    assert (here.refused(third, "B2").step, here.stop_reason(third)) == (Step.STOPPED, reason)
    assert here.intend(attempt_of("00:45", clear=1), "B2").order_key == "B2"


def test_a_run_that_stopped_for_another_reason_does_not_stop_the_next_of_its_day(here: World) -> None:
    first = scheduled(here, "00:15")
    assert answered(here, first, ("A1", refusal(401))) == "an answer 401"
    second = scheduled(here, "00:30")
    assert here.grant(second, "A1", "B2").intents[0].order_key == "A1"


# -- a connection that breaks ------------------------------------------------------------------------------------------


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
