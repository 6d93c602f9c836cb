"""Schedules of several runs a day, days that nobody read, and an extraction that fails, on a real Airflow.

The runs are those that the scheduler makes for an interval. They have a stack of their own, because a scheduled run
also serves the days of other tests that nobody has read yet.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

import pytest

from local.source_table import append
from sandbox.server import SandboxControl
from tests.builders.orders_csv import paid_order
from tests.integration.conftest import RESERVE, RESET, MailServer, Running, started_stack

QUARTER = timedelta(minutes=15)
ONE_DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, mails: MailServer, newest: date) -> Iterator[Running]:
    """A stack at work without any order: the schedule's run of the newest day is done."""
    with started_stack(tmp_path_factory.mktemp("schedules"), mails, []) as stack:
        running = Running(stack, SandboxControl(stack.sandbox_url), newest, mails.texts)
        running.serve_by_schedule()
        yield running


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def sell(running: Running, day: date, *names: str, product: str = "") -> None:
    """Write orders of these names into the shop, paid as the day began."""
    with running.stack.orders_db() as orders:
        append(orders, [paid_order(f"{day}-{name}", midnight(day), product=product) for name in names])


def state_of(running: Running, day: date) -> tuple[object, ...]:
    [row] = running.ask("select state, complete, orders, published from passport.days where business_day = %s", day)
    return row


def attention_of(running: Running, day: date) -> list[str]:
    """What to do about a day that was not read, or about the gap that it is in."""
    query = """
        select what_to_do from passport.needs_attention
        where kind = 'day_not_read' and %s between split_part(subject, ' ', 1)::date and right(subject, 10)::date
    """
    return [what_to_do for (what_to_do,) in running.ask(query, day)]


def resets_after(running: Running, day: date) -> int:
    return sum(run["dag_run_id"] == f"after__{day}" for run in running.stack.api.runs(RESET))


def test_a_day_is_open_and_served_as_far_as_it_is_known_until_the_run_after_its_end_closes_it(running: Running) -> None:
    today, quarters = running.newest + ONE_DAY, iter(range(96))

    def serve_quarter() -> str:
        start = midnight(today) + next(quarters) * QUARTER
        return running.run_interval(start, start + QUARTER)

    sell(running, today, "first")
    sell(running, today, "rare", product="Rare")
    running.sandbox.create_pool("it-rare", 0)
    first = serve_quarter()  # one order has no link, and the run does not fail for it
    assert state_of(running, today) == ("open", False, 2, 1)
    assert running.events(first) == [{"published_now": 1, "updated": 0, "days": {str(today): "open"}}]
    assert running.task_states(first)["trigger_reset", "skipped"] == 1

    running.sandbox.create_pool("it-rare", 5)
    second = serve_quarter()
    assert state_of(running, today) == ("open", False, 2, 2)
    assert [event["published_now"] for event in running.events(second)] == [1]

    third = serve_quarter()
    assert running.task_states(third)["load_links", "skipped"] == 1
    assert running.events(third) == []
    assert resets_after(running, today) == 0
    assert running.ask("select count(*) from passport.needs_attention where kind = 'day_not_read'") == [(0,)]

    past = running.day(60)
    sell(running, past, "late")
    closing = running.run_interval(midnight(past) + ONE_DAY - QUARTER, midnight(past) + ONE_DAY)
    assert state_of(running, past) == ("complete", True, 1, 1)
    assert running.events(closing)[0]["days"][str(past)] == "complete"
    assert running.task_states(closing)["trigger_reset", "success"] == 1
    assert resets_after(running, past) == 1


def test_a_day_whose_extraction_fails_is_unread_sends_no_event_and_a_clear_serves_it(running: Running) -> None:
    day = running.day(50)
    sell(running, day, "one", "two")
    with running.stack.orders_db() as orders:
        orders.execute("alter table orders rename to orders_away")
    try:
        failed = running.run_interval(midnight(day), midnight(day) + ONE_DAY, expect="failed")
    finally:
        with running.stack.orders_db() as orders:
            orders.execute("alter table orders_away rename to orders")
    assert state_of(running, day) == ("unread", False, 0, 0)
    assert running.events(failed) == []
    states = running.task_states(failed)
    assert (states["load_links", "skipped"], states["trigger_reset", "skipped"]) == (1, 1)
    sentence = f"Not read since the end of the day: {day}; clear extract_orders"
    assert sentence in running.whole_log(failed, "check_run")
    [what_to_do] = attention_of(running, day)
    assert f"backfill {RESERVE} from" in what_to_do

    assert running.clear(failed) == "success"
    assert state_of(running, day) == ("complete", True, 2, 2)
    assert running.events(failed)[0]["days"][str(day)] == "complete"
    assert attention_of(running, day) == []


def test_the_days_between_two_scheduled_runs_are_read_and_linked(running: Running) -> None:
    tenth, twentieth = running.day(40), running.day(30)
    days = [tenth + number * ONE_DAY for number in range(11)]
    for day in days:
        sell(running, day, "only")
    running.run_interval(midnight(tenth), midnight(tenth) + ONE_DAY)
    assert [running.published(day) for day in days] == [1] + 10 * [0]
    run_id = running.run_interval(midnight(twentieth), midnight(twentieth) + ONE_DAY)
    assert [running.published(day) for day in days] == 11 * [1]
    assert {state_of(running, day) for day in days} == {("complete", True, 1, 1)}
    assert running.calls(run_id) == 10
    assert [resets_after(running, day) for day in days] == [1] + 9 * [0] + [1]
