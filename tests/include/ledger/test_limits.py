"""Limits on new links: per run, and per clock day over all runs."""

from datetime import timedelta

import pytest

from include.ledger.calls import CallLedger
from include.ledger.states import ReservationState
from include.ledger.transitions import Step
from include.outcomes import MEANINGS, AttemptOutcome, Consumed
from tests.builders.world import World, a_link, an_answer, attempt_of

R = ReservationState
ATTENTION = "select run_id, row_key, reason, what_to_do from passport.needs_attention where kind = 'limit_reached'"


def links(here: World, run_id: str = "run") -> int:
    return int(here.one("select sum(links) from passport_ops.new_links where run_id = %s", run_id))


def limited(here: World, most: int, name: str = "worker 2", **options: str) -> CallLedger:
    return here.worker(name, max_new_links_per_day=most, **options)


# -- per run -----------------------------------------------------------------------------------------------------------


def test_a_run_asks_for_no_more_new_links_than_its_limit_and_its_other_orders_wait(here: World) -> None:
    run = here.planned("A1", "B2", "C3", max_new_links=2)
    grant = here.grant(run, "A1", "B2", "C3")
    assert [intent.order_key for intent in grant.intents] == ["A1", "B2"]
    (refusal,) = grant.refusals
    reason = "the run has its 2 new links (max_new_links)"
    assert (refusal.order_key, refusal.step, refusal.state, refusal.reason) == ("C3", Step.LIMIT, R.PENDING, reason)
    assert (here.state("C3"), here.reason("C3")) == (R.PENDING, reason)


def test_a_run_without_a_limit_has_none(here: World) -> None:
    run = here.planned("A1", "B2")
    assert len(here.grant(run, "A1", "B2").intents) == 2
    assert links(here) == 2


@pytest.mark.parametrize("outcome", [outcome for outcome in AttemptOutcome if outcome is not AttemptOutcome.RESERVED])
def test_a_call_counts_unless_it_certainly_consumed_nothing(here: World, outcome: AttemptOutcome) -> None:
    if outcome in (AttemptOutcome.SPARE, AttemptOutcome.ENDED, AttemptOutcome.DUPLICATE):
        return  # what the ledger makes of a 200 with a link
    run = here.planned("A1", max_new_links=1)
    here.answer(here.intend(run, "A1"), an_answer(outcome))
    assert links(here) == (0 if MEANINGS[outcome].consumed is Consumed.NO else 1)


def test_a_link_counts_and_so_does_a_call_whose_lease_ended(here: World) -> None:
    run = here.planned("A1", "B2", "C3", max_new_links=2)
    here.served(run, "A1")
    lost = here.intend(run, "B2")
    here.end_leases()
    assert here.refused(run, "C3").step is Step.LIMIT
    assert here.refused(run, "B2").step is Step.LIMIT
    here.answer(lost, an_answer(AttemptOutcome.NOT_SENT))  # so it consumed nothing after all
    assert here.intend(run, "C3").order_key == "C3"


def test_an_intent_that_was_never_sent_counts_no_more(here: World) -> None:
    run = here.planned("A1", "B2", max_new_links=1)
    here.intend(run, "A1")
    assert here.ledger.disown([]) == 1
    assert links(here) == 0
    assert here.intend(run, "B2").order_key == "B2"


def test_a_clear_does_not_renew_the_limit_of_its_run_and_another_run_has_its_own(here: World) -> None:
    run = here.planned("A1", "B2", max_new_links=1)
    here.served(run, "A1")
    assert here.refused(attempt_of(clear=1), "B2").step is Step.LIMIT
    other = here.planned("B2", run_id="by hand", max_new_links=1)
    assert here.intend(other, "B2").order_key == "B2"


def test_a_spare_is_no_new_link(here: World) -> None:
    run = here.planned("A1", "B2", max_new_links=2)
    here.spare(run, "A1", "71")
    assert links(here) == 2
    assert here.refused(run, "B2").step is Step.DONE
    assert here.state("B2") is R.RESERVED


def test_an_order_that_has_its_link_is_done_beyond_the_limit_too(here: World) -> None:
    run = here.planned("A1", max_new_links=1)
    here.served(run, "A1")
    assert here.refused(run, "A1").step is Step.DONE


