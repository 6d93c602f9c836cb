"""The engine against the sandbox on real sockets and a real PostgreSQL, with all that can go wrong in between."""

import json
import logging
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from include import reserving
from include.attention.deciding import Action, resolve
from include.ledger.calls import CallLedger
from include.ledger.run_starts import RunStart
from include.ledger.states import ReservationState
from include.nmp.answers import LinkRules, RawAnswer
from include.nmp.client import NmpClient
from include.nmp.connection import NmpConnection
from include.reserving import EngineSettings, OrderResult, Outcome, ReserveClient, ReservingEngine, _Pace
from include.settings import Settings
from include.warehouse.database import SafeDatabaseError, connecting_to, open_session
from include.warehouse.migrate import migrate
from local.postgres import EmbeddedPostgres
from local.processes import PROJECT, Guard, wait_until
from local.stack import Ports
from sandbox.checker import Report, check
from sandbox.faults import Fault, FaultRule
from sandbox.server import SandboxControl, SandboxServer
from tests.builders.backup import backup_of
from tests.builders.world import World, a_link, attempt_of, empty, order, plan, world
from tests.databases import Database

R, V = ReservationState, OrderResult
PATIENCE = 20
_tags = count(1)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        server.start(seed=11)
        yield server


class Gate:
    """The real client, but answers wait at a gate: the test knows that one is there, and lets it through."""

    def __init__(self, client: NmpClient) -> None:
        self._client = client
        self.answered = threading.Event()
        self.open = threading.Event()

    def reserve(self, tag: str, *, deadline: float) -> RawAnswer:
        answer = self._client.reserve(tag, deadline=deadline)
        self.answered.set()
        self.open.wait(PATIENCE)
        return answer

    def close(self) -> None:
        self._client.close()


@dataclass
class Shop:
    """A warehouse, a tag of its own at the sandbox, and engines."""

    here: World
    sandbox: SandboxServer
    tag: str = field(init=False)
    since: int = field(init=False)
    control: SandboxControl = field(init=False)

    def __post_init__(self) -> None:
        self.tag = f"tag-{next(_tags)}"
        self.control = self.sandbox.control()
        self.since = self.control.counters()["last_seq"]

    def planned(self, *keys: str, run_id: str = "run", pool: int = 1000, **fields: Any) -> RunStart:
        self.control.create_pool(self.tag, pool)
        self.here.register(*(order(key, tag=self.tag) for key in keys), run_id=run_id)
        self.here.runs.plan_run(plan(run_id, **fields))
        return attempt_of(run_id)

    def client(self, api_key: str | None = None, base_url: str | None = None) -> NmpClient:
        return NmpClient(NmpConnection(base_url or self.sandbox.base_url, api_key or self.sandbox.api_key))

    @contextmanager
    def engine(
        self,
        client: ReserveClient | None = None,
        rules: LinkRules = LinkRules(),  # noqa: B008 - it is frozen
        uri: Database | None = None,
        **settings: Any,
    ) -> Iterator[ReservingEngine]:
        settings = {"concurrency": 8, "call_deadline_seconds": 0.5, "lease_seconds": 1.0, **settings}
        engine = ReservingEngine(uri or self.here.uri, client or self.client(), rules, EngineSettings(**settings))
        try:
            yield engine
        finally:
            engine.close()

    def serve(self, run: RunStart, *keys: str, **engine: Any) -> list[Outcome]:
        with self.engine(**engine) as made:
            return made.reserve_all(run, keys)

    def history(self) -> list[dict[str, Any]]:
        return self.control.history(self.since)

    def check(self) -> Report:
        return check(self.here.uri, self.history())

    def outcomes(self) -> list[str | None]:
        rows = self.here.rows.execute("select outcome from passport_ops.attempt order by attempt_id")
        return [outcome for (outcome,) in rows]


@pytest.fixture
def shop(emptied_warehouse: str, sandbox: SandboxServer) -> Iterator[Shop]:
    with world(emptied_warehouse) as here:
        made = Shop(here, sandbox)
        yield made
        made.control.clear_faults()
        made.control.set_switches(latency_ms=0)


def sound(shop: Shop) -> None:
    assert shop.check().violations == ()


# -- what each fault comes to ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "options", "state", "outcome"),
    [
        ("lost_answer", {}, R.UNKNOWN, "unknown"),
        ("connection_reset", {}, R.UNKNOWN, "unknown"),
        ("hang", {}, R.UNKNOWN, "unknown"),
        ("drip", {"seconds": 0.1}, R.UNKNOWN, "unknown"),
        ("drip_headers", {"seconds": 0.1}, R.UNKNOWN, "unknown"),
        ("truncated", {}, R.UNKNOWN, "unknown"),
        ("server_error_before", {}, R.UNKNOWN, "unknown"),
        ("server_error_after", {}, R.UNKNOWN, "unknown"),
        ("unavailable", {"retry_after": "soon"}, R.UNKNOWN, "unknown"),
        ("html_error", {}, R.UNKNOWN, "unknown"),
        ("redirect", {}, R.UNKNOWN, "redirected"),
        ("redirect", {"commit": True}, R.UNKNOWN, "redirected"),
        ("rubbish", {}, R.HELD, "unreadable"),
        ("wrong_host", {}, R.HELD, "wrong_link"),
    ],
)
def test_an_answer_of_possible_consumption_uses_the_orders_only_call(
    shop: Shop, fault: str, options: dict[str, Any], state: ReservationState, outcome: str
) -> None:
    run = shop.planned("A1", max_calls_per_order=1)
    shop.control.queue_fault(fault, **options)
    (served,) = shop.serve(run, "A1", rules=LinkRules("test"))
    assert (served.result, served.state) == (V.ATTENTION, state)
    assert served.reason
    assert shop.outcomes() == [outcome]
    sound(shop)


