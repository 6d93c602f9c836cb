import os
import signal
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any, LiteralString

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.ledger import leases
from include.nmp.client import NmpClient
from include.nmp.connection import NmpConnection
from include.resets import resetting
from include.resets.planning import ResetDecision, ResetError, plan_resets, read_stocks
from include.resets.resetting import ResetBlocked, ResetDone, TagReset, reset_tag
from include.sql_files import sql_of
from include.warehouse.database import SafeDatabaseError, open_session
from local.processes import wait_until
from sandbox.server import SandboxControl, SandboxServer
from tests.builders.ledger_rows import DAY, LedgerRows
from tests.include.resets.stale_tags import LONG_AGO, campaign, stale_tag, tag_of

reset_sql = sql_of("include.resets")
ledger_sql = sql_of("include.ledger")

SECOND = timedelta(seconds=1)
_tags = count(1)


class Asked:
    """Stand for the NMP where a test only needs to know whether it was asked, and in which state of the ledger."""

    def __init__(self, answer: Callable[[str], int] = lambda _: 7):
        self.tags: list[str] = []
        self._answer = answer

    def reset_all(self, tag: str) -> int:
        self.tags.append(tag)
        return self._answer(tag)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        server.start(seed=7)
        yield server


@pytest.fixture
def control(sandbox: SandboxServer) -> Iterator[SandboxControl]:
    control = sandbox.control()
    yield control
    control.clear_faults()


@pytest.fixture
def nmp(sandbox: SandboxServer) -> Iterator[NmpClient]:
    client = NmpClient(NmpConnection(sandbox.base_url, sandbox.api_key))
    yield client
    client.close()


def reset(rows: LedgerRows, nmp: Any, tag: str, **options: Any) -> ResetDone | ResetBlocked:
    options = {"run_id": "reset-run", "campaigns": [campaign()], "synced_since": LONG_AGO, **options}
    return reset_tag(rows.uri, nmp, tag, pause_seconds=0.05, **options)


def last_reset(rows: LedgerRows, tag: str) -> tuple[Any, ...]:
    return rows.one(
        """
        select state, nmp_count, orders_reset, spares_ended, detail from passport_ops.tag_reset
        where tag = %s order by reset_id desc limit 1
        """,
        tag,
    )


# -- one reset ---------------------------------------------------------------------------------------------------------


def test_a_reset_takes_back_links_and_spares_raises_the_epoch_and_keeps_the_nmps_count(
    rows: LedgerRows, nmp: NmpClient, control: SandboxControl
) -> None:
    control.create_pool("whole", 5)
    for _ in range(4):
        nmp.reserve("whole", deadline=10**9)
    certificates = stale_tag(rows, "whole")
    spare = rows.passport("whole")
    claimed = rows.link("claimed", "whole", age=50 * DAY)
    rows.do("update passport_ops.passport set state = 'claimed' where certificate_id = %s", claimed)
    rows.do("update passport_ops.reservation set state = 'claimed' where order_key = 'claimed'")
    rows.link("elsewhere", "other")

    done = reset(rows, nmp, "whole")

    assert done == ResetDone(nmp_count=4, orders_reset=2, orders_requeued=0, spares_ended=1)
    assert last_reset(rows, "whole") == ("done", 4, 2, 1, "the NMP's first answer")
    assert tag_of(rows, "whole") == ("open", 1, True)
    assert [rows.standing(key) for key in ("whole-1", "whole-2", "claimed", "elsewhere")] == [
        ("reset", False),
        ("reset", False),
        ("claimed", True),
        ("reserved", True),
    ]
    assert rows.passports(certificates[0]) == [("ended", "whole-1", "reset", True)]
    assert rows.passports(spare) == [("ended", None, "reset", True)]
    assert rows.passports(claimed) == [("claimed", "claimed", None, False)]


def test_a_reset_ends_what_was_withheld_and_its_order_never_had_it(rows: LedgerRows) -> None:
    stale_tag(rows)
    rows.order("waits", "gift", "held")
    withheld = rows.passport("gift", state="withheld", order_key="waits")
    assert reset(rows, Asked(), "gift") == ResetDone(nmp_count=7, orders_reset=2, orders_requeued=0, spares_ended=1)
    assert rows.passports(withheld) == [("ended", None, "reset", True)]
    assert rows.standing("waits") == ("held", False)