# -- per clock day -----------------------------------------------------------------------------------------------------


def test_the_limit_of_a_day_holds_over_all_runs_and_processes(here: World) -> None:
    keys = ("A1", "B2", "C3")
    first, second = here.planned(*keys, run_id="first"), here.planned(*keys, run_id="second")
    here.answer(here.intend(first, "A1", by=limited(here, 2)), a_link())
    here.intend(first, "B2", by=limited(here, 2, "worker 3"))
    refusal = here.refused(second, "C3", by=limited(here, 2, "worker 4"))
    assert (refusal.step, refusal.reason) == (Step.LIMIT, "the day has its 2 new links (max_new_links_per_day)")
    assert here.intend(second, "C3").order_key == "C3", "a process without the setting knows no limit"


def test_a_day_counts_what_was_called_before_its_limit_was_set(here: World) -> None:
    run = here.planned("A1", "B2")
    here.served(run, "A1")
    assert here.refused(run, "B2", by=limited(here, 1)).step is Step.LIMIT


def test_the_next_day_begins_at_midnight_of_the_shop(here: World) -> None:
    run = here.planned("A1", "B2")
    here.intend(run, "A1", by=limited(here, 1))
    here.rows.execute("update passport_ops.new_links set clock_day = clock_day - 1")
    assert here.intend(run, "B2", by=limited(here, 1)).order_key == "B2"
    days = "select array_agg(distinct clock_day order by clock_day) from passport_ops.attempt"
    zones = {"Etc/GMT+12": timedelta(hours=-12), "Etc/GMT-14": timedelta(hours=14)}
    for zone, offset in zones.items():
        here.rows.execute("truncate passport_ops.attempt, passport_ops.new_links")
        key = f"in {zone}"
        here.intend(here.planned(key, run_id=zone), key, by=limited(here, 1, zone, timezone=zone))
        assert here.one(days) == [(here.one("select now() at time zone 'UTC'") + offset).date()]


def test_the_tighter_limit_is_named(here: World) -> None:
    run = here.planned("A1", "B2", max_new_links=5)
    here.intend(run, "A1")
    assert "max_new_links_per_day" in (here.refused(run, "B2", by=limited(here, 1)).reason or "")


# -- what people see ---------------------------------------------------------------------------------------------------


def test_attention_has_one_line_for_a_run_that_reached_its_limit(here: World) -> None:
    run = here.planned("A1", "B2", "C3", max_new_links=1)
    here.served(run, "A1")
    here.grant(run, "B2", "C3")
    here.grant(attempt_of(clear=1), "B2", "C3")
    assert here.rows.execute(ATTENTION).fetchall() == [
        (
            "run",
            None,
            "2 of its orders wait: it has its 1 new links (max_new_links)",
            "see whether so many orders are meant, or correct the campaigns and clear the run. If they are meant, "
            "trigger a run by hand for their business day with a higher max_new_links",
        )
    ]
    here.rows.execute("update passport_ops.reservation set first_seen_at = now() - interval '3 days'")
    assert here.rows.execute("select distinct kind from passport.needs_attention").fetchall() == [("limit_reached",)]
    by_hand = here.planned("B2", "C3", run_id="by hand")
    here.served(by_hand, "B2")
    here.served(by_hand, "C3")
    assert here.rows.execute("select from passport.needs_attention").fetchall() == []


def test_attention_has_one_line_for_a_day_that_reached_its_limit(here: World) -> None:
    keys = ("A1", "B2", "C3")
    first, second = here.planned(*keys, run_id="first"), here.planned(*keys, run_id="second")
    here.served(first, "A1")
    by = limited(here, 1)
    here.grant(first, "B2", by=by)
    here.grant(second, "C3", by=by)
    today = here.one("select (now() at time zone 'UTC')::date")
    assert here.rows.execute(ATTENTION).fetchall() == [
        (
            None,
            f"day {today}",
            "2 of its orders wait: it has its new links (max_new_links_per_day)",
            "see whether so many orders are meant, or correct the campaigns and clear the run. If they are meant, "
            "raise PASSPORT_LINKS_MAX_NEW_LINKS_PER_DAY and clear the run, or clear it on another day",
        )
    ]