@pytest.mark.parametrize("fault", ["lost_answer", "connection_reset", "truncated", "server_error_after", "html_error"])
def test_within_its_budget_such_an_order_is_called_for_again_and_served(shop: Shop, fault: str) -> None:
    run = shop.planned("A1")
    shop.control.queue_fault(fault)
    (served,) = shop.serve(run, "A1")
    assert (served.result, served.state) == (V.SERVED, R.RESERVED)
    assert shop.outcomes() == ["unknown", "reserved"]
    sound(shop)


@pytest.mark.parametrize("fault", ["too_many_requests", "unavailable"])
def test_an_answer_that_asks_to_slow_down_uses_no_budget(shop: Shop, fault: str) -> None:
    run = shop.planned("A1", max_calls_per_order=1)
    shop.control.queue_fault(fault, times=2, retry_after=0)
    (served,) = shop.serve(run, "A1")
    assert served.result is V.SERVED
    assert shop.outcomes() == ["throttled", "throttled", "reserved"]
    sound(shop)


def test_a_retry_after_is_waited_for(shop: Shop) -> None:
    run = shop.planned("A1")
    shop.control.queue_fault("too_many_requests", retry_after=1)
    shop.serve(run, "A1")
    first, second = (entry["time"] for entry in shop.history())
    assert second - first >= 1.0


def test_one_burst_of_refusals_halves_the_pace_once_and_links_bring_it_back() -> None:
    pace = _Pace(32)
    assert pace.free(0) == 32
    pace.slow_down(0)
    pace.slow_down(0)
    assert pace.free(0) == 16
    for _ in range(400):
        pace.recover()
    assert pace.free(0) >= 31
    for _ in range(9):
        pace.halved_at = -10.0
        pace.slow_down(0)
    assert pace.free(0) == 1


def test_a_certificate_that_comes_twice_gives_the_second_order_another(shop: Shop) -> None:
    run = shop.planned("A1", "B2")
    shop.serve(run, "A1")
    shop.control.queue_fault("duplicate")
    (served,) = shop.serve(run, "B2")
    assert served.result is V.SERVED
    assert shop.outcomes() == ["reserved", "duplicate", "reserved"]
    sound(shop)


def test_an_empty_tag_is_asked_once_and_its_orders_are_out_of_stock(shop: Shop) -> None:
    run = shop.planned("A1", "B2", "C3", pool=1)
    served = shop.serve(run, "A1", "B2", "C3", concurrency=1)
    assert [outcome.result for outcome in served] == [V.SERVED, V.OUT_OF_STOCK, V.OUT_OF_STOCK]
    assert served[2].reason == f"tag {shop.tag} is empty"
    assert shop.outcomes() == ["reserved", "out_of_stock"]
    sound(shop)


def test_many_engines_after_the_last_passport_of_a_tag_give_it_to_one_order(shop: Shop) -> None:
    keys = [f"A{n}" for n in range(6)]
    shop.planned(*keys, pool=1)
    shop.here.runs.plan_run(plan("other"))
    runs = (attempt_of("run"), attempt_of("other"))
    with shop.engine() as one, shop.engine() as two, ThreadPoolExecutor(2) as threads:
        served = list(threads.map(lambda work: work[0].reserve_all(work[1], keys), ((one, runs[0]), (two, runs[1]))))
    for outcomes in served:
        assert sum(outcome.result is V.SERVED for outcome in outcomes) <= 1
    states = [state for state, _ in shop.here.states(*keys).values()]
    assert sorted(states) == [R.OUT_OF_STOCK] * 5 + [R.RESERVED]
    sound(shop)


def test_a_revoked_key_stops_the_run_and_says_so(shop: Shop) -> None:
    run = shop.planned("A1", "B2", "C3")
    served = shop.serve(run, "A1", "B2", "C3", client=shop.client(api_key="no-such-key"))
    assert [outcome.result for outcome in served] == [V.ATTENTION, V.STOPPED, V.STOPPED]
    assert {outcome.state for outcome in served} == {R.PENDING}
    assert served[1].reason == "401: the NMP did not accept the API key; check the password of the connection nmp"
    assert shop.outcomes() == ["refused"]
    sound(shop)


def test_orders_of_an_api_that_redirects_one_call_in_a_hundred_take_at_most_three_runs(shop: Shop) -> None:
    keys = [f"A{n:04}" for n in range(1025)]
    run = shop.planned(*keys, pool=2000)
    shop.control.set_faults([FaultRule(fault=Fault.REDIRECT, probability=0.01)])
    for n in range(3):
        shop.here.runs.plan_run(plan(f"run {n}"))
        run = attempt_of(f"run {n}")
        waiting = [key for key, (state, _) in shop.here.states(*keys).items() if state is not R.RESERVED]
        if waiting:
            shop.serve(run, *sorted(waiting), concurrency=16)
    assert {state for state, _ in shop.here.states(*keys).values()} == {R.RESERVED}
    assert 1 <= shop.outcomes().count("redirected") <= 40
    sound(shop)


