"""Two writers at the same rows at the same moment: the test holds the lock that makes one wait, and lets go in time."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from include.attention.deciding import Resolved, resolve
from include.attention.kinds import Action
from include.business_day import bounds_of
from include.campaigns import Campaign
from include.claims.syncing import ClaimsOfTag, apply_claims
from include.ledger.calls import CallLedger
from include.ledger.granting import Grant
from include.ledger.leases import lapse_calls_of_tag
from include.ledger.runs import RunLedger
from include.ledger.states import ReservationState
from include.ledger.transitions import Step
from include.outcomes import AttemptOutcome
from include.resets.resetting import ResetDone, reset_tag
from include.sql_files import sql_of
from include.warehouse.database import open_session
from local.processes import wait_until
from sandbox.checker import examine
from tests.builders.world import DAY, UTC_ZONE, World, a_link, an_answer, attempt_of, order, plan, world

reset_sql = sql_of("include.resets")

A, R = AttemptOutcome, ReservationState
PATIENCE = 10


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


@contextmanager
def holding(here: World, lock: str, *values: Any) -> Iterator[Callable[[], None]]:
    """Holds what ``lock`` locks in a transaction of its own until the given function is called, or the block ends."""
    with open_session(here.uri, application_name="the test") as connection:
        connection.execute(lock, values)
        yield connection.rollback


def blocked(here: World) -> int:
    """How many statements wait for a lock in this database right now."""
    return int(
        here.one(
            """
            select count(*) from pg_stat_activity
            where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0
            """
        )
    )


def now_blocked(here: World, count: int = 1) -> None:
    """Waits until so many statements wait for a lock."""
    assert wait_until(lambda: blocked(here) == count, PATIENCE, 0.01), f"{blocked(here)} instead of {count} wait"


def done_or_blocked(here: World, work: "Future[Any]", count: int) -> None:
    assert wait_until(lambda: work.done() or blocked(here) == count, PATIENCE, 0.01)


# -- grant against grant -----------------------------------------------------------------------------------------------


def test_of_many_who_ask_for_the_same_orders_at_once_each_order_gets_one_intent(here: World) -> None:
    keys = [f"A{n:02}" for n in range(20)]
    run = here.planned(*keys)
    workers = [here.worker(f"worker {n}", concurrency=100) for n in range(6)]
    barrier = threading.Barrier(len(workers))

    def ask(worker: CallLedger) -> Grant:
        barrier.wait()
        return worker.grant(run, keys, slots=100)

    with ThreadPoolExecutor(len(workers)) as pool:
        grants = list(pool.map(ask, workers))
    intents = [intent.order_key for grant in grants for intent in grant.intents]
    assert sorted(intents) == keys
    assert here.one("select count(*) from passport_ops.attempt") == 20
    steps = {refusal.step for grant in grants for refusal in grant.refusals}
    assert steps <= {Step.LEASED, Step.WAIT}


def test_many_who_ask_at_once_keep_within_the_cap(here: World) -> None:
    keys = [f"A{n:02}" for n in range(12)]
    run = here.planned(*keys)
    workers = [here.worker(f"worker {n}", concurrency=5) for n in range(4)]
    barrier = threading.Barrier(len(workers))

    def ask(worker: CallLedger) -> Grant:
        barrier.wait()
        return worker.grant(run, keys, slots=100)

    with ThreadPoolExecutor(len(workers)) as pool:
        grants = list(pool.map(ask, workers))
    assert sum(len(grant.intents) for grant in grants) == 5


def test_of_two_runs_of_one_day_only_one_calls_for_an_order(here: World, threads: ThreadPoolExecutor) -> None:
    first, second = here.planned("A1", run_id="first"), here.planned("A1", run_id="second")
    with holding(here, "lock table passport_ops.attempt in share mode") as let_go:
        one = threads.submit(here.grant, first, "A1")
        now_blocked(here)
        other = threads.submit(here.grant, second, "A1", by=here.worker("worker 2"))
        now_blocked(here, 2)
        let_go()
        grants = [one.result(PATIENCE), other.result(PATIENCE)]
    assert [len(grant.intents) for grant in grants] == [1, 0]
    assert [refusal.step for refusal in grants[1].refusals] == [Step.LEASED]


def test_a_backfill_beside_the_schedule_calls_once_for_an_order_that_both_carry(
    here: World, threads: ThreadPoolExecutor
) -> None:
    here.register(order("A1"))
    schedule = plan("schedule", days=(DAY + timedelta(days=1),), scheduled=True)
    with holding(here, "lock table passport_ops.run_order in share mode") as let_go:
        one = threads.submit(here.runs.plan_run, schedule)
        now_blocked(here)
        other = threads.submit(here.planner().plan_run, plan("backfill"))
        now_blocked(here, 2)
        let_go()
        assert one.result(PATIENCE).labels == other.result(PATIENCE).labels == ["A1"]
    with holding(here, "lock table passport_ops.attempt in share mode") as let_go:
        one = threads.submit(here.grant, attempt_of("schedule"), "A1")
        now_blocked(here)
        other = threads.submit(here.grant, attempt_of("backfill"), "A1", by=here.worker("worker 3"))
        now_blocked(here, 2)
        let_go()
        [intent] = one.result(PATIENCE).intents
        assert [refusal.step for refusal in other.result(PATIENCE).refusals] == [Step.LEASED]
    here.answer(intent, a_link("77"))
    assert here.refused(attempt_of("backfill"), "A1").step is Step.DONE


def test_two_first_calls_of_one_run_never_go_together(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1", "B2", opened=False)
    with holding(here, "lock table passport_ops.attempt in share mode") as let_go:
        one = threads.submit(here.grant, run, "A1")
        now_blocked(here)
        other = threads.submit(here.grant, run, "B2", by=here.worker("worker 2"))
        now_blocked(here, 2)
        let_go()
        grants = [one.result(PATIENCE), other.result(PATIENCE)]
    assert [len(grant.intents) for grant in grants] == [1, 0]


def test_the_last_spare_of_a_tag_goes_to_one_order(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1", "B2", "C3")
    here.spare(run, "A1", "2", own="1")
    with holding(here, "lock table passport_ops.unpublished in share mode") as let_go:
        one = threads.submit(here.grant, run, "B2")
        now_blocked(here)
        other = threads.submit(here.grant, run, "C3", by=here.worker("worker 2"))
        now_blocked(here, 2)
        let_go()
        one.result(PATIENCE)
        assert [intent.order_key for intent in other.result(PATIENCE).intents] == ["C3"]
    assert here.passports() == [("1", "assigned", "A1"), ("2", "assigned", "B2")]


def test_an_intent_that_a_broken_connection_is_still_committing_is_given_back(
    here: World, threads: ThreadPoolExecutor
) -> None:
    run = here.planned("A1")
    with holding(here, "lock table passport_ops.attempt in share mode") as let_go:
        granting = threads.submit(here.grant, run, "A1")
        now_blocked(here)
        disowning = threads.submit(here.worker("worker 1").disown, [])  # the same caller on its next connection
        done_or_blocked(here, disowning, 2)
        let_go()
        assert len(granting.result(PATIENCE).intents) == 1
        assert disowning.result(PATIENCE) == 1
    assert here.state("A1") is R.PENDING


def test_a_lease_counts_from_before_its_grant_had_to_wait(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1")
    with holding(here, "select from passport_ops.gate for update") as let_go:
        granting = threads.submit(here.grant, run, "A1")
        now_blocked(here)
        asked = here.one("select clock_timestamp()")
        let_go()
        assert len(granting.result(PATIENCE).intents) == 1
    for table in ("reservation", "attempt"):
        lease_until = here.one(f"select lease_until from passport_ops.{table}")
        assert lease_until <= asked + timedelta(seconds=60), table


def test_a_spare_that_somebody_is_ending_is_not_given(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1", "B2")
    here.spare(run, "A1", "2", own="1")
    end = "update passport_ops.passport set state = 'ended', end_reason = 'claimed_spare' where state = 'spare'"
    with holding(here, end):
        granting = threads.submit(here.grant, run, "B2")
        assert [intent.order_key for intent in granting.result(PATIENCE).intents] == ["B2"]


def test_a_spare_that_arrives_again_while_it_is_given_away_stays_with_its_order(
    here: World, threads: ThreadPoolExecutor
) -> None:
    run = here.planned("A1", "B2", "C3")
    late = here.intend(run, "A1")
    here.end_leases()
    second, again = here.intend(run, "A1"), here.intend(run, "B2")
    here.answer(second, a_link("1"))
    here.answer(late, a_link("2"))
    with holding(here, "lock table passport_ops.unpublished in share mode") as let_go:
        giving = threads.submit(here.grant, run, "C3", by=here.worker("worker 2"))
        now_blocked(here)
        settling = threads.submit(here.ledger.settle, {again.attempt_id: a_link("2")})
        now_blocked(here, 2)
        let_go()
        giving.result(PATIENCE)
        (settled,) = settling.result(PATIENCE)
    assert (settled.outcome, settled.state) == (A.DUPLICATE, R.PENDING)
    assert here.passports() == [("1", "assigned", "A1"), ("2", "assigned", "C3"), ("2", "ended", "B2")]


# -- grant against settle ----------------------------------------------------------------------------------------------


def test_an_order_whose_answer_is_being_settled_is_asked_again_soon(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.end_leases()
    with holding(here, "lock table passport_ops.passport in share mode") as let_go:
        settling = threads.submit(here.ledger.settle, {intent.attempt_id: a_link("1")})
        now_blocked(here)
        assert here.refused(run, "A1", by=here.worker("worker 2")).step is Step.WAIT
        let_go()
        assert settling.result(PATIENCE)[0].state is R.RESERVED
    assert here.refused(run, "A1").step is Step.DONE


def test_an_intent_that_began_before_a_stop_is_followed_by_none(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1", "B2", "C3", stop_after_refusals=1)
    refused = here.intend(run, "A1")
    with holding(here, "lock table passport_ops.attempt in share row exclusive mode") as let_go:
        granting = threads.submit(here.grant, run, "B2", by=here.worker("worker 2"))
        now_blocked(here)
        stopping = threads.submit(here.ledger.settle, {refused.attempt_id: an_answer(A.REFUSED)})
        now_blocked(here, 2)
        let_go()
        assert len(granting.result(PATIENCE).intents) == 1
        stopping.result(PATIENCE)
    assert here.refused(run, "C3").step is Step.STOPPED
    assert here.one(
        "select bool_and(intended_at < stopped_at) from passport_ops.attempt "
        "join passport_ops.run_attempt using (run_id, run_started_at)"
    )


def a_stop_meets_a_grant(here: World, threads: ThreadPoolExecutor) -> Grant:
    """What a grant gives that had to wait for the stop of its run to be committed."""
    run = here.planned("A1", "B2", stop_after_refusals=1)
    refused = here.intend(run, "A1")
    with holding(here, "select from passport_ops.run_attempt for update") as let_go:
        stopping = threads.submit(here.ledger.settle, {refused.attempt_id: an_answer(A.REFUSED)})
        now_blocked(here)
        granting = threads.submit(here.grant, run, "B2", by=here.worker("worker 2"))
        now_blocked(here, 2)
        let_go()
        stopping.result(PATIENCE)
        return granting.result(PATIENCE)


def test_no_intent_slips_in_while_a_stop_is_being_committed(here: World, threads: ThreadPoolExecutor) -> None:
    assert [refusal.step for refusal in a_stop_meets_a_grant(here, threads).refusals] == [Step.STOPPED]


# -- settle against settle ---------------------------------------------------------------------------------------------


def test_of_two_orders_that_are_given_one_certificate_at_once_one_gets_it(
    here: World, threads: ThreadPoolExecutor
) -> None:
    run = here.planned("A1", "B2", opened=False)
    first = here.intend(run, "A1")
    here.rows.execute("update passport_ops.run set max_duplicates_per_run = 9")
    other_run = here.planned("A1", "B2", run_id="other")
    second = here.intend(other_run, "B2")
    with holding(here, "select from passport_ops.gate for update") as let_go:
        one = threads.submit(here.ledger.settle, {first.attempt_id: a_link("77")})
        now_blocked(here)  # it has stored its passport and waits to open its run
        other = threads.submit(here.worker("worker 2").settle, {second.attempt_id: a_link("77")})
        now_blocked(here, 2)  # for whether the first one's passport stays
        let_go()
        outcomes = [one.result(PATIENCE)[0], other.result(PATIENCE)[0]]
    assert [done.outcome for done in outcomes] == [A.RESERVED, A.DUPLICATE]
    assert [done.state for done in outcomes] == [R.RESERVED, R.PENDING]
    assert here.passports() == [("77", "assigned", "A1"), ("77", "ended", "B2")]


def test_a_certificate_whose_first_holder_is_rolled_back_goes_to_the_second(
    here: World, threads: ThreadPoolExecutor
) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    insert = "insert into passport_ops.passport (certificate_id, link_sha256, state) values ('77', 'x', 'spare')"
    with holding(here, insert) as let_go:
        settling = threads.submit(here.ledger.settle, {intent.attempt_id: a_link("77")})
        now_blocked(here)
        let_go()
        assert settling.result(PATIENCE)[0].state is R.RESERVED
    assert here.passports() == [("77", "assigned", "A1")]


def test_one_answer_settled_by_two_processes_at_once_is_one_passport(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1")
    intent, link = here.intend(run, "A1"), a_link("77")
    with holding(here, "lock table passport_ops.passport in share mode") as let_go:
        one = threads.submit(here.ledger.settle, {intent.attempt_id: link})
        now_blocked(here)
        other = threads.submit(here.worker("worker 2").settle, {intent.attempt_id: link})
        now_blocked(here, 2)
        let_go()
        assert len(one.result(PATIENCE)) == 1
        assert other.result(PATIENCE) == []
    assert here.passports() == [("77", "assigned", "A1")]


def test_two_late_links_of_one_order_at_once_give_it_one(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1")
    first = here.intend(run, "A1")
    here.end_leases()
    second = here.intend(run, "A1")
    here.end_leases()
    here.rows.execute("update passport_ops.run_attempt set opened_at = null")
    with holding(here, "select from passport_ops.gate for update") as let_go:
        one = threads.submit(here.ledger.settle, {first.attempt_id: a_link("1")})
        now_blocked(here)
        other = threads.submit(here.worker("worker 2").settle, {second.attempt_id: a_link("2")})
        now_blocked(here, 2)
        let_go()
        one.result(PATIENCE), other.result(PATIENCE)
    assert here.passports() == [("1", "assigned", "A1"), ("2", "spare", None)]


# -- a reset against both ----------------------------------------------------------------------------------------------


def close_tag(here: World) -> None:
    """The first transaction of a reset."""
    with open_session(here.uri) as connection:
        connection.execute(reset_sql("lock_tag"), {"tag": "gift"})
        connection.execute(reset_sql("close_tag"), {"tag": "gift"})


def finish_reset(here: World) -> None:
    """The last transaction of a reset."""
    with open_session(here.uri) as connection:
        connection.execute(reset_sql("lock_tag"), {"tag": "gift"})
        values = {"tag": "gift", "run_id": "reset", "resetting_since": "infinity", "requeued_campaigns": []}
        connection.execute(reset_sql("take_back"), values)
        connection.execute(reset_sql("end_passports"), {"tag": "gift"})
        connection.execute(reset_sql("next_epoch"), {"tag": "gift"})


def test_a_reset_waits_for_an_intent_that_is_being_committed(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1")
    with holding(here, "lock table passport_ops.attempt in share mode") as let_go:
        granting = threads.submit(here.grant, run, "A1")
        now_blocked(here)
        closing = threads.submit(close_tag, here)
        now_blocked(here, 2)
        let_go()
        assert len(granting.result(PATIENCE).intents) == 1
        closing.result(PATIENCE)
    (seconds,) = here.rows.execute(reset_sql("seconds_to_wait"), {"tag": "gift"}).fetchone() or (None,)
    assert seconds > 50, "the reset sees the lease that was granted just before it"


def test_no_intent_begins_while_a_reset_is_being_committed(here: World) -> None:
    run = here.planned("A1")
    with holding(here, "select from passport_ops.tag where tag = 'gift' for update"):
        assert here.refused(run, "A1").step is Step.WAIT
    close_tag(here)
    with holding(here, "select from passport_ops.tag where tag = 'gift' for update"):
        assert here.refused(run, "A1").step is Step.RESETTING
    assert here.one("select count(*) from passport_ops.attempt") == 0


def test_a_reset_waits_for_a_late_answer_that_is_being_settled(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1")
    late = here.intend(run, "A1")
    here.end_leases()
    lapse_calls_of_tag(here.rows, "gift")

    def reset() -> None:
        close_tag(here)
        finish_reset(here)

    insert = "insert into passport_ops.passport (certificate_id, link_sha256, state) values ('77', 'x', 'spare')"
    with holding(here, insert) as let_go:
        settling = threads.submit(here.ledger.settle, {late.attempt_id: a_link("77")})
        now_blocked(here)  # it has seen the epoch and is about to store its passport
        resetting = threads.submit(reset)
        done_or_blocked(here, resetting, 2)
        let_go()
        assert settling.result(PATIENCE)[0].state is R.RESERVED
        resetting.result(PATIENCE)
    assert here.one("select epoch from passport_ops.tag") == 1
    assert here.passports() == [("77", "ended", "A1")]
    assert here.state("A1") is R.RESET


def test_a_late_link_that_arrives_while_its_tag_is_being_reset_is_never_used(here: World) -> None:
    run = here.planned("A1")
    late = here.intend(run, "A1")
    here.end_leases()
    close_tag(here)
    lapse_calls_of_tag(here.rows, "gift")
    settled = here.answer(late, a_link("77"))
    assert (settled.outcome, settled.state) == (A.ENDED, R.UNKNOWN)
    finish_reset(here)
    assert here.passports() == [("77", "ended", "A1")]


def test_a_spare_is_not_given_while_its_tag_is_being_reset(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1", "B2")
    here.spare(run, "A1", "2", own="1")
    with holding(here, "lock table passport_ops.unpublished in share mode") as let_go:
        giving = threads.submit(here.grant, run, "B2")
        now_blocked(here)
        close_tag_soon = threads.submit(close_tag, here)
        now_blocked(here, 2)
        let_go()
        giving.result(PATIENCE), close_tag_soon.result(PATIENCE)
    finish_reset(here)
    assert {state for _, state, _ in here.passports()} == {"ended"}
    assert (here.state("A1"), here.state("B2")) == (R.RESET, R.RESET)


class Resets:
    """Stands for the NMP: every reset is done at once."""

    def reset_all(self, tag: str) -> int:
        return int(tag == "gift")


def test_a_late_answer_and_the_end_of_a_reset_do_not_lock_each_other_out(
    here: World, threads: ThreadPoolExecutor
) -> None:
    run = here.planned("A1")
    late = here.intend(run, "A1")
    here.end_leases()
    here.served(run, "A1", "1")
    here.rows.execute("update passport_ops.reservation set reserved_at = now() - interval '40 days'")
    here.rows.execute("update passport_ops.tag set claims_synced_at = now()")
    wants = Campaign(name="gift", tag="gift", products="*", stale_after="30d", reset="when_stale")
    asked = {"run_id": "reset", "campaigns": [wants], "synced_since": here.one("select now() - interval '1 d'")}
    with holding(here, "lock table passport_ops.passport in share mode") as let_go:
        resetting = threads.submit(reset_tag, here.uri, Resets(), "gift", **asked)
        now_blocked(here)  # it has taken A1's link back and is about to end the passport
        settling = threads.submit(here.ledger.settle, {late.attempt_id: a_link("2")})
        now_blocked(here, 2)
        let_go()
        assert isinstance(resetting.result(PATIENCE), ResetDone)
        assert settling.result(PATIENCE)[0].outcome is A.ENDED
    assert (here.state("A1"), {state for _, state, _ in here.passports()}) == (R.RESET, {"ended"})


def claimed(here: World, tag: str, *certificates: str) -> ClaimsOfTag:
    """The NMP lists just now that these were claimed under a tag."""
    with open_session(here.uri, autocommit=True) as connection:
        seen_at = here.one("select clock_timestamp()")
        return apply_claims(connection, tag, certificates, seen_at=seen_at, run_id="sync")


@pytest.mark.parametrize("tag", ["gift", "another tag of the certificate"])
def test_a_claim_that_meets_an_intent_being_committed_leaves_its_order_to_the_next_sync(
    here: World, threads: ThreadPoolExecutor, tag: str
) -> None:
    run = here.requeued("A1", "77")
    with holding(here, "lock table passport_ops.attempt in share mode") as let_go:
        granting = threads.submit(here.grant, run, "A1")
        now_blocked(here)
        syncing = threads.submit(claimed, here, tag, "77")
        now_blocked(here, 2)
        let_go()
        assert len(granting.result(PATIENCE).intents) == 1
        assert syncing.result(PATIENCE).after_reset == 0
    assert here.state("A1") is R.CALLING


def decided(here: World, key: str) -> Resolved:
    """A person closes an order."""
    with open_session(here.uri) as connection:
        return resolve(connection, [key], Action.CLOSE, "no more")


def test_a_person_who_decides_while_an_intent_is_being_committed_is_told_that_a_call_is_under_way(
    here: World, threads: ThreadPoolExecutor
) -> None:
    run = here.planned("A1")
    here.answer(here.intend(run, "A1"), an_answer(A.UNKNOWN))
    with holding(here, "lock table passport_ops.attempt in share mode") as let_go:
        granting = threads.submit(here.grant, run, "A1")
        now_blocked(here)
        deciding = threads.submit(decided, here, "A1")
        now_blocked(here, 2)
        let_go()
        assert len(granting.result(PATIENCE).intents) == 1
        [refused] = deciding.result(PATIENCE).refused
        assert "its call may be under way" in refused
    assert here.state("A1") is R.CALLING


# -- an extraction against the rest ------------------------------------------------------------------------------------


def register(ledger: RunLedger, *keys: str) -> None:
    orders = [order(key) for key in keys]
    ledger.register(orders, run_id="run", days_read=bounds_of([DAY], UTC_ZONE), pool_sizes={})


def test_an_extraction_and_an_empty_tag_do_not_lock_each_other_out(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1", "B2", "C3")
    intent = here.intend(run, "C3")
    with holding(here, "select from passport_ops.reservation where order_key = 'B2' for update") as let_go:
        registering = threads.submit(register, here.planner(), "A1", "B2", "C3")
        now_blocked(here)
        settling = threads.submit(here.ledger.settle, {intent.attempt_id: an_answer(A.OUT_OF_STOCK)})
        done_or_blocked(here, settling, 2)
        let_go()
        registering.result(PATIENCE)
        assert settling.result(PATIENCE)[0].state is R.OUT_OF_STOCK


def test_two_extractions_of_one_day_do_not_lock_each_other_out(here: World, threads: ThreadPoolExecutor) -> None:
    here.planned("A1", "B2", "C3")
    with holding(here, "select from passport_ops.reservation where order_key = 'C3' for update") as let_go:
        newer = threads.submit(register, here.runs, "B2", "C3")
        now_blocked(here)  # it has B2 and will cancel A1
        older = threads.submit(register, here.planner(), "A1", "B2", "C3")
        now_blocked(here, 2)  # it has A1 and wants B2
        let_go()
        newer.result(PATIENCE), older.result(PATIENCE)
    assert here.state("A1") in (R.PENDING, R.CANCELLED)


def test_an_extraction_that_changes_nothing_holds_no_tag(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1", "B2")
    with holding(here, "select from passport_ops.reservation where order_key = 'B2' for update") as let_go:
        registering = threads.submit(register, here.planner(), "A1", "B2", "C3")
        now_blocked(here)
        assert here.one("select count(*) from (select from passport_ops.tag for share skip locked) as free") == 1
        let_go()
        registering.result(PATIENCE)
    assert here.intend(run, "A1").tag == "gift"


def test_two_plans_of_one_run_at_once_assign_it_once(here: World, threads: ThreadPoolExecutor) -> None:
    here.planned("A1", "B2")
    with holding(here, "lock table passport_ops.run_order in share mode") as let_go:
        one = threads.submit(here.runs.plan_run, plan())
        now_blocked(here)
        other = threads.submit(here.planner().plan_run, plan())
        now_blocked(here, 2)
        let_go()
        assert one.result(PATIENCE).labels == other.result(PATIENCE).labels == ["A1", "B2"]
    assert here.one("select count(*) from passport_ops.run_order") == 2


def test_a_plan_and_answers_do_not_lock_each_other_out(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1")
    early = order("B2", paid_at=order("A1").paid_at - timedelta(hours=1))
    here.register(order("A1"), early)
    intents = [here.intend(run, "A1"), here.intend(run, "B2")]
    answers = {intent.attempt_id: a_link() for intent in intents}
    with holding(here, "select from passport_ops.reservation where order_key = 'B2' for update") as let_go:
        planning_other = threads.submit(here.planner().plan_run, plan("other"))
        now_blocked(here)
        settling = threads.submit(here.ledger.settle, answers)
        now_blocked(here, 2)
        let_go()
        assert planning_other.result(PATIENCE).orders == 2
        assert len(settling.result(PATIENCE)) == 2


def test_an_extraction_and_a_reset_do_not_lock_each_other_out(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.planned("A1")
    here.served(run, "A1", "101")
    close_tag(here)
    with holding(here, "lock table passport_ops.unpublished in share mode") as let_go:
        # a stand-in for whatever holds the extraction up between its rows and their checks
        blocker = open_session(here.uri)
        blocker.execute("select from passport_ops.reservation where order_key = 'A1' for update")
        registering = threads.submit(
            here.planner().register,
            [order("A1"), order("B2")],
            run_id="run",
            days_read=bounds_of([DAY], UTC_ZONE),
            pool_sizes={},
        )
        now_blocked(here)
        resetting = threads.submit(finish_reset, here)
        now_blocked(here, 2)
        blocker.rollback()
        blocker.close()
        let_go()
        registering.result(PATIENCE)
        resetting.result(PATIENCE)


# -- claims, spares of another tag, another isolation -----------------------------------------------------------------


def test_claims_and_an_answer_do_not_lock_each_other_out(here: World, threads: ThreadPoolExecutor) -> None:
    run = here.requeued("A1", "101")
    intent = here.intend(run, "A1")
    seen_at = here.one("select clock_timestamp()")
    with (
        open_session(here.uri, autocommit=True) as other,
        holding(here, "lock table passport_ops.passport in share mode") as let_go,
    ):
        syncing = threads.submit(apply_claims, other, "gift", ["101"], seen_at=seen_at, run_id="sync")
        now_blocked(here)  # it has A1
        settling = threads.submit(here.ledger.settle, {intent.attempt_id: an_answer(A.UNKNOWN)})
        now_blocked(here, 2)  # it shares the tag and waits for A1
        let_go()
        syncing.result(PATIENCE)
        assert len(settling.result(PATIENCE)) == 1


@pytest.mark.parametrize("claimed", [False, True], ids=["beside a live link", "alone"])
def test_a_spare_that_becomes_an_orders_while_its_tag_is_reset_is_not_ended_under_it(
    here: World, threads: ThreadPoolExecutor, claimed: bool
) -> None:
    run = here.planned("A1")
    here.spare(run, "A1", "77")  # of gift
    if claimed:
        here.rows.execute("update passport_ops.passport set state = 'claimed' where order_key = 'A1'")
        here.rows.execute("update passport_ops.reservation set state = 'claimed' where order_key = 'A1'")
    here.register(order("A1"), order("B2", tag="watch"))
    intent = here.intend(run, "B2")
    close_tag(here)
    with holding(here, "lock table passport_ops.unpublished in share mode") as let_go:
        settling = threads.submit(here.ledger.settle, {intent.attempt_id: a_link("77")})
        now_blocked(here)  # the spare is B2's, but not committed
        resetting = threads.submit(finish_reset, here)
        now_blocked(here, 2)
        let_go()
        settling.result(PATIENCE)
        resetting.result(PATIENCE)
    found = examine(here.rows, []).violations
    assert [str(violation) for violation in found if violation.promise == 1] == []


def test_a_database_that_is_set_to_another_isolation_changes_nothing(
    warehouse: str, threads: ThreadPoolExecutor
) -> None:
    with open_session(warehouse, autocommit=True) as admin:
        (name,) = admin.execute("select current_database()").fetchone()  # type: ignore[misc]
        admin.execute(f"alter database {name} set default_transaction_isolation = 'repeatable read'".encode())
    with world(warehouse) as here:
        assert [refusal.step for refusal in a_stop_meets_a_grant(here, threads).refusals] == [Step.STOPPED]
