"""The daily DAG on a real Airflow: whatever Airflow does, the platform gives each order one passport.

The tests share one running stack and build on each other in the order they stand here.
"""

from collections import Counter

import pytest

from local.processes import wait_until
from sandbox.checker import check
from sandbox.faults import Fault
from tests.integration.conftest import RESERVE, Running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(420), pytest.mark.xdist_group("integration")]


def test_the_schedule_serves_yesterday_and_finds_late_orders(running: Running) -> None:
    running.stack.api.unpause(RESERVE)  # the latest missed interval runs at once
    assert wait_until(lambda: bool(running.stack.api.runs(RESERVE)), 60)
    [run] = running.stack.api.runs(RESERVE)
    running.await_run(run["dag_run_id"])

    assert run["run_type"] == "scheduled"
    assert running.published(running.day(1)) == 12
    assert running.published(running.day(2)) == 5
    assert running.given_out() == 17
    assert running.task_states(run["dag_run_id"])["reserve", "success"] == 17
    assert running.ask(
        "select complete, orders, published, lacking from passport.days where business_day = %s", running.day(1)
    ) == [(True, 12, 12, 0)]


def test_one_order_tasks_start_no_worker_and_name_their_order_in_the_log(running: Running) -> None:
    [run] = running.stack.api.runs(RESERVE)
    tasks = [task for task in running.stack.api.tasks(RESERVE, run["dag_run_id"]) if task["task_id"] == "reserve"]

    assert {task["hostname"] for task in tasks} == {""}  # no worker ever reported for them
    log = running.stack.api.log(RESERVE, run["dag_run_id"], "reserve", map_index=0)
    [first] = running.ask("select order_key from passport_ops.run_order where task_index = 0")
    assert f"order {first[0]}: reserved" in log


def test_a_day_that_was_served_costs_nothing_when_run_again(running: Running) -> None:
    before = running.given_out()

    run_id = running.run_day(running.day(1))

    assert running.calls(run_id) == 0
    assert running.given_out() == before


def test_clearing_a_whole_run_asks_for_nothing_twice(running: Running) -> None:
    before = running.given_out()
    [run] = [each for each in running.stack.api.runs(RESERVE) if each["run_type"] == "scheduled"]

    running.stack.api.clear_run(RESERVE, run["dag_run_id"])
    running.await_restart(run["dag_run_id"])
    running.await_run(run["dag_run_id"])

    assert running.given_out() == before


def test_a_backfill_serves_its_days_and_all_runs_again_changes_nothing(running: Running) -> None:
    before = running.given_out()
    first, last = f"{running.day(10)}T00:00:00Z", f"{running.day(8)}T23:59:59Z"

    running.stack.api.wait_for_backfill(running.stack.api.backfill(RESERVE, first, last))
    assert [running.published(running.day(age)) for age in (10, 9, 8)] == [3, 6, 4]
    assert running.given_out() == before + 13

    running.stack.api.wait_for_backfill(running.stack.api.backfill(RESERVE, first, last, reprocess="completed"))
    backfilled = [run for run in running.stack.api.runs(RESERVE) if run["run_type"] == "backfill"]
    assert len(backfilled) == 3
    assert {run["state"] for run in backfilled} == {"success"}
    assert running.given_out() == before + 13
    assert {running.task_states(run["dag_run_id"])["trigger_reset", "skipped"] for run in backfilled} == {1}


def test_two_runs_of_one_day_at_once_share_its_orders(running: Running) -> None:
    before = running.given_out()
    running.sandbox.set_switches(latency_ms=300)
    day = running.day(12)

    runs = [running.stack.api.trigger(RESERVE, {"day": day.isoformat()}) for _ in range(2)]
    for run_id in runs:
        running.await_run(run_id)

    running.sandbox.set_switches(latency_ms=0)
    assert running.published(day) == 30
    assert running.given_out() == before + 30


def test_a_killed_triggerer_costs_no_order_its_link(running: Running) -> None:
    before, wasted = running.given_out(), running.wasted()
    running.sandbox.set_switches(latency_ms=1500)
    day = running.day(13)

    run_id = running.stack.api.trigger(RESERVE, {"day": day.isoformat()})
    assert wait_until(lambda: running.given_out() >= before + 4, 120)
    running.stack.triggerer.kill()
    running.sandbox.set_switches(latency_ms=0)
    running.stack.triggerer.restart()
    running.await_run(run_id)

    assert running.published(day) == 30
    unknown = running.ask("select count(*) from passport_ops.attempt where run_id = %s and outcome = 'unknown'", run_id)
    assert 1 <= unknown[0][0] <= 8  # at most what was under way
    assert running.wasted() - wasted <= unknown[0][0]


def test_a_transaction_that_a_killed_scheduler_left_open_is_ended_by_the_database(running: Running) -> None:
    assert running.ask("show idle_in_transaction_session_timeout") == [("20s",)]