@pytest.mark.parametrize(
    ("status", "outcome", "calls"), [(403, "refused", 1), (422, "refused", 2), (302, "redirected", 1)]
)
def test_after_a_usable_answer_a_refused_order_is_asked_for_again_in_the_same_run(
    shop: Shop, status: int, outcome: str, calls: int
) -> None:
    run = shop.planned("A1", "B2", "C3")
    assert shop.serve(run, "A1")[0].result is V.SERVED
    shop.control.queue_fault("redirect", times=calls, status=status)
    served = shop.serve(run, "B2", "C3", concurrency=1)
    assert [each.result for each in served] == [V.SERVED, V.SERVED]
    assert shop.outcomes() == ["reserved", *[outcome] * calls, "reserved", "reserved"]
    sound(shop)


def test_a_link_that_was_withheld_is_used_without_a_call_once_the_connection_accepts_it(shop: Shop) -> None:
    run = shop.planned("A1", "B2")
    shop.control.queue_fault("wrong_host", times=2)
    (held,) = shop.serve(run, "A1", rules=LinkRules("test"))
    assert (held.result, held.state) == (V.ATTENTION, R.HELD)
    resolve(shop.here.rows, ["A1"], Action.RELEASE, "not corrected yet")
    (held,) = shop.serve(attempt_of(clear=1), "A1", rules=LinkRules("test"))
    assert (held.result, held.state, len(shop.history())) == (V.ATTENTION, R.HELD, 2)
    resolve(shop.here.rows, ["A1"], Action.RELEASE, "the environment is corrected")
    (first,) = shop.serve(attempt_of(clear=2), "A1", rules=LinkRules("production"))
    (second,) = shop.serve(attempt_of(clear=2), "B2", rules=LinkRules("production"))  # it gets the other one, a spare
    assert [first.result, second.result, len(shop.history())] == [V.SERVED, V.SERVED, 2]
    assert sorted(state for _, state, _ in shop.here.passports()) == ["assigned", "assigned"]
    assert shop.here.answers_left() == 0
    sound(shop)


def test_a_key_that_is_revoked_during_a_run_stops_it_after_three_calls(shop: Shop) -> None:
    keys = [f"A{n}" for n in range(9)]
    run = shop.planned(*keys)
    assert shop.serve(run, "A0")[0].result is V.SERVED
    served = shop.serve(run, *keys, client=shop.client(api_key="no-such-key"), concurrency=1)
    assert [each.result for each in served] == [V.SERVED, *[V.ATTENTION] * 3, *[V.STOPPED] * 5]
    assert served[-1].reason == (
        "401: the NMP did not accept the API key; check the password of the connection nmp (3 such answers came, and "
        "no usable one between them: stop_after_refusals)"
    )
    assert shop.outcomes() == ["reserved", "refused", "refused", "refused"]
    sound(shop)


def test_a_call_that_never_leaves_costs_nothing_and_is_given_back(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserving, "UNREACHABLE_SECONDS", 0.3)
    run = shop.planned("A1", max_calls_per_order=1)
    (served,) = shop.serve(run, "A1", client=shop.client(base_url="http://127.0.0.1:9"))
    assert (served.result, shop.here.state("A1")) == (V.FAILED, R.PENDING)
    assert served.reason == "the NMP cannot be reached: check the connection nmp and the network"
    assert set(shop.outcomes()) == {"not_sent"}
    assert shop.serve(run, "A1")[0].result is V.SERVED
    sound(shop)


def test_asking_again_makes_no_request(shop: Shop) -> None:
    run = shop.planned("A1")
    shop.serve(run, "A1")
    assert [outcome.result for outcome in shop.serve(run, "A1")] == [V.SERVED]
    assert len(shop.history()) == 1


def test_an_order_that_is_given_twice_is_called_for_once(shop: Shop) -> None:
    run = shop.planned("A1")
    assert [outcome.result for outcome in shop.serve(run, "A1", "A1", "A1")] == [V.SERVED] * 3
    assert len(shop.history()) == 1


def test_a_run_that_was_never_planned_fails_its_orders_in_words(shop: Shop) -> None:
    shop.planned("A1")
    (served,) = shop.serve(attempt_of("other"), "A1")
    assert served.result is V.FAILED
    assert served.reason == "run other was never planned in this warehouse: clear its extract_orders task"


def test_a_key_nobody_knows_fails_and_the_others_go_on(shop: Shop) -> None:
    run = shop.planned("A1")
    assert [outcome.result for outcome in shop.serve(run, "NOPE", "A1")] == [V.FAILED, V.SERVED]


def test_the_first_call_goes_alone_and_the_others_after_its_answer(shop: Shop) -> None:
    keys = [f"A{n}" for n in range(12)]
    run = shop.planned(*keys)
    shop.control.set_switches(latency_ms=50)
    assert {outcome.result for outcome in shop.serve(run, *keys)} == {V.SERVED}
    first, second = shop.here.rows.execute(
        "select answered_at, intended_at from passport_ops.attempt order by intended_at limit 2"
    ).fetchall()
    assert second[1] > first[0]
    together = shop.here.one(
        """
        select max(under_way) from (
            select (
                select count(*) from passport_ops.attempt as other
                where other.intended_at <= call.intended_at and other.answered_at > call.intended_at
            ) as under_way
            from passport_ops.attempt as call
        ) as counted
        """
    )
    assert 1 < together <= 8
    sound(shop)