def test_a_campaign_that_requeues_sends_its_orders_back_to_the_queue(rows: LedgerRows) -> None:
    rows.link("again", "gift", campaign="again", age=40 * DAY)
    rows.link("enough", "gift", campaign="enough", age=40 * DAY)
    rows.sync_now("gift")
    done = reset(rows, Asked(), "gift", campaigns=[campaign("again", requeue=True), campaign("enough")])
    assert done == ResetDone(nmp_count=7, orders_reset=2, orders_requeued=1, spares_ended=0)
    assert (rows.standing("again"), rows.standing("enough")) == (("pending", False), ("reset", False))


def test_a_younger_spare_does_not_block_but_ends(rows: LedgerRows) -> None:
    stale_tag(rows)
    spare = rows.passport("gift", age=SECOND)
    assert isinstance(reset(rows, Asked(), "gift"), ResetDone)
    assert rows.passports(spare) == [("ended", None, "reset", True)]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda rows: rows.link("young", "gift", age=DAY), "a link is younger than 30 days"),
        (lambda rows: rows.do("update passport_ops.tag set claims_synced_at = null"), "claims were not read"),
    ],
)
def test_what_was_stale_when_planned_is_judged_again_before_the_tag_is_closed(
    rows: LedgerRows, spoil: Callable[[LedgerRows], None], why: str
) -> None:
    stale_tag(rows)
    spoil(rows)
    asked = Asked()
    blocked = reset(rows, asked, "gift")
    assert isinstance(blocked, ResetBlocked)
    assert why in blocked.why
    assert (asked.tags, tag_of(rows, "gift"), rows.standing("gift-1")) == ([], ("open", 0, True), ("reserved", True))


