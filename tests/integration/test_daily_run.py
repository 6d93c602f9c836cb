"""The daily DAG on a real Airflow: whatever Airflow does, the platform gives each order one passport.

The tests share one running stack. Each has business days of its own, and after each the promises are checked.
"""

from collections.abc import Iterator

import pytest

from local.processes import wait_until
from sandbox.checker import check
from sandbox.faults import CallKind, faults_of
from tests.integration.conftest import RESERVE, RESET, FailedRun, Running


@pytest.fixture(autouse=True)
def _the_promises_hold_after_each_test(running: Running) -> Iterator[None]:
    yield
    assert_every_order_has_one_passport(running)


def assert_every_order_has_one_passport(running: Running) -> None:
    """Compare the ledger with what is published and with the platform's history, once all runs have ended well."""
    [(orders,)] = running.ask("select count(*) from passport_ops.reservation")
    assert running.ask("select state, count(*) from passport_ops.reservation group by state") == [("reserved", orders)]
    links = "select count(*), count(distinct order_key), count(distinct certificate_id) from passport.links"
    assert running.ask(links) == [(orders, orders, orders)]
    given = [entry for entry in running.sandbox.history() if entry["kind"] == "reserve" and entry["certificate_id"]]
    received = {row[0] for row in running.ask("select certificate_id from passport_ops.passport")}
    lost = {str(entry["certificate_id"]) for entry in given} - received
    explained = ["unknown", "redirected", "unreadable", "wrong_link"]
    [(possible,)] = running.ask("select count(*) from passport_ops.attempt where outcome = any(%s)", explained)
    assert len(lost) <= possible
    assert check(running.stack.warehouse, running.sandbox.history()).violations == ()


def test_every_order_has_one_passport_and_every_passport_one_order(
    running: Running, out_of_stock: FailedRun, redirected: FailedRun, under_every_fault: FailedRun
) -> None:
    [(orders,)] = running.ask("select count(*) from passport.links")
    assert orders >= 12 + 5 + 4 + 6 + 24  # the schedule's two days and those of the three runs
    assert_every_order_has_one_passport(running)


def test_the_schedule_serves_yesterday_and_finds_late_orders(running: Running) -> None:
    assert running.stack.api.run(RESERVE, running.scheduled)["run_type"] == "scheduled"
    assert running.published(running.day(1)) == 12
    assert running.published(running.day(2)) == 5
    assert running.calls(running.scheduled) == 17
    assert running.task_states(running.scheduled)["reserve", "success"] == 17
    assert running.ask(
        "select complete, orders, published, lacking from passport.days where business_day = %s", running.day(1)
    ) == [(True, 12, 12, 0)]


def test_one_order_tasks_start_no_worker_and_name_their_order_in_the_log(running: Running) -> None:
    tasks = [task for task in running.stack.api.tasks(RESERVE, running.scheduled) if task["task_id"] == "reserve"]

    assert {task["hostname"] for task in tasks} == {""}  # no worker ever reported for them
    log = running.stack.api.log(RESERVE, running.scheduled, "reserve", map_index=0)
    first = "select order_key from passport_ops.run_order where run_id = %s and task_index = 0"
    [(order_key,)] = running.ask(first, running.scheduled)
    assert f"order {order_key}: reserved" in log


def test_a_day_that_was_served_costs_nothing_when_run_again(running: Running) -> None:
    before = running.given_out()

    run_id = running.run_day(running.day(1))

    assert running.calls(run_id) == 0
    assert running.given_out() == before


def test_the_end_of_a_run_remembers_the_ledgers_count_and_a_ledger_with_less_is_asked_for_nothing(
    running: Running,
) -> None:
    [(warehouse_id, grants)] = running.ask("select warehouse_id, grants from passport_ops.gate")
    path = f"/variables/passport_links_grants_{warehouse_id}"
    remembered = running.stack.api.get(path)["value"]
    assert 17 <= int(remembered) <= grants
    more = {"key": path.rpartition("/")[2], "value": str(grants + 3)}
    running.stack.api.call("PATCH", path, json=more)
    before = running.given_out()
    try:
        run_id = running.run_day(running.day(1), expect="failed")
    finally:
        running.stack.api.call("PATCH", path, json={**more, "value": remembered})
        running.do("update passport_ops.gate set went_back_at = null, remembered = null")
    assert f"it counts {grants} grants, and {grants + 3} were seen" in running.whole_log(run_id, "extract_orders")
    assert running.given_out() == before