def test_two_engines_keep_within_one_cap(shop: Shop) -> None:
    keys = [f"A{n:02}" for n in range(30)]
    run = shop.planned(*keys)
    shop.control.set_switches(latency_ms=20)
    with shop.engine(concurrency=3) as one, shop.engine(concurrency=3) as two, ThreadPoolExecutor(2) as threads:
        halves = ((one, keys[:15]), (two, keys[15:]))
        for served in threads.map(lambda half: half[0].reserve_all(run, half[1]), halves):
            assert {outcome.result for outcome in served} == {V.SERVED}
    assert (
        shop.here.one(
            """
            select max((
                select count(*) from passport_ops.attempt as other
                where other.intended_at <= call.intended_at and other.answered_at > call.intended_at
            )) from passport_ops.attempt as call
            """
        )
        <= 3
    )
    sound(shop)


# -- ending ------------------------------------------------------------------------------------------------------------


def test_a_withdrawn_order_is_not_called_for(shop: Shop) -> None:
    run = shop.planned("A1", "B2")
    with shop.engine(gate := Gate(shop.client())) as engine:
        (under_way,) = engine.submit(run, ["A1"])
        assert gate.answered.wait(PATIENCE)
        (withdrawn,) = engine.submit(run, ["B2"])
        withdrawn.cancel()
        gate.open.set()
        assert under_way.result(PATIENCE).result is V.SERVED
    assert shop.outcomes() == ["reserved"]


def test_closing_settles_the_call_under_way_and_fails_those_that_wait(shop: Shop) -> None:
    run = shop.planned("A1", "B2")
    gate = Gate(shop.client())
    with ThreadPoolExecutor(1) as threads, shop.engine(gate) as engine:
        first, second = engine.submit(run, ["A1", "B2"])
        assert gate.answered.wait(PATIENCE)
        closing = threads.submit(engine.close)
        assert second.result(PATIENCE).result is V.FAILED
        gate.open.set()
        closing.result(PATIENCE)
        assert first.result(0).result is V.SERVED
        with pytest.raises(RuntimeError, match="closed"):
            engine.submit(run, ["B2"])
    sound(shop)


def test_orders_that_come_while_the_ledger_is_busy_are_answered_when_the_engine_closes(shop: Shop) -> None:
    run = shop.planned("A1")
    with open_session(shop.here.uri) as busy, shop.engine() as engine, ThreadPoolExecutor(1) as threads:
        busy.execute("select from passport_ops.gate for update")
        engine.submit(run, ["NOPE"])
        assert wait_until(lambda: _blocked(shop.here) == 1, PATIENCE, 0.01)
        (late,) = engine.submit(run, ["A1"])
        closing = threads.submit(engine.close)
        assert wait_until(engine._closing.is_set, PATIENCE, 0.01)
        busy.rollback()
        closing.result(PATIENCE)
        assert late.result(2).result is V.FAILED


def _blocked(here: World) -> int:
    return int(here.one("select count(*) from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0"))


def test_progress_is_told_while_it_works(shop: Shop) -> None:
    run = shop.planned("A1", "B2")
    told: list[tuple[int, int]] = []
    shop.control.set_switches(latency_ms=120)
    with shop.engine() as engine:
        engine.reserve_all(run, ["A1", "B2"], progress=lambda done, of: told.append((done, of)), every_seconds=0.05)
    assert told
    assert {of for _, of in told} == {2}


# -- leases ------------------------------------------------------------------------------------------------------------


def test_an_order_under_way_elsewhere_is_waited_for_and_the_others_are_served_first(shop: Shop) -> None:
    run = shop.planned("A1", "B2")
    shop.here.open(run)
    shop.here.intend(run, "A1", by=shop.here.worker("a worker that died", lease_seconds=1.5))
    served = shop.serve(run, "A1", "B2")
    assert [outcome.result for outcome in served] == [V.SERVED, V.SERVED]
    assert shop.outcomes() == ["unknown", "reserved", "reserved"]
    died, other, again = shop.here.rows.execute(
        "select intended_at, lease_until, order_key from passport_ops.attempt order by intended_at"
    ).fetchall()
    assert (other[2], again[2]) == ("B2", "A1")
    assert again[0] >= died[1]
    sound(shop)


def test_a_lease_that_is_waited_for_keeps_no_other_order_waiting(shop: Shop) -> None:
    run = shop.planned("A1", "B2", "C3")
    shop.here.open(run)
    shop.here.intend(run, "A1", by=shop.here.worker("a worker that died", lease_seconds=4))
    with shop.engine() as engine:
        leased, *others = engine.submit(run, ["A1", "B2", "C3"])
        assert {other.result(PATIENCE).result for other in others} == {V.SERVED}
        assert shop.here.one(
            "select lease_until > clock_timestamp() from passport_ops.reservation where order_key = 'A1'"
        )
        assert leased.result(PATIENCE).result is V.SERVED


def test_a_lease_that_ends_during_a_call_leaves_its_link_to_the_order_or_as_a_spare(shop: Shop) -> None:
    run = shop.planned("A1", "B2")
    shop.here.open(run)
    gate = Gate(shop.client())
    with shop.engine(gate) as slow:
        (late,) = slow.submit(run, ["A1"])
        assert gate.answered.wait(PATIENCE)
        (served,) = shop.serve(run, "A1")  # another engine, which waits for the lease's end
        assert served.result is V.SERVED
        gate.open.set()
        assert late.result(PATIENCE).result is V.SERVED
    assert sorted(state for _, state, _ in shop.here.passports()) == ["assigned", "spare"]
    assert shop.serve(run, "B2")[0].result is V.SERVED
    assert len(shop.history()) == 2, "the spare is used before the next call"
    sound(shop)


