"""The pace of calls: slots by the database's clock, and pauses that the NMP asks for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from include.ledger.pace import MOST_AHEAD_SECONDS, Gate, Slots
from include.ledger.transitions import Step
from include.outcomes import AttemptOutcome
from tests.builders.world import World, an_answer

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
FREE = Gate(NOW, NOW, None, None)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


# -- slots, without a database -----------------------------------------------------------------------------------------


def test_without_a_pace_every_call_begins_at_once() -> None:
    slots = Slots(replace(FREE, next_call_at=later(1)), None)
    assert slots.free() > 1000
    assert [slots.take() for _ in range(3)] == [0, 0, 0]
    assert slots.seconds_to_wait() == 0


def test_each_call_has_its_own_moment_and_none_is_further_ahead_than_a_second() -> None:
    slots = Slots(FREE, 4)
    assert slots.free() == 5
    assert [slots.take() for _ in range(5)] == [0, 0.25, 0.5, 0.75, 1.0]
    assert slots.free() == 0
    assert slots.seconds_to_wait() == 0.75


def test_slots_begin_where_the_last_ones_end() -> None:
    slots = Slots(replace(FREE, next_call_at=later(0.5)), 4)
    assert slots.free() == 3
    assert slots.take() == 0.5


def test_a_wait_counts_from_before_the_grant_lock() -> None:
    """The engine's clock and the database's meet there: what comes after may freeze either of them."""
    assert Slots(replace(FREE, began_at=later(-3)), 4).take() == 3


def test_slots_that_nobody_took_are_lost() -> None:
    assert Slots(replace(FREE, next_call_at=later(-60)), 4).free() == 5


def test_of_a_slow_pace_one_slot_is_given_at_a_time() -> None:
    slots = Slots(FREE, 0.1)
    assert slots.free() == 1
    slots.take()
    assert (slots.free(), slots.seconds_to_wait()) == (0, 9.5)
    assert Slots(replace(FREE, next_call_at=later(10)), 0.1).free() == 0
    assert Slots(replace(FREE, next_call_at=later(1)), 0.1).free() == 1


def test_a_pause_leaves_no_slot() -> None:
    for per_second in (None, 4):
        paused = Slots(replace(FREE, paused_until=later(60)), per_second)
        assert (paused.free(), paused.seconds_to_wait()) == (0, 60)
        assert Slots(replace(FREE, paused_until=later(-1)), per_second).free() > 0


def test_times_that_no_grant_could_have_written_hold_nobody_up() -> None:
    """A failover to a host whose clock is an hour behind, or another pace than before."""
    behind = replace(FREE, next_call_at=later(3600), paused_until=later(3600))
    assert Slots(behind, 4).free() == 5


# -- in the ledger -----------------------------------------------------------------------------------------------------


def test_intents_of_all_processes_share_one_row_of_slots(here: World) -> None:
    run = here.planned("A1", "B2", "C3", "D4")
    one, two = here.worker("one", calls_per_second=2), here.worker("two", calls_per_second=2)
    first = here.grant(run, "A1", "B2", by=one).intents
    assert [intent.wait for intent in first] == [pytest.approx(0, abs=0.2), pytest.approx(0.5, abs=0.2)]
    second = here.grant(run, "C3", "D4", by=two)
    (third,) = second.intents
    assert 0.5 < third.wait <= 1.2
    (refusal,) = second.refusals
    assert (refusal.order_key, refusal.step) == ("D4", Step.WAIT)
    assert 0.5 < refusal.wait <= 1.0


def test_a_lease_lasts_longer_by_the_wait_for_its_slot(here: World) -> None:
    run = here.planned("A1", "B2", "C3")
    here.grant(run, "A1", "B2", "C3", by=here.worker("one", calls_per_second=2))
    shortest = here.one("select min(lease_until - intended_at) from passport_ops.attempt")
    assert timedelta(seconds=60.5) < shortest <= timedelta(seconds=61)
    assert here.one("select count(distinct lease_until) from passport_ops.attempt") == 1


@pytest.mark.parametrize("per_second", [None, 100])
def test_after_a_retry_after_no_process_gets_an_intent_until_it_is_over(here: World, per_second: float | None) -> None:
    run = here.planned("A1", "B2")
    asked_to_wait = replace(an_answer(AttemptOutcome.THROTTLED), retry_after=30.0)
    here.answer(here.intend(run, "A1"), asked_to_wait)
    refusal = here.refused(run, "B2", by=here.worker("worker 2", calls_per_second=per_second))
    assert refusal.step is Step.WAIT
    assert 29 < refusal.wait <= 30
    here.rows.execute("update passport_ops.gate set paused_until = clock_timestamp()")
    assert here.intend(run, "B2").order_key == "B2"


def test_a_shorter_retry_after_does_not_end_a_longer_one(here: World) -> None:
    run = here.planned("A1", "B2", "C3")
    first, second = here.grant(run, "A1", "B2").intents
    here.answer(first, replace(an_answer(AttemptOutcome.THROTTLED), retry_after=30.0))
    here.answer(second, replace(an_answer(AttemptOutcome.THROTTLED), retry_after=1.0))
    assert here.refused(run, "C3").wait > 29


def test_a_throttled_answer_without_a_time_pauses_nobody_else(here: World) -> None:
    run = here.planned("A1", "B2")
    here.answer(here.intend(run, "A1"), an_answer(AttemptOutcome.THROTTLED))
    assert here.intend(run, "B2", by=here.worker("worker 2")).order_key == "B2"


def test_a_spare_is_used_while_calls_are_paused(here: World) -> None:
    run = here.planned("A1", "B2")
    here.spare(run, "A1", "71")
    here.rows.execute("update passport_ops.gate set paused_until = clock_timestamp() + interval '1 minute'")
    assert here.refused(run, "B2").step is Step.DONE


def test_the_slots_are_at_most_so_far_ahead() -> None:
    assert MOST_AHEAD_SECONDS <= 2