def test_a_paused_reset_fails_no_daily_run_and_the_log_says_what_to_unpause(running: Running) -> None:
    running.stack.api.pause(RESET)
    try:
        run_id = running.run_day(running.day(1))
    finally:
        running.stack.api.unpause(RESET)

    assert running.task_states(run_id)[("trigger_reset", "skipped")] == 1
    sentence = "resets are paused: unpause the DAG reset_stale_reservations to go on with them"
    assert sentence in running.whole_log(run_id, "trigger_reset")


def test_a_dry_run_says_what_a_day_would_ask_for_and_nothing_is_called_or_changed(running: Running) -> None:
    before, days = running.given_out(), running.ask("select count(*) from passport_ops.day")
    run_id = running.run_day(running.day(17), dry_run=True, max_new_links=3)
    assert running.task_states(run_id) == {
        ("extract_orders", "success"): 1,
        ("reserve", "skipped"): 1,
        ("load_links", "skipped"): 1,
        ("check_run", "skipped"): 1,
        ("trigger_reset", "skipped"): 1,
    }
    assert (running.given_out(), running.ask("select count(*) from passport_ops.day")) == (before, days)
    assert running.ask("select from passport_ops.run where run_id = %s", run_id) == []
    log = running.whole_log(run_id, "extract_orders")
    assert "4 orders without a link in all" in log
    assert "max_new_links (3) would leave 1 orders waiting" in log


def test_clearing_a_whole_run_asks_for_nothing_twice(running: Running) -> None:
    run_id = running.run_day(running.day(17))
    assert running.calls(run_id) == 4
    before = running.given_out()

    assert running.clear(run_id) == "success"

    assert running.calls(run_id) == 4
    assert running.given_out() == before


def test_a_backfill_serves_its_days_and_all_runs_again_changes_nothing(running: Running) -> None:
    before = running.given_out()
    first, last = f"{running.day(9)}T00:00:00Z", f"{running.day(8)}T23:59:59Z"

    running.stack.api.wait_for_backfill(running.stack.api.backfill(RESERVE, first, last))
    assert [running.published(running.day(age)) for age in (9, 8)] == [6, 4]
    assert running.given_out() == before + 10

    running.stack.api.wait_for_backfill(running.stack.api.backfill(RESERVE, first, last, reprocess="completed"))
    backfilled = [run for run in running.stack.api.runs(RESERVE) if run["run_type"] == "backfill"]
    assert len(backfilled) == 2
    assert {run["state"] for run in backfilled} == {"success"}
    assert running.given_out() == before + 10
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


def test_an_empty_pool_skips_its_orders_fails_the_run_and_a_clear_serves_them(
    running: Running, out_of_stock: FailedRun
) -> None:
    assert (out_of_stock.count("reserve", "success"), out_of_stock.count("reserve", "skipped")) == (2, 2)
    assert out_of_stock.count("check_run", "failed") == 1
    assert out_of_stock.published == 2
    assert "2 of 4 orders have a link (2 out_of_stock)" in out_of_stock.log
    assert running.published(out_of_stock.day) == 4


def test_an_answer_that_stops_the_run_fails_its_order_at_once_skips_the_others_and_a_clear_serves_all(
    running: Running, redirected: FailedRun
) -> None:
    assert (redirected.count("reserve", "failed"), redirected.count("reserve", "skipped")) == (1, 5)
    assert {task["try_number"] for task in redirected.tasks if task["state"] == "failed"} == {1}
    assert redirected.calls == 1
    assert "302: a redirect, which is never followed" in redirected.log
    assert running.published(redirected.day) == 6


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ({"day": "2999-01-01"}, "2999-01-01 has not ended in UTC"),
        ({"campaigns": ["nobody"]}, "no campaign is named 'nobody'; the file has 'scarce', 'rare', 'everyone'"),
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


def test_a_day_under_every_fault_is_served_when_a_person_has_decided(
    running: Running, under_every_fault: FailedRun
) -> None:
    assert running.published(under_every_fault.day) == 24
    assert under_every_fault.faults == dict.fromkeys(faults_of(CallKind.RESERVE), 1)
    rows = "select outcome from passport_ops.attempt where run_id = %s"
    outcomes = {row[0] for row in running.ask(rows, under_every_fault.run_id)}
    outcomes.discard("duplicate")  # the one that was given twice may be one whose first answer got lost
    assert outcomes == {"redirected", "reserved", "throttled", "unknown", "unreadable", "wrong_link"}
    kept = "select outcome from passport_ops.answer join passport_ops.attempt using (attempt_id) order by outcome"
    assert running.ask(kept) == [("unreadable",), ("unreadable",)]
    withheld = "select outcome from passport_ops.passport join passport_ops.attempt using (attempt_id) where state = %s"
    assert running.ask(withheld, "withheld") == [("wrong_link",)]