def test_an_engine_that_lives_long_reads_what_others_left_meanwhile(shop: Shop) -> None:
    run = shop.planned("A1", "B2", "C3")
    shop.here.open(run)
    with shop.engine() as engine:
        assert engine.reserve_all(run, ["A1"])[0].result is V.SERVED
        # Another process: B2 is served by a late link while its second call is under way. Then that one's answer is
        # committed and the process dies, so that no grant will ever ask for it.
        late = shop.here.intend(run, "B2")
        shop.here.end_leases()
        second = shop.here.intend(run, "B2")
        shop.here.answer(late, a_link("71"))
        shop.here.ledger.keep_answers({second.attempt_id: RawAnswer(200, b"https://test.arianee.net/72,secret72")})
        shop.here.end_leases()

        def asked_again() -> bool:
            engine.reserve_all(run, ["C3"])
            return shop.here.answers_left() == 0

        assert wait_until(asked_again, PATIENCE, 0.2)
    assert ("72", "spare", None) in shop.here.passports()


def test_a_call_whose_intent_took_as_long_as_its_deadline_never_leaves(shop: Shop) -> None:
    """The deadline counts from before the grant, as the lease does; else a slow commit would let a call outlive it."""
    run = shop.planned("A1", max_calls_per_order=1)
    with open_session(shop.here.uri) as slow, shop.engine() as engine:
        slow.execute("select from passport_ops.gate for update")
        (future,) = engine.submit(run, ["A1"])
        assert wait_until(lambda: _blocked(shop.here) == 1, PATIENCE, 0.01)
        time.sleep(0.6)  # longer than the deadline of 0.5 s
        slow.rollback()
        assert future.result(PATIENCE).result is V.SERVED
    assert shop.outcomes() == ["not_sent", "reserved"]
    assert len(shop.history()) == 1
    sound(shop)


class Broken:
    """A client with a mistake in it: its first call goes out, but comes back as an error nobody foresaw."""

    def __init__(self, client: NmpClient) -> None:
        self._client = client
        self._was_called = False

    def reserve(self, tag: str, *, deadline: float) -> RawAnswer:
        answer = self._client.reserve(tag, deadline=deadline)
        if not self._was_called:
            self._was_called = True
            message = f"no answer foreseen: {answer.body!r}"
            raise KeyError(message)
        return answer

    def close(self) -> None:
        self._client.close()


def test_a_call_that_ends_in_an_unforeseen_error_may_have_consumed_a_passport(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    run = shop.planned("A1")
    with caplog.at_level(logging.DEBUG), shop.engine(Broken(shop.client()), lease_seconds=30) as engine:
        (future,) = engine.submit(run, ["A1"])
        assert future.result(PATIENCE).result is V.SERVED
    assert shop.outcomes() == ["unknown", "reserved"]
    assert "https://" not in caplog.text
    sound(shop)


def test_an_unforeseen_error_of_the_writer_loses_no_answer_and_tells_no_link(
    shop: Shop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shop.planned("A1")
    settle, failures = CallLedger.settle, iter((True,))

    def fails_once(ledger: CallLedger, readings: Any) -> Any:
        if next(failures, False):
            message = f"{[reading.link for reading in readings.values()]}"
            raise ValueError(message)
        return settle(ledger, readings)

    monkeypatch.setattr(CallLedger, "settle", fails_once)
    with caplog.at_level(logging.DEBUG):
        (served,) = shop.serve(run, "A1")
    assert served.result is V.SERVED
    assert "the ledger's writer failed: ValueError" in caplog.text
    assert "https://" not in caplog.text
    assert shop.outcomes() == ["reserved"]
    sound(shop)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (
            {"lease_seconds": 30, "call_deadline_seconds": 30},
            "must be longer than PASSPORT_LINKS_CALL_DEADLINE_SECONDS",
        ),
        ({"lease_seconds": 60, "task_timeout_seconds": 179}, "must be at least two leases and two call deadlines"),
    ],
)
def test_settings_in_which_a_call_could_outlive_its_lease_are_refused(seconds: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**seconds)


# -- killed engines, wrong clocks --------------------------------------------------------------------------------------


def engine_process(shop: Shop, keys: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
    given = {"uri": shop.here.uri, "nmp": shop.sandbox.base_url, "api_key": shop.sandbox.api_key, "keys": keys}
    command = [sys.executable, "-m", "tests.include.engine_process", json.dumps({**given, **options})]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("dies", "outcomes", "requests", "passports"),
    [
        ("with the intent committed", ["unknown", "reserved"], 1, 1),
        ("before the call", ["unknown", "reserved"], 1, 1),
        ("with the answer in hand", ["unknown", "reserved"], 2, 1),
        ("with the answer committed", ["reserved"], 1, 1),
        ("with the answer settled", ["reserved"], 1, 1),
    ],
)
def test_what_a_killed_engine_leaves_is_taken_over_after_its_lease(
    shop: Shop, dies: str, outcomes: list[str], requests: int, passports: int
) -> None:
    run = shop.planned("A1")
    killed = engine_process(shop, ["A1"], dies=dies)
    assert killed.wait(PATIENCE) == -signal.SIGKILL
    (served,) = shop.serve(run, "A1")
    assert served.result is V.SERVED
    assert shop.outcomes() == outcomes
    assert (len(shop.history()), len(shop.here.passports())) == (requests, passports)
    assert shop.here.answers_left() == 0
    sound(shop)