def test_a_tag_that_is_not_wholly_stale_is_not_even_closed(rows: LedgerRows) -> None:
    stale_tag(rows)
    rows.link("young", "gift", age=DAY)
    rows.order("A1", "gift", "calling", lease=timedelta(minutes=5))
    assert isinstance(reset(rows, Asked(), "gift"), ResetBlocked)
    assert rows.all("select * from passport_ops.tag_reset") == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    links=st.lists(
        st.tuples(
            st.integers(1, 60),  # age in days
            st.sampled_from([10, 30, 50]),  # stale_after in days
            st.sampled_from([None, 5, 20, 35, 55]),  # distributed so many days ago
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_reset_never_touches_a_link_that_is_younger_than_the_longest_stale_after(
    rows: LedgerRows, links: list[tuple[int, int, int | None]]
) -> None:
    tag, asked = f"tag-{next(_tags)}", Asked()
    for n, (age, stale_after, distributed) in enumerate(links):
        # Half a day away from every bound, so that the test's own duration decides nothing.
        rows.link(
            f"{tag}-{n}",
            tag,
            campaign=f"c{stale_after}",
            age=age * DAY + DAY / 2,
            stale_after=stale_after * DAY,
            distributed=None if distributed is None else min(distributed, age) * DAY + DAY / 2,
        )
    rows.sync_now(tag)
    longest = max(stale_after for _, stale_after, _ in links)
    ages = [age if distributed is None else min(age, distributed) for age, _, distributed in links]
    wholly_stale = min(ages) >= longest

    result = reset(rows, asked, tag)

    assert isinstance(result, ResetDone) == wholly_stale
    assert asked.tags == ([tag] if wholly_stale else [])
    standings = {rows.standing(f"{tag}-{n}") for n in range(len(links))}
    assert standings == ({("reset", False)} if wholly_stale else {("reserved", True)})


def test_a_link_belongs_to_the_tag_it_came_from_though_its_order_has_moved_to_another(rows: LedgerRows) -> None:
    stale_tag(rows, "old", links=1)
    rows.tag("new")
    rows.do("update passport_ops.reservation set tag = 'new'")
    rows.order("patient", "new", stale_after=90 * DAY)
    (met,) = read_stocks(rows.connection, [])
    assert (met.tag, met.stale_after, met.live, met.younger) == ("old", 30 * DAY, 1, 0)
    assert reset(rows, Asked(), "old") == ResetDone(nmp_count=7, orders_reset=1, orders_requeued=0, spares_ended=0)
    assert rows.standing("old-1") == ("reset", False)


# -- a reset against calls under way -----------------------------------------------------------------------------------


def test_a_reset_waits_for_the_lease_of_a_call_and_then_treats_its_answer_as_late(rows: LedgerRows) -> None:
    stale_tag(rows)
    rows.order("slow", "gift", "calling", lease=timedelta(seconds=0.6))
    rows.order("held", "gift", "calling", lease=timedelta(seconds=0.3), on_unknown="hold")
    seen: list[tuple[Any, ...]] = []

    def look(tag: str) -> int:
        seen.append(rows.one("select state, lease_until, fence from passport_ops.reservation where order_key = 'slow'"))
        return 2

    assert isinstance(reset(rows, Asked(look), "gift"), ResetDone)
    assert seen == [("unknown", None, 2)]
    assert rows.standing("held") == ("held", False)
    assert rows.all("select outcome from passport_ops.attempt order by attempt_id") == [("unknown",), ("unknown",)]


def test_calls_under_other_tags_are_not_waited_for(rows: LedgerRows) -> None:
    stale_tag(rows)
    rows.order("busy", "other", "calling", lease=timedelta(hours=1))
    assert isinstance(reset(rows, Asked(), "gift"), ResetDone)
    assert rows.standing("busy") == ("calling", False)


def test_a_link_that_arrives_while_the_reset_waits_is_young_and_stops_it(rows: LedgerRows) -> None:
    stale_tag(rows)
    rows.order("fresh", "gift", "calling", lease=timedelta(minutes=5))
    asked = Asked()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(reset, rows, asked, "gift")
        assert wait_until(lambda: tag_of(rows, "gift")[0] == "resetting", 10)
        fresh = rows.link("fresh", "gift", age=timedelta(0))
        blocked = running.result(10)
    assert isinstance(blocked, ResetBlocked)
    assert "order fresh's" in blocked.why
    assert (asked.tags, tag_of(rows, "gift")) == ([], ("open", 0, True))
    assert rows.passports(fresh) == [("assigned", "fresh", None, False)]
    assert last_reset(rows, "gift")[0] == "refused"


def test_a_link_that_comes_late_in_the_middle_of_a_reset_ends_and_its_order_waits_again(rows: LedgerRows) -> None:
    stale_tag(rows)
    rows.order("late", "gift", "unknown")

    def meanwhile(tag: str) -> int:
        rows.link("late", tag, age=timedelta(0))
        return 3

    assert reset(rows, Asked(meanwhile), "gift") == ResetDone(
        nmp_count=3, orders_reset=3, orders_requeued=1, spares_ended=0
    )
    assert rows.standing("late") == ("pending", False)


def test_a_reset_waits_for_an_intent_that_is_being_committed_and_then_for_its_call(rows: LedgerRows) -> None:
    stale_tag(rows)
    rows.order("A1", "gift")
    asked = Asked()
    with ThreadPoolExecutor(1) as pool, open_session(rows.uri) as intent:
        shared = intent.execute(ledger_sql("share_tags"), {"tags": ["gift"]}).fetchall()
        assert shared == [("gift", "open", 0)]
        running = pool.submit(reset, rows, asked, "gift")
        assert wait_until(lambda: _waits_for_a_lock(rows), 10)
        assert tag_of(rows, "gift")[0] == "open"
        intent.execute(
            "update passport_ops.reservation set state = 'calling', fence = 1, "
            "lease_until = clock_timestamp() + interval '0.5 s' where order_key = 'A1'"
        )
        intent.commit()
        assert isinstance(running.result(10), ResetDone)
    assert rows.standing("A1") == ("unknown", False)


def test_no_intent_finds_the_tag_open_while_it_is_being_closed_or_reset(rows: LedgerRows) -> None:
    stale_tag(rows)
    with open_session(rows.uri) as closing, open_session(rows.uri) as intent:
        closing.execute(reset_sql("lock_tag"), {"tag": "gift"})
        assert intent.execute(ledger_sql("share_tags"), {"tags": ["gift"]}).fetchall() == []
    seen: list[list[tuple[Any, ...]]] = []

    def look(tag: str) -> int:
        with open_session(rows.uri) as other:
            seen.append(other.execute(ledger_sql("share_tags"), {"tags": [tag]}).fetchall())
        return 2

    reset(rows, Asked(look), "gift")
    assert seen == [[("gift", "resetting", 0)]]


def test_two_processes_never_carry_out_one_reset(rows: LedgerRows) -> None:
    stale_tag(rows)
    asking, go_on = Event(), Event()

    def slow(tag: str) -> int:
        asking.set()
        go_on.wait(10)
        return 2

    second = Asked()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(reset, rows, Asked(slow), "gift")
        assert asking.wait(10)
        with pytest.raises(ResetError, match="another process is resetting tag 'gift'"):
            reset(rows, second, "gift")
        go_on.set()
        assert isinstance(running.result(10), ResetDone)
    assert (second.tags, tag_of(rows, "gift")) == ([], ("open", 1, True))


def killed_before_its_end(rows: LedgerRows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset a stale tag; the process dies when the NMP has answered."""
    stale_tag(rows)
    with monkeypatch.context() as patch:
        patch.setattr(TagReset, "finish", killed)
        with pytest.raises(Killed):
            reset(rows, Asked(), "gift")


def test_a_reset_that_another_process_finished_meanwhile_is_not_carried_out_again(
    rows: LedgerRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_before_its_end(rows, monkeypatch)
    own, second = TagReset.own, Asked()

    def own_late(*arguments: Any) -> None:
        """Let another process finish the reset, and an order get the next link of the tag, before this one owns it."""
        monkeypatch.setattr(TagReset, "own", own)
        assert isinstance(reset(rows, Asked(), "gift"), ResetDone)
        rows.link("fresh", "gift", age=timedelta(0))
        own(*arguments)

    monkeypatch.setattr(TagReset, "own", own_late)
    with pytest.raises(ResetError, match="another process is resetting tag 'gift', or has just done so"):
        reset(rows, second, "gift")
    assert (second.tags, tag_of(rows, "gift"), rows.standing("fresh")) == ([], ("open", 1, True), ("reserved", True))


def _waits_for_a_lock(rows: LedgerRows) -> bool:
    return bool(
        rows.all(
            "select from pg_stat_activity where datname = current_database() "
            "and application_name = 'passport-links reset' and wait_event_type = 'Lock'"
        )
    )


# -- an NMP that fails -------------------------------------------------------------------------------------------------


def reserved_under(control: SandboxControl, nmp: NmpClient, tag: str, passports: int) -> None:
    control.create_pool(tag, passports)
    for _ in range(passports):
        nmp.reserve(tag, deadline=10**9)


def test_a_refusal_opens_the_tag_again_and_takes_nothing_back(
    rows: LedgerRows, nmp: NmpClient, control: SandboxControl
) -> None:
    stale_tag(rows, "refused")
    control.queue_fault("too_many_requests", call="reset")
    with pytest.raises(ResetError, match="tag 'refused' was not reset and is open again"):
        reset(rows, nmp, "refused")
    assert (tag_of(rows, "refused"), rows.standing("refused-1")) == (("open", 0, True), ("reserved", True))
    assert last_reset(rows, "refused")[:2] == ("refused", None)


@pytest.mark.parametrize("fault", ["lost_answer", "server_error_after", "connection_reset", "truncated"])
def test_a_lost_answer_is_asked_again_and_the_count_is_said_to_be_short(
    rows: LedgerRows, nmp: NmpClient, control: SandboxControl, fault: str
) -> None:
    reserved_under(control, nmp, fault, 2)
    stale_tag(rows, fault)
    control.queue_fault(fault, call="reset")
    assert reset(rows, nmp, fault) == ResetDone(nmp_count=0, orders_reset=2, orders_requeued=0, spares_ended=0)
    assert last_reset(rows, fault) == (
        "done",
        0,
        2,
        0,
        "1 earlier answers of the NMP were lost, so its count may lack what those calls cancelled",
    )


def test_an_unreadable_answer_means_done_with_an_unknown_count(
    rows: LedgerRows, nmp: NmpClient, control: SandboxControl
) -> None:
    stale_tag(rows, "rubbish")
    control.queue_fault("rubbish", call="reset")
    assert reset(rows, nmp, "rubbish") == ResetDone(nmp_count=None, orders_reset=2, orders_requeued=0, spares_ended=0)


def test_while_every_answer_is_lost_the_tag_stays_closed_and_a_later_run_finishes_it(
    rows: LedgerRows, nmp: NmpClient, control: SandboxControl
) -> None:
    reserved_under(control, nmp, "dark", 2)
    stale_tag(rows, "dark")
    control.queue_fault("server_error_before", times=3, call="reset")
    with pytest.raises(ResetError, match="tag 'dark' may or may not be reset"):
        reset(rows, nmp, "dark")
    assert (tag_of(rows, "dark")[:2], rows.standing("dark-1")) == (("resetting", 0), ("reserved", True))
    assert last_reset(rows, "dark")[0] == "unknown"
    assert rows.one("select finished_at is null from passport_ops.tag_reset") == (True,)

    (made,) = plan_resets(rows.uri, [campaign()], run_id="next", synced_since=LONG_AGO)
    assert made.decision is ResetDecision.RESUME
    assert reset(rows, nmp, "dark", run_id="next") == ResetDone(
        nmp_count=2, orders_reset=2, orders_requeued=0, spares_ended=0
    )
    assert tag_of(rows, "dark") == ("open", 1, True)
    assert rows.all("select count(*) from passport_ops.tag_reset where tag = 'dark'") == [(1,)]


def test_a_refusal_after_a_lost_answer_proves_nothing(
    rows: LedgerRows, nmp: NmpClient, control: SandboxControl
) -> None:
    stale_tag(rows, "both")
    control.queue_fault("lost_answer", call="reset")
    control.queue_fault("too_many_requests", call="reset")
    with pytest.raises(ResetError, match="may or may not be reset"):
        reset(rows, nmp, "both")
    assert tag_of(rows, "both")[0] == "resetting"


def test_a_reset_that_the_database_refuses_says_so_without_a_value(rows: LedgerRows) -> None:
    stale_tag(rows)
    rows.do("alter table passport_ops.passport drop column ended_at cascade")
    with pytest.raises(SafeDatabaseError, match="The reset of tag 'gift' stopped: SQLSTATE 42703") as trouble:
        reset(rows, Asked(), "gift")
    assert "test.arianee.net" not in "".join(traceback.format_exception(trouble.value))
    assert (tag_of(rows, "gift")[0], rows.standing("gift-1")) == ("resetting", ("reserved", True))


# -- a reset that is killed --------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What a task's end looks like from inside, as Airflow's own: not an Exception."""


def killed(*_: Any, **__: Any) -> Any:
    raise Killed


@pytest.mark.parametrize(
    ("step", "calls_before"),
    [
        ("TagReset.own", 0),
        ("TagReset.wait_for_calls", 0),
        ("what_blocks_now", 0),
        ("TagReset.mark_asked", 0),
        ("_ask", 0),
        ("TagReset.finish", 1),
    ],
)
def test_a_reset_that_is_killed_at_any_step_is_finished_by_the_next_try(
    rows: LedgerRows, monkeypatch: pytest.MonkeyPatch, step: str, calls_before: int
) -> None:
    stale_tag(rows)
    spare = rows.passport("gift")
    asked = Asked()
    with monkeypatch.context() as patch:
        patch.setattr(f"include.resets.resetting.{step}", killed)
        with pytest.raises(Killed):
            reset(rows, asked, "gift")
    assert (len(asked.tags), rows.standing("gift-1")) == (calls_before, ("reserved", True))

    assert reset(rows, asked, "gift") == ResetDone(nmp_count=7, orders_reset=2, orders_requeued=0, spares_ended=1)
    assert len(asked.tags) == calls_before + 1
    assert (tag_of(rows, "gift"), rows.passports(spare)[0][0]) == (("open", 1, True), "ended")
    assert rows.all("select state from passport_ops.tag_reset") == [("done",)]


def test_a_reset_that_is_killed_before_any_of_its_statements_is_finished_by_the_next_try(
    rows: LedgerRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    died_at: list[str] = []
    for number in count(1):
        tag, statements = f"tag-{number}", count(1)
        stale_tag(rows, tag)

        def dies(
            name: str,
            statements: Iterator[int] = statements,
            last: int = number,
            read: Callable[[str], LiteralString] = reset_sql,
        ) -> LiteralString:
            if next(statements) == last:
                died_at.append(name)
                raise Killed
            return read(name)

        with monkeypatch.context() as patch, suppress(Killed):
            patch.setattr(resetting, "sql", dies)
            patch.setattr(leases, "sql", partial(dies, read=ledger_sql))
            reset(rows, Asked(), tag)
            break
        assert reset(rows, Asked(), tag) == ResetDone(nmp_count=7, orders_reset=2, orders_requeued=0, spares_ended=0)
        assert tag_of(rows, tag) == ("open", 1, True)
    assert died_at == [
        *("lock_tag", "close_tag", "under_way", "intend"),
        *("own", "lock_lapsed_orders", "seconds_to_wait"),
        *("own", "finish", "own"),
        *("own", "lock_tag", "take_back", "end_passports", "next_epoch", "finish"),
    ]


@pytest.mark.parametrize("statement", ["end_passports", "next_epoch", "finish"])
def test_what_a_reset_takes_back_stands_in_one_transaction_with_its_epoch_and_count(
    rows: LedgerRows, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    stale_tag(rows)
    spare = rows.passport("gift")
    asked = Asked()

    def dies_after_the_nmp_answered(name: str) -> Any:
        return killed() if asked.tags and name == statement else reset_sql(name)

    with monkeypatch.context() as patch:
        patch.setattr(resetting, "sql", dies_after_the_nmp_answered)
        with pytest.raises(Killed):
            reset(rows, asked, "gift")
    assert (tag_of(rows, "gift"), rows.standing("gift-1")) == (("resetting", 0, False), ("reserved", True))
    assert (rows.passports(spare)[0][0], last_reset(rows, "gift")[0]) == ("spare", "unknown")
    assert reset(rows, asked, "gift") == ResetDone(nmp_count=7, orders_reset=2, orders_requeued=0, spares_ended=1)


def test_a_try_after_one_that_may_have_asked_says_so_beside_the_count(
    rows: LedgerRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_before_its_end(rows, monkeypatch)
    reset(rows, Asked(lambda _: 0), "gift")
    assert last_reset(rows, "gift") == (
        "done",
        0,
        2,
        0,
        "an earlier try may have asked the NMP already, so its count may lack what that one cancelled",
    )


def test_a_closed_tag_that_was_never_asked_opens_again_when_a_young_link_came_meanwhile(
    rows: LedgerRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale_tag(rows)
    with monkeypatch.context() as patch:
        patch.setattr(TagReset, "wait_for_calls", killed)
        with pytest.raises(Killed):
            reset(rows, Asked(), "gift")
    rows.link("young", "gift", age=SECOND)
    asked = Asked()
    assert isinstance(reset(rows, asked, "gift"), ResetBlocked)
    assert (asked.tags, tag_of(rows, "gift")) == ([], ("open", 0, True))


def test_a_reset_killed_by_sigkill_while_the_nmp_works_is_finished_by_the_next_try(
    rows: LedgerRows, nmp: NmpClient, control: SandboxControl, sandbox: SandboxServer
) -> None:
    reserved_under(control, nmp, "sigkill", 2)
    stale_tag(rows, "sigkill")
    control.queue_fault("hang", call="reset", seconds=60)
    program = textwrap.dedent(
        """
        import sys
        from datetime import UTC, datetime
        from include.campaigns import Campaign
        from include.nmp.client import NmpClient
        from include.nmp.connection import NmpConnection
        from include.resets.resetting import reset_tag
        from include.warehouse.database import connecting_to
        uri, base_url, key = sys.argv[1:]
        wants = Campaign(name="gift", tag="t", products="*", stale_after="1d", reset="when_stale")
        reset_tag(connecting_to(uri), NmpClient(NmpConnection(base_url, key)), "sigkill", run_id="killed",
                  campaigns=[wants], synced_since=datetime(2026, 1, 1, tzinfo=UTC))
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, rows.uri, sandbox.base_url, sandbox.api_key],
        cwd=Path(__file__).resolve().parents[3],
    )
    try:
        assert wait_until(lambda: control.counters()["under_way"] > 0, 20)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert (tag_of(rows, "sigkill")[0], last_reset(rows, "sigkill")[0]) == ("resetting", "unknown")
    assert wait_until(lambda: _owner_is_gone(rows), 10)

    assert reset(rows, nmp, "sigkill") == ResetDone(nmp_count=0, orders_reset=2, orders_requeued=0, spares_ended=0)
    assert tag_of(rows, "sigkill") == ("open", 1, True)


def _owner_is_gone(rows: LedgerRows) -> bool:
    return not rows.all(
        "select from pg_stat_activity where datname = current_database() and application_name = 'passport-links reset'"
    )
