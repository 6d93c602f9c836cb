"""The one engine of a process: made once for many triggers, made anew when a connection was changed."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from include.ledger.session import LedgerError
from include.warehouse.database import SafeDatabaseError
from local.postgres import EmbeddedPostgres
from passport_airflow import process_engine as module
from passport_airflow.process_engine import close_process_engine, process_engine
from sandbox.server import SandboxServer
from tests.silent_proxy import Silence, SilentProxy


@pytest.fixture
def nmp(warehouse: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxServer]:
    with SandboxServer() as sandbox:
        sandbox.start()
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", warehouse)
        monkeypatch.setenv("AIRFLOW_CONN_NMP", as_json(sandbox, sandbox.api_key))
        yield sandbox
        close_process_engine()


def as_json(sandbox: SandboxServer, key: str) -> str:
    return json.dumps({"conn_type": "http", "host": sandbox.base_url, "password": key})


def test_many_triggers_at_once_share_one_engine_and_one_reading_of_the_connections(
    nmp: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = []
    read = module.warehouse
    monkeypatch.setattr(module, "warehouse", lambda: readings.append(1) or read())
    with ThreadPoolExecutor(16) as pool:
        engines = list(pool.map(lambda _: process_engine(), range(200)))
    assert len({id(engine) for engine in engines}) == 1
    assert len(readings) == 1


def test_a_connection_that_was_changed_gets_a_new_engine_when_its_reading_is_old(
    nmp: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = process_engine()
    monkeypatch.setenv("AIRFLOW_CONN_NMP", as_json(nmp, "another key"))
    assert process_engine() is first
    monkeypatch.setattr(module, "CONNECTIONS_HOLD_SECONDS", 0.0)
    second = process_engine()
    assert second is not first
    assert process_engine() is second


def test_an_engine_ends_although_a_look_up_waits_for_a_silent_network(
    nmp: SandboxServer, warehouse: str, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SilentProxy(postgres.port) as proxy, ThreadPoolExecutor(1) as pool:
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", warehouse.replace(f":{postgres.port}/", f":{proxy.port}/"))
        engine = process_engine()
        with pytest.raises(LedgerError):
            engine.orders_of_task("no such run", 0)
        proxy.cut(silence=Silence.STUCK)
        looking_up = pool.submit(engine.orders_of_task, "no such run", 0)
        began = time.monotonic()
        close_process_engine()
        assert time.monotonic() - began < 15
        with pytest.raises(SafeDatabaseError):
            looking_up.result(15)