def test_a_new_engine_reads_what_a_dead_one_kept_though_nobody_asks_for_that_order_again(shop: Shop) -> None:
    run = shop.planned("A1", "B2")
    shop.here.open(run)
    dead, client = shop.here.worker("a worker that died"), shop.client()
    intent = shop.here.intend(run, "A1", by=dead)
    dead.keep_answers({intent.attempt_id: client.reserve(shop.tag, deadline=time.monotonic() + PATIENCE)})
    client.close()
    shop.here.end_leases()
    assert shop.serve(run, "B2")[0].result is V.SERVED
    assert (shop.here.state("A1"), shop.here.answers_left()) == (R.RESERVED, 0)
    assert shop.outcomes() == ["reserved", "reserved"]
    sound(shop)


def test_the_databases_clock_alone_decides_when_a_lease_is_over(shop: Shop) -> None:
    run = shop.planned("A1")
    shop.here.open(run)
    shop.here.intend(run, "A1", by=shop.here.worker("a worker that died", lease_seconds=3))
    ahead = engine_process(shop, ["A1"], clock_is_ahead_by=86400.0)
    behind = engine_process(shop, ["A1"], clock_is_ahead_by=-3600.0)
    assert ahead.communicate(timeout=PATIENCE)[0] == "A1 served\n"
    assert behind.communicate(timeout=PATIENCE)[0] == "A1 served\n"
    assert shop.outcomes() == ["unknown", "reserved"]
    assert shop.here.one("select max(intended_at) >= min(lease_until) from passport_ops.attempt")
    assert shop.here.one(
        "select bool_and(abs(extract(epoch from clock_timestamp() - intended_at)) < 60) from passport_ops.attempt"
    )
    sound(shop)


def test_engines_of_several_processes_and_two_runs_keep_every_promise_under_fire(shop: Shop) -> None:
    keys = [f"A{n:03}" for n in range(80)]
    for run_id in ("run", "other"):
        shop.planned(*keys, run_id=run_id, max_calls_per_order=6, max_unknown_per_run=1000)
    shop.control.set_switches(latency_ms=[0, 10])
    shop.control.set_faults(
        [
            {"fault": "lost_answer", "probability": 0.08},
            {"fault": "server_error_after", "probability": 0.05},
            {"fault": "connection_reset", "probability": 0.04},
            {"fault": "truncated", "probability": 0.02},
            {"fault": "too_many_requests", "probability": 0.03, "burst": 3, "retry_after": 0},
            {"fault": "hang", "probability": 0.02, "seconds": 5},
            {"fault": "duplicate", "probability": 0.02, "limit": 2},
        ]
    )
    processes = [
        engine_process(shop, list(reversed(keys)) if n % 2 else keys, run_id=("run", "other")[n % 2]) for n in range(3)
    ]
    assert wait_until(lambda: len(shop.history()) > 25, PATIENCE)
    processes[0].kill()
    for process in processes:
        process.communicate(timeout=60)
    shop.control.clear_faults()
    served = shop.serve(attempt_of("run", clear=1), *keys)
    assert {outcome.result for outcome in served} == {V.SERVED}
    sound(shop)


# -- trouble with the database -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that tests may kill."""
    folder = Path(tempfile.mkdtemp(prefix="passport-links-killed-"))
    guard = Guard()  # ends the server if the tests are killed
    server = EmbeddedPostgres(folder / "postgres", Ports.free().postgres, settings={"fsync": "off"}, guard=guard)
    try:
        server.start()
        server.create_database("warehouse", "template0")
        migrate(connecting_to(server.uri("warehouse")))
        yield server
    finally:
        server.stop()
        guard.dismiss()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def shaky(own_postgres: EmbeddedPostgres, sandbox: SandboxServer) -> Iterator[Shop]:
    own_postgres.start()
    uri = Database(own_postgres.uri("warehouse"))
    empty(uri)
    with world(uri) as here:
        yield Shop(here, sandbox)


@pytest.mark.parametrize("seconds_down", [0.0, 1.5], ids=["within the lease", "past the lease"])
def test_a_link_that_arrives_while_the_database_is_down_is_held_and_settled(
    shaky: Shop, own_postgres: EmbeddedPostgres, caplog: pytest.LogCaptureFixture, seconds_down: float
) -> None:
    run = shaky.planned("A1")
    gate = Gate(shaky.client())
    with caplog.at_level(logging.WARNING), shaky.engine(gate) as engine:
        (future,) = engine.submit(run, ["A1"])
        assert gate.answered.wait(PATIENCE)
        own_postgres.kill()
        gate.open.set()
        assert wait_until(lambda: "the ledger cannot be written" in caplog.text, PATIENCE)
        time.sleep(seconds_down)  # the lease must pass by itself
        assert not future.done()
        own_postgres.start()
        assert future.result(PATIENCE).result is V.SERVED
    with world(Database(own_postgres.uri("warehouse"))) as again:
        shaky.here = again
        assert shaky.outcomes() == ["reserved"]
        assert len(again.passports()) == 1
        assert again.answers_left() == 0
        sound(shaky)


