"""Real processes that are stopped at a chosen instruction: others go on, and who wakes up moves nothing that moved on.

Also a database and a network that fall silent, which an engine must survive that closes.
"""
# ruff: noqa: F811 - fixtures of the engine's tests

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from psycopg.conninfo import make_conninfo

from include.ledger.runs import RunLedger
from include.nmp.answers import LinkRules
from include.reserving import EngineSettings, ReservingEngine
from include.warehouse.publishing import load_links
from local.postgres import EmbeddedPostgres
from local.processes import PROJECT, wait_until
from tests.builders.world import DAY, order
from tests.databases import Database
from tests.include.test_reserving import PATIENCE, Gate, Shop, V, sandbox, shop, sound  # noqa: F401
from tests.silent_proxy import Silence, SilentProxy

AT_MOST = 10.0  # seconds for which a process that froze may hold others up


class Frozen:
    """A process that stops itself at an instruction; started, and stopped there by now."""

    def __init__(self, shop: Shop, does: str, at: str, keys: Sequence[str], **options: Any) -> None:
        given = {"uri": shop.here.uri, "nmp": shop.sandbox.base_url, "api_key": shop.sandbox.api_key, "keys": keys}
        command = [
            *(sys.executable, "-m", "tests.include.freezing_process"),
            json.dumps({**given, "does": does, "at": at, **options}),
        ]
        self.process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        asleep = psutil.Process(self.process.pid)
        assert wait_until(lambda: asleep.status() == psutil.STATUS_STOPPED, PATIENCE)

    def wake(self) -> str:
        """Let it go on; give what it prints until it ends."""
        os.kill(self.process.pid, signal.SIGCONT)
        return self.process.communicate(timeout=60)[0]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def frozen(shop: Shop) -> Iterator[Callable[..., Frozen]]:
    processes: list[Frozen] = []

    def made(does: str, at: str, keys: Sequence[str] = (), **options: Any) -> Frozen:
        processes.append(Frozen(shop, does, at, keys, **options))
        return processes[-1]

    yield made
    for process in processes:
        process.end()