def test_a_big_day_is_assigned_to_slices_that_workers_serve(running: Running) -> None:
    before = running.given_out()

    run_id = running.run_day(running.day(14), per_order_limit=10, max_tasks=3)

    assert running.task_states(run_id)["reserve", "success"] == 3
    assert running.published(running.day(14)) == 30
    assert running.given_out() == before + 30
    assert "10 orders: 10 served" in running.stack.api.log(RESERVE, run_id, "reserve", map_index=0)


def test_an_empty_pool_skips_its_orders_fails_the_run_and_a_clear_serves_them(running: Running) -> None:
    day = running.day(15)

    run_id = running.run_day(day, expect="failed")

    states = running.task_states(run_id)
    assert (states["reserve", "success"], states["reserve", "skipped"]) == (2, 2)
    assert states["check_run", "failed"] == 1
    assert running.published(day) == 2
    assert "2 of 4 orders have a link (2 out_of_stock)" in running.whole_log(run_id, "check_run")

    running.sandbox.create_pool("it-scarce", 10)
    running.stack.api.clear_run(RESERVE, run_id)
    running.await_restart(run_id)
    running.await_run(run_id)
    assert running.published(day) == 4


def test_an_answer_that_stops_the_run_fails_its_order_at_once_skips_the_others_and_a_clear_serves_all(
    running: Running,
) -> None:
    day = running.day(11)
    running.sandbox.queue_fault("redirect")

    run_id = running.run_day(day, expect="failed")

    states = running.task_states(run_id)
    assert (states["reserve", "failed"], states["reserve", "skipped"]) == (1, 5)
    assert {task["try_number"] for task in running.stack.api.tasks(RESERVE, run_id) if task["state"] == "failed"} == {1}
    assert running.calls(run_id) == 1
    assert "302: the NMP redirects" in running.whole_log(run_id, "check_run")

    running.stack.api.clear_run(RESERVE, run_id)
    running.await_restart(run_id)
    running.await_run(run_id)
    assert running.published(day) == 6


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ({"day": "2999-01-01"}, "2999-01-01 has not ended in UTC"),
        ({"campaigns": ["nobody"]}, "no campaign is named 'nobody'; the file has 'scarce', 'everyone'"),
    ],
)
def test_a_run_that_cannot_be_fails_once_with_one_sentence(running: Running, conf: dict, sentence: str) -> None:
    before = running.given_out()

    run_id = running.stack.api.trigger(RESERVE, conf)
    running.await_run(run_id, expect="failed")

    [extraction] = [task for task in running.stack.api.tasks(RESERVE, run_id) if task["task_id"] == "extract_orders"]
    assert (extraction["state"], extraction["try_number"]) == ("failed", 1)
    assert sentence in running.whole_log(run_id, "extract_orders")
    assert running.given_out() == before


def test_a_day_under_every_fault_is_served_when_a_person_has_decided(running: Running) -> None:
    day = running.day(16)
    before = Counter(running.sandbox.counters()["faults"])
    for fault in Fault:
        running.sandbox.queue_fault(fault.value)

    run_id = running.run_day(day, expect="failed")
    for _ in range(6):
        for (order_key,) in running.ask("select order_key from passport_ops.reservation where state = 'held'"):
            running.release(order_key)
        running.stack.api.clear_run(RESERVE, run_id)
        running.await_restart(run_id)
        if running.stack.api.wait_for_run(RESERVE, run_id, 300)["state"] == "success":
            break

    assert running.published(day) == 24
    assert Counter(running.sandbox.counters()["faults"]) - before == dict.fromkeys((fault.value for fault in Fault), 1)
    outcomes = {row[0] for row in running.ask("select outcome from passport_ops.attempt where run_id = %s", run_id)}
    outcomes.discard("duplicate")  # the one that was given twice may be one whose first answer got lost
    assert outcomes == {"redirected", "reserved", "throttled", "unknown", "unreadable", "wrong_link"}


def test_every_order_has_one_passport_and_every_passport_one_order(running: Running) -> None:
    assert running.ask("select state, count(*) from passport_ops.reservation group by state") == [("reserved", 154)]
    assert running.ask("select count(*), count(distinct certificate_id) from passport.links") == [(154, 154)]
    kept = "select outcome from passport_ops.answer join passport_ops.attempt using (attempt_id) order by outcome"
    assert running.ask(kept) == [("unreadable",), ("wrong_link",)]
    given = [entry for entry in running.sandbox.history() if entry["kind"] == "reserve" and entry["certificate_id"]]
    received = {row[0] for row in running.ask("select certificate_id from passport_ops.passport")}
    lost = {str(entry["certificate_id"]) for entry in given} - received
    explained = ("unknown", "redirected", "unreadable", "wrong_link")
    unknown = running.ask("select count(*) from passport_ops.attempt where outcome = any(%s)", list(explained))
    assert len(lost) <= unknown[0][0]
    assert check(running.stack.warehouse, running.sandbox.history()).violations == ()