def test_a_link_that_is_held_past_its_lease_while_another_engine_serves_the_order_becomes_a_spare(
    shaky: Shop, own_postgres: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    run = shaky.planned("A1")
    gate = Gate(shaky.client())
    locked_out = f"{own_postgres.uri('warehouse')}?options=-c%20default_transaction_read_only%3Don"
    with caplog.at_level(logging.WARNING), shaky.engine(gate) as engine:
        (future,) = engine.submit(run, ["A1"])
        assert gate.answered.wait(PATIENCE)
        own_postgres.kill()
        engine._ledger._connect = connecting_to(locked_out)  # this engine alone reaches only a read-only server
        gate.open.set()
        own_postgres.start()
        (served,) = shaky.serve(run, "A1")
        assert served.result is V.SERVED
        assert not future.done()
        engine._ledger._connect = connecting_to(own_postgres.uri("warehouse"))
        assert future.result(PATIENCE).result is V.SERVED
    with world(Database(own_postgres.uri("warehouse"))) as again:
        shaky.here = again
        assert shaky.outcomes() == ["spare", "reserved"]
        assert sorted(state for _, state, _ in again.passports()) == ["assigned", "spare"]
        sound(shaky)


def test_a_restart_while_intents_are_being_committed_loses_nothing(shaky: Shop, own_postgres: EmbeddedPostgres) -> None:
    keys = [f"A{n:02}" for n in range(60)]
    run = shaky.planned(*keys, max_calls_per_order=6, max_unknown_per_run=1000)
    shaky.control.set_switches(latency_ms=10)
    with shaky.engine() as engine:
        futures = engine.submit(run, keys)
        for share in (0.2, 0.5, 0.8):
            assert wait_until(lambda share=share: sum(each.done() for each in futures) >= share * 60, PATIENCE, 0.005)
            own_postgres.kill()
            own_postgres.start()
        assert {future.result(PATIENCE).result for future in futures} == {V.SERVED}
    shaky.control.set_switches(latency_ms=0)
    with world(Database(own_postgres.uri("warehouse"))) as again:
        shaky.here = again
        assert len(again.passports()) == 60
        sound(shaky)


def test_an_intent_that_was_committed_while_the_connection_broke_is_freed_and_made_anew_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shop.planned("A1", max_calls_per_order=1)
    grant, breaks = CallLedger.grant, iter((True,))

    def breaks_once(ledger: CallLedger, *arguments: Any, **options: Any) -> Any:
        granted = grant(ledger, *arguments, **options)
        if next(breaks, False):
            message = "the connection broke"
            raise SafeDatabaseError(message, sqlstate=None, constraint=None, transient=True)
        return granted

    monkeypatch.setattr(CallLedger, "grant", breaks_once)
    (served,) = shop.serve(run, "A1", lease_seconds=30)
    assert served.result is V.SERVED
    assert shop.outcomes() == ["not_sent", "reserved"]
    assert len(shop.history()) == 1
    sound(shop)


@contextmanager
def in_trouble(here: World, begin: str, end: str) -> Iterator[Callable[[], None]]:
    """Lets the database refuse what engines ask, from now until the given function is called."""
    here.rows.execute(begin)
    here.rows.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'passport-links ledger' and datname = current_database()"
    )
    try:
        yield lambda: here.rows.execute(end) and None
    finally:
        here.rows.execute(end)


