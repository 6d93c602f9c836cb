"""What a chaos run is judged by: links, reasons, unknown outcomes, claims, violations and leaks."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from include.outcomes import AttemptOutcome
from include.warehouse.publishing import load_links
from sandbox.checker import Report, Violation
from tests.builders.world import DAY, World, an_answer, world
from tests.chaos.commits import Gap
from tests.chaos.strikes import Kind, Strike, Victim
from tests.chaos.verdict import ChaosRecord, Verdict, judge

SOUND = Report(orders=2, links=2, given_out=2, received=2, possible=0)
NOTHING_DONE = ChaosRecord(
    seed=1, orders=2, strikes=[], faults=Counter(), claims=0, clears=0, longest_gap=Gap(14.9, "slice task 7")
)


@pytest.fixture
def here(emptied_warehouse: str) -> Iterator[World]:
    with world(emptied_warehouse) as made:
        yield made


def judged(
    here: World, record: ChaosRecord = NOTHING_DONE, report: Report = SOUND, leaked: tuple[str, ...] = ()
) -> Verdict:
    load_links(here.uri, closes=[DAY], run_id="run")
    return judge(here.uri, record, report, leaked)


def serve_both(here: World) -> None:
    run = here.planned("A1", "B2")
    here.served(run, "A1")
    here.served(run, "B2")


def test_a_run_in_which_every_order_has_its_link_held(here: World) -> None:
    serve_both(here)
    verdict = judged(here)
    assert verdict.held
    assert verdict.findings == ()
    assert verdict.line.startswith("chaos seed=1: HELD: 2 of 2 orders have a link, 0 need attention, 0 violations")


def test_a_violation_and_a_leak_break_it_and_are_named(here: World) -> None:
    serve_both(here)
    violation = Violation(2, "a passport is forgotten", ("certificate_id 7",))
    verdict = judged(here, report=replace(SOUND, violations=(violation,)), leaked=("scheduler.log",))
    assert not verdict.held
    assert verdict.findings == (
        "promise 2: a passport is forgotten\n    certificate_id 7",
        "a secret is in scheduler.log",
    )


def test_an_order_without_a_link_and_without_a_reason_breaks_it(here: World) -> None:
    here.served(here.planned("A1", "B2"), "A1")
    assert judged(here).findings == ("2 orders, but 1 have a link and 0 need attention",)


def test_an_order_that_needs_attention_for_a_true_reason_is_no_loss_while_they_are_few(here: World) -> None:
    run = here.planned("A1", "B2")
    here.served(run, "A1")
    here.answer(here.intend(run, "B2"), an_answer(AttemptOutcome.UNREADABLE))
    assert judged(here).findings == ("1 orders need attention, more than 0.5%",)


def test_an_attention_that_no_call_stands_behind_is_no_true_reason(here: World) -> None:
    here.served(here.planned("A1", "B2"), "A1")
    here.rows.execute("update passport_ops.reservation set state = 'held' where order_key = 'B2'")
    assert judged(here).findings == ("2 orders, but 1 have a link and 0 need attention",)


@pytest.mark.parametrize(
    ("fault", "held"), [("lost_answer", True), ("drip", True), ("redirect", False), ("too_many_requests", False)]
)
def test_an_unknown_outcome_is_explained_by_an_ambiguous_fault_only(here: World, fault: str, held: bool) -> None:
    run = here.planned("A1", "B2")
    here.answer(here.intend(run, "A1"), an_answer(AttemptOutcome.UNKNOWN))
    here.served(run, "A1")
    here.served(run, "B2")
    assert judged(here, replace(NOTHING_DONE, faults=Counter({fault: 1}))).held is held


@pytest.mark.parametrize(("seconds_off", "held"), [(0, True), (-3600, False), (3600, False)])
def test_an_unknown_outcome_is_explained_by_a_strike_while_its_call_was_under_way(
    here: World, seconds_off: int, held: bool
) -> None:
    run = here.planned("A1", "B2")
    here.intend(run, "A1")
    began = datetime.now(UTC)
    here.end_leases()
    here.served(run, "A1")
    here.served(run, "B2")
    moment = began + timedelta(seconds=seconds_off)
    strike = Strike(Kind.FREEZE, Victim.TRIGGERER, moment, moment + timedelta(milliseconds=1))
    verdict = judged(here, replace(NOTHING_DONE, strikes=[strike]))
    assert verdict.held is held
    assert verdict.findings == (() if held else ("1 calls of unknown outcome, but only 0 can be",))


def test_a_claim_that_is_not_published_breaks_it(here: World) -> None:
    serve_both(here)
    verdict = judged(here, replace(NOTHING_DONE, claims=1))
    assert verdict.findings == ("1 customers claimed, and 0 claims are published",)


def test_a_long_time_without_a_commit_while_work_waited_breaks_it(here: World) -> None:
    serve_both(here)
    gap = Gap(15.1, "slice task 7", datetime(2026, 11, 25, 3, 4, 5, tzinfo=UTC))
    verdict = judged(here, replace(NOTHING_DONE, longest_gap=gap))
    assert verdict.findings == (
        "nobody committed for 15.1 s until 03:04:05 UTC, while slice task 7 had orders to serve",
    )


def test_the_verdict_counts_strikes_by_kind_and_victim(here: World) -> None:
    serve_both(here)
    moment = datetime.now(UTC) - timedelta(hours=1)
    strikes = [
        Strike(kind, victim, moment, moment)
        for kind, victim in (
            (Kind.KILL, Victim.POSTGRES),
            (Kind.FREEZE, Victim.SLICE_TASK),
            (Kind.FREEZE, Victim.TRIGGERER),
            (Kind.FREEZE, Victim.SLICE_TASK),
        )
    ]
    line = judged(here, replace(NOTHING_DONE, strikes=strikes)).line
    assert "; 1 kills (1 PostgreSQL), 3 freezes (2 slice task, 1 triggerer), 0 cuts, 0 clears, 0 claims; " in line
    assert line.endswith("; at most 14.9 s without a commit while work waited")