def seconds(work: Callable[[], Any]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def served(shop: Shop, run: Any, *keys: str) -> None:
    assert [outcome.result for outcome in shop.serve(run, *keys)] == [V.SERVED] * len(keys)


@pytest.mark.parametrize("at", ["lock_grants", "lock_orders", "insert_attempts"])
def test_while_a_process_is_frozen_in_a_grant_the_others_serve(
    shop: Shop, frozen: Callable[..., Frozen], at: str
) -> None:
    run = shop.planned("A1", "B2", "C3")
    shop.here.open(run)
    asleep = frozen("serve", at, ["A1"])
    assert seconds(lambda: served(shop, run, "B2", "C3")) < AT_MOST
    assert asleep.wake() == "A1 served\n"
    # An intent that took as long as a call may take is never sent.
    assert [outcome for outcome in shop.outcomes() if outcome != "not_sent"] == ["reserved"] * 3
    sound(shop)


@pytest.mark.parametrize("at", ["share_answered_tags", "lock_answered", "insert_passports", "settle_attempts"])
def test_what_a_process_that_froze_while_it_settled_brings_is_late(
    shop: Shop, frozen: Callable[..., Frozen], at: str
) -> None:
    run = shop.planned("A1", "B2")
    shop.here.open(run)
    asleep = frozen("serve", at, ["A1"])
    assert seconds(lambda: served(shop, run, "A1", "B2")) < AT_MOST
    assert asleep.wake() == "A1 served\n"
    assert len(shop.here.passports()) == len(shop.history())
    assert shop.here.one("select count(*) from passport_ops.reservation where state = 'reserved'") == 2
    assert shop.here.answers_left() == 0
    sound(shop)


def test_six_processes_that_freeze_in_their_grants_cost_the_others_one_limit(
    shop: Shop, frozen: Callable[..., Frozen]
) -> None:
    keys = [f"A{n}" for n in range(7)]
    run = shop.planned(*keys)
    shop.here.open(run)
    shop.here.rows.execute("begin")
    shop.here.rows.execute("select from passport_ops.gate for update")
    with ThreadPoolExecutor(6) as threads:
        asleep = list(threads.map(lambda key: frozen("serve", "waiting lock_grants", [key]), keys[:6]))
        shop.here.rows.execute("rollback")
        assert seconds(lambda: served(shop, run, keys[6])) < AT_MOST
        woken = [threads.submit(process.wake) for process in asleep]
        assert [each.result(60) for each in woken] == [f"{key} served\n" for key in keys[:6]]
    sound(shop)


@pytest.mark.parametrize("at", ["copy", "register_tags", "keep_tags", "register_orders", "cancel_missing"])
def test_while_a_process_is_frozen_in_an_extraction_others_serve_and_register(
    shop: Shop, frozen: Callable[..., Frozen], at: str
) -> None:
    run = shop.planned("A1", "B2")
    shop.here.open(run)
    asleep = frozen("register", at, ["A1", "C3"])

    def others() -> None:
        with RunLedger(shop.here.uri) as ledger:
            ledger.register(
                [order("A1", tag=shop.tag), order("B2", tag=shop.tag)], run_id="run", days_read={}, pool_sizes={}
            )
        served(shop, run, "A1", "B2")

    assert seconds(others) < AT_MOST
    assert asleep.wake() in ("registered 2\n", "transient: True\n")
    sound(shop)


@pytest.mark.parametrize("at", ["serialise_loads", "publish_links", "forget_published"])
def test_while_a_process_is_frozen_in_a_load_others_load_and_serve(
    shop: Shop, frozen: Callable[..., Frozen], at: str
) -> None:
    run = shop.planned("A1", "B2")
    served(shop, run, "A1")
    asleep = frozen("load", at)

    def others() -> None:
        served(shop, run, "B2")
        assert load_links(shop.here.uri, run_id="run", closes=[DAY]).published_now == 2

    assert seconds(others) < AT_MOST
    assert asleep.wake() == "transient: True\n"
    sound(shop)


# -- an engine that must end -------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(postgres: EmbeddedPostgres) -> Iterator[SilentProxy]:
    with SilentProxy(postgres.port) as made:
        yield made


@pytest.mark.parametrize("silence", Silence)
def test_an_engine_whose_network_falls_silent_goes_on_with_a_new_connection(
    shop: Shop, proxy: SilentProxy, silence: Silence
) -> None:
    run = shop.planned("A1")
    gate = Gate(shop.client())
    with shop.engine(gate, uri=Database(make_conninfo(shop.here.uri, port=proxy.port))) as engine:
        (future,) = engine.submit(run, ["A1"])
        assert gate.answered.wait(PATIENCE)
        proxy.cut(silence=silence)
        gate.open.set()
        assert seconds(lambda: future.result(PATIENCE)) < AT_MOST + 1
    assert shop.outcomes() == ["reserved"]
    sound(shop)


@pytest.mark.parametrize("silence", Silence)
def test_an_engine_ends_although_its_network_swallows_everything(
    shop: Shop, postgres: EmbeddedPostgres, caplog: pytest.LogCaptureFixture, silence: Silence
) -> None:
    run = shop.planned("A1", "B2")
    gate = Gate(shop.client())
    with SilentProxy(postgres.port) as proxy:
        uri = Database(make_conninfo(shop.here.uri, port=proxy.port))
        engine = ReservingEngine(uri, gate, LinkRules(), EngineSettings(8, 0.5, 1.0))
        first, second = engine.submit(run, ["A1", "B2"])
        assert gate.answered.wait(PATIENCE)
        proxy.cut(silence=silence)
        engine._ledger._connect = _never_answered
        gate.open.set()
        with caplog.at_level(logging.WARNING):
            assert seconds(lambda: engine.close(hold_seconds=0.3)) < 0.5 + 0.3 + 15
        assert "the answers for these orders are lost: A1" in caplog.text
        assert [future.result(0).result for future in (first, second)] == [V.FAILED, V.FAILED]


def _never_answered() -> Any:
    """A network in which even looking up the host takes for ever."""
    time.sleep(60)
