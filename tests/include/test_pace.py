"""The pace of calls, as the NMP sees it: four processes on real sockets, and when their calls arrive."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from include.ledger.run_starts import RunStart
from include.nmp.answers import LinkRules
from include.nmp.client import NmpClient
from include.nmp.connection import NmpConnection
from include.reserving import EngineSettings, OrderResult, ReservingEngine
from local.processes import PROJECT, wait_until
from sandbox.server import SandboxServer
from tests.builders.world import World, attempt_of, empty, order, plan, world

PROCESSES = 4
WINDOW_SECONDS = 5.0


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        server.start(seed=11)
        server.control().set_switches(latency_ms=30)
        yield server


@pytest.fixture
def here(emptied_warehouse: str) -> Iterator[World]:
    with world(emptied_warehouse) as made:
        yield made


def planned(here: World, sandbox: SandboxServer, tag: str, orders: int) -> tuple[RunStart, list[str]]:
    sandbox.control().create_pool(tag, orders)
    keys = [f"A{n:04}" for n in range(orders)]
    here.register(*(order(key, tag=tag) for key in keys))
    here.runs.plan_run(plan())
    here.open(attempt_of())
    return attempt_of(), keys


def process(
    here: World, sandbox: SandboxServer, keys: list[str], per_second: float | None, **options: Any
) -> "subprocess.Popen[str]":
    given = {
        "uri": here.uri,
        "nmp": sandbox.base_url,
        "api_key": sandbox.api_key,
        "keys": keys,
        "concurrency": 32,
        "deadline": 5,
        "lease": 10,
        "per_second": per_second,
        **options,
    }
    command = [sys.executable, "-m", "tests.include.engine_process", json.dumps(given)]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)


def arrivals(sandbox: SandboxServer, since: int) -> list[float]:
    """When calls reached the NMP, in order."""
    return sorted(entry["time"] for entry in sandbox.control().history(since))


def most_within(seconds: float, times: list[float]) -> int:
    """The most calls that arrived within any window of so many seconds."""
    first, most = 0, 0
    for last, moment in enumerate(times):
        while times[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def served_by_four(here: World, sandbox: SandboxServer, orders: int, per_second: float | None) -> list[float]:
    """When the calls of four processes arrived that served so many new orders together."""
    since = sandbox.control().counters()["last_seq"]
    _, keys = planned(here, sandbox, f"four-{since}", orders)
    engines = [process(here, sandbox, keys[n::PROCESSES], per_second) for n in range(PROCESSES)]
    told = [engine.communicate(timeout=100)[0] for engine in engines]
    assert sum(out.count(" served") for out in told) == len(keys)
    return arrivals(sandbox, since)


def mean(times: list[float]) -> float:
    return (len(times) - 1) / (times[-1] - times[0])


@pytest.mark.timeout(400)  # where the machine is busy
@pytest.mark.parametrize("per_second", [20, 200])
def test_four_processes_together_keep_the_pace(here: World, sandbox: SandboxServer, per_second: int) -> None:
    for _ in range(3):
        empty(here.uri)
        times = served_by_four(here, sandbox, 8 * per_second, per_second)
        assert most_within(WINDOW_SECONDS, times) <= 1.05 * per_second * WINDOW_SECONDS
        if mean(times) >= 0.9 * per_second:
            return
    empty(here.uri)
    most = mean(served_by_four(here, sandbox, 4 * per_second, None))
    assert most < 2 * per_second, f"{mean(times):.0f} calls a second, and {most:.0f} without a pace"
    pytest.skip(f"this machine is busy: it makes {most:.0f} calls a second without a pace")


def test_calls_that_froze_before_their_turn_do_not_leave_together(here: World, sandbox: SandboxServer) -> None:
    since = sandbox.control().counters()["last_seq"]
    _, keys = planned(here, sandbox, "frozen", 160)
    engine = process(here, sandbox, keys, 40, concurrency=100)
    assert wait_until(lambda: len(arrivals(sandbox, since)) > 20, 20, 0.02)
    engine.send_signal(signal.SIGSTOP)
    time.sleep(1.5)  # every slot that it has is over
    engine.send_signal(signal.SIGCONT)
    assert engine.communicate(timeout=30)[0].count(" served") == len(keys)
    assert most_within(1.0, arrivals(sandbox, since)) <= 56
    assert here.one("select count(*) from passport_ops.attempt where detail like '%%turn came%%'") > 0


def engine_of(here: World, sandbox: SandboxServer, **settings: Any) -> ReservingEngine:
    client = NmpClient(NmpConnection(sandbox.base_url, sandbox.api_key))
    return ReservingEngine(here.uri, client, LinkRules(), EngineSettings(**settings))


def test_an_engine_that_closes_sends_no_call_whose_turn_has_not_come(here: World, sandbox: SandboxServer) -> None:
    run, keys = planned(here, sandbox, "closing", 3)
    engine = engine_of(here, sandbox, calls_per_second=0.9)
    futures = engine.submit(run, keys)
    assert futures[0].result(20).result is OrderResult.SERVED
    assert wait_until(lambda: here.one("select count(*) from passport_ops.attempt") == 2, 20, 0.01)
    engine.close()
    assert [future.result(0).result for future in futures[1:]] == [OrderResult.FAILED] * 2
    outcomes = here.rows.execute("select outcome from passport_ops.attempt order by attempt_id").fetchall()
    assert outcomes == [("reserved",), ("not_sent",)]
    assert {state for state, _ in here.states(*keys[1:]).values()} == {"pending"}


def test_a_call_waits_for_its_turn_with_its_whole_deadline(here: World, sandbox: SandboxServer) -> None:
    run, keys = planned(here, sandbox, "short", 6)
    engine = engine_of(here, sandbox, calls_per_second=4, call_deadline_seconds=0.5, lease_seconds=1)
    assert {outcome.result for outcome in engine.reserve_all(run, keys)} == {OrderResult.SERVED}
    engine.close()
    assert here.one("select array_agg(distinct outcome) from passport_ops.attempt") == ["reserved"]


def test_a_retry_after_that_one_engine_got_keeps_the_others_waiting(here: World, sandbox: SandboxServer) -> None:
    since = sandbox.control().counters()["last_seq"]
    run, keys = planned(here, sandbox, "paused", 2)
    sandbox.control().queue_fault("too_many_requests", retry_after=2)
    one, two = engine_of(here, sandbox), engine_of(here, sandbox)
    (first,) = one.submit(run, keys[:1])
    assert wait_until(lambda: here.one("select paused_until is not null from passport_ops.gate"), 20, 0.01)
    (second,) = two.submit(run, keys[1:])
    for future in (first, second):
        assert future.result(20).result is OrderResult.SERVED
    one.close()
    two.close()
    throttled, *others = arrivals(sandbox, since)
    assert len(others) == 2
    assert min(others) - throttled >= 2.0