def test_an_engine_that_is_closed_gives_an_answer_up_when_its_hold_is_over_and_names_the_order(
    shaky: Shop, own_postgres: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    run = shaky.planned("A1")
    gate = Gate(shaky.client())
    engine = ReservingEngine(shaky.here.uri, gate, LinkRules(), EngineSettings(8, 0.5, 1.0))
    (future,) = engine.submit(run, ["A1"])
    assert gate.answered.wait(PATIENCE)
    own_postgres.kill()
    gate.open.set()
    with caplog.at_level(logging.WARNING):
        engine.close(hold_seconds=0.3)
    assert "the answers for these orders are lost: A1" in caplog.text
    assert future.result(0).result is V.FAILED
    own_postgres.start()
    with world(Database(own_postgres.uri("warehouse"))) as again:
        shaky.here = again
        assert shaky.serve(run, "A1")[0].result is V.SERVED
        assert shaky.outcomes() == ["unknown", "reserved"]
        sound(shaky)


def drop_role(shop: Shop, name: str) -> None:
    """Drops a role once its sessions are over: until the server has noticed that, it owns temporary tables."""
    sessions = "select count(*) from pg_stat_activity where usename = %s"
    assert wait_until(lambda: shop.here.one(sessions, name) == 0, PATIENCE)
    shop.here.rows.execute(f"drop role {name}")


def test_a_warehouse_that_is_read_only_for_a_while_is_waited_for(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    run = shop.planned("A1", "B2")
    gate = Gate(shop.client())
    name = conninfo_to_dict(shop.here.uri)["dbname"]
    with caplog.at_level(logging.WARNING), shop.engine(gate, lease_seconds=30) as engine:
        (future,) = engine.submit(run, ["A1"])
        assert gate.answered.wait(PATIENCE)
        with in_trouble(
            shop.here,
            f"alter database {name} set default_transaction_read_only = on",
            f"alter database {name} reset default_transaction_read_only",
        ) as over:
            gate.open.set()
            (later,) = engine.submit(run, ["B2"])
            assert wait_until(lambda: "SQLSTATE 25006" in caplog.text or "cannot be written" in caplog.text, PATIENCE)
            assert not future.done()
            over()
            assert future.result(PATIENCE).result is V.SERVED
            assert later.result(PATIENCE).result is V.SERVED
    assert len(shop.here.passports()) == 2
    sound(shop)


def test_a_warehouse_that_has_no_connection_left_is_waited_for(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    run = shop.planned("A1")
    gate = Gate(shop.client())
    shop.here.rows.execute("drop role if exists engine_login")
    shop.here.rows.execute("create role engine_login login password 'engine' in role passport_pipeline")
    found = conninfo_to_dict(shop.here.uri)
    uri = Database(f"postgresql://engine_login:engine@{found['host']}:{found['port']}/{found['dbname']}")
    with caplog.at_level(logging.WARNING), shop.engine(gate, uri=uri, lease_seconds=30) as engine:
        (future,) = engine.submit(run, ["A1"])
        assert gate.answered.wait(PATIENCE)
        with in_trouble(
            shop.here, "alter role engine_login connection limit 0", "alter role engine_login connection limit -1"
        ) as over:
            gate.open.set()
            assert wait_until(lambda: "the ledger cannot be written" in caplog.text, PATIENCE)
            assert not future.done()
            over()
            assert future.result(PATIENCE).result is V.SERVED
    drop_role(shop, "engine_login")
    sound(shop)


def test_a_ledger_that_refuses_for_good_fails_the_orders_that_wait(shop: Shop) -> None:
    run = shop.planned("A1")
    shop.here.rows.execute("create role nobody login password 'nobody'")
    found = conninfo_to_dict(shop.here.uri)
    uri = Database(f"postgresql://nobody:nobody@{found['host']}:{found['port']}/{found['dbname']}")
    (served,) = shop.serve(run, "A1", uri=uri)
    drop_role(shop, "nobody")
    assert served.result is V.FAILED
    assert served.reason is not None
    assert served.reason.startswith("the ledger refuses: ")
    assert "42501" in served.reason
    assert len(shop.history()) == 0


def test_an_answer_that_the_ledger_refuses_for_good_holds_up_no_other_and_no_close(shop: Shop) -> None:
    keys = [f"A{n}" for n in range(8)]
    run = shop.planned(*keys)
    shop.here.rows.execute("alter table passport_ops.passport add constraint not_a5 check (order_key <> 'A5')")
    try:
        served = {outcome.order_key: outcome for outcome in shop.serve(run, *keys, lease_seconds=30)}
    finally:
        shop.here.rows.execute("alter table passport_ops.passport drop constraint not_a5")
    assert (served["A5"].result, served["A5"].state) == (V.ATTENTION, R.HELD)
    assert served["A5"].reason == (
        "the ledger refuses what the NMP answered (SQLSTATE 23514, constraint not_a5): its raw answer is kept for a "
        "person"
    )
    assert [key for key in keys if served[key].result is V.SERVED] == ["A0", "A1", "A2", "A3", "A4", "A6", "A7"]
    assert shop.here.answers_left() == 1
    sound(shop)


def test_an_unread_answer_that_the_ledger_refuses_for_good_keeps_no_engine_from_working(shop: Shop) -> None:
    run = shop.planned("A1", "B2")
    shop.here.open(run)
    died = shop.here.intend(run, "A1")
    shop.here.ledger.keep_answers({died.attempt_id: shop.client().reserve(shop.tag, deadline=time.monotonic() + 5)})
    shop.here.end_leases()
    shop.here.rows.execute("alter table passport_ops.passport add constraint not_a1 check (order_key <> 'A1')")
    try:
        (served,) = shop.serve(run, "B2")
    finally:
        shop.here.rows.execute("alter table passport_ops.passport drop constraint not_a1")
    assert served.result is V.SERVED
    assert (shop.here.state("A1"), shop.outcomes()) == (R.HELD, ["unreadable", "reserved"])
    assert shop.here.answers_left() == 1
    sound(shop)


def test_no_link_stands_in_what_an_engine_logs(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    keys = [f"A{n}" for n in range(8)]
    run = shop.planned(*keys, max_calls_per_order=4)
    for fault in ("duplicate", "truncated", "rubbish", "wrong_host"):
        shop.control.queue_fault(fault)
    with caplog.at_level(logging.DEBUG):
        for outcome in shop.serve(run, *keys):
            logging.getLogger("task").info("%s %r", outcome.sentence, outcome)
    links = [
        link for (link,) in shop.here.rows.execute("select link from passport_ops.passport where link is not null")
    ]
    assert links
    for link in links:
        assert link not in caplog.text
        assert link.rpartition(",")[2] not in caplog.text
    assert "https://" not in caplog.text
    assert repr(a_link("1")).count("secret") == 0


def test_an_engine_that_lives_through_a_restore_makes_no_further_call_and_keeps_what_it_receives(
    postgres: EmbeddedPostgres, warehouse: str, sandbox: SandboxServer, caplog: pytest.LogCaptureFixture
) -> None:
    with world(warehouse) as here:
        before = Shop(here, sandbox)
        run = before.planned("A1", "B2", "C3", "D4")
    with backup_of(postgres, warehouse) as backup, world(warehouse) as here:
        shop = Shop(here, sandbox)
        shop.control = before.control
        gate = Gate(shop.client())
        with shop.engine(gate, uri=Database(warehouse), call_deadline_seconds=PATIENCE, lease_seconds=60) as engine:
            gate.open.set()
            assert [each.result for each in engine.reserve_all(run, ["A1", "B2"])] == [V.SERVED, V.SERVED]
            gate.open.clear()
            gate.answered.clear()
            [late] = engine.submit(run, ["C3"])
            assert gate.answered.wait(PATIENCE)
            backup.put_back()
            calls = len(shop.history())
            gate.open.set()  # the answer of C3 meets a ledger that has no such call
            assert late.result(PATIENCE).result is V.FAILED
            refused = engine.reserve_all(run, ["A1", "B2", "D4"])
        assert len(shop.history()) == calls == 3
    assert {each.result for each in refused} == {V.FAILED}
    assert all("the warehouse went back in time" in (each.reason or "") for each in refused)
    with world(warehouse) as restored:
        assert restored.one("select count(*) from passport_ops.attempt") == 0
        [[certificate, state, order_key]] = restored.passports()
        assert (state, order_key) == ("ended", "C3")
        assert certificate in {entry["certificate_id"] for entry in shop.history()}
        assert restored.answers_left() == 0
