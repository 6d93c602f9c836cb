"""What the operator and the trigger share: a planned run in a fresh warehouse, and a sandbox to ask."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from include.business_day import bounds_of
from include.ledger.runs import RunLedger
from passport_airflow.process_engine import close_process_engine
from sandbox.server import SandboxControl, SandboxServer
from tests.builders.world import DAY, UTC_ZONE, order, plan


class PlannedRun:
    """A run that is planned in a fresh warehouse."""

    def __init__(self, warehouse: str, sandbox: SandboxControl) -> None:
        self.warehouse, self.sandbox = warehouse, sandbox
        self.ledger = RunLedger(warehouse)

    def plan(self, *order_keys: str, tag: str, **fields: Any) -> None:
        orders = [order(key, tag=tag) for key in order_keys]
        self.ledger.register(orders, run_id="run", days_read=bounds_of([DAY], UTC_ZONE), pool_sizes={})
        self.ledger.plan_run(plan(**{"max_tasks": 1, **fields}))

    def dag_run(self) -> Any:
        return SimpleNamespace(run_id="run", start_date=datetime(2026, 11, 23, tzinfo=UTC))

    def states(self) -> list[Any]:
        with psycopg.connect(self.warehouse) as connection:
            return connection.execute("select order_key, state from passport_ops.reservation order by 1").fetchall()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        server.start()
        yield server


@pytest.fixture
def planned(warehouse: str, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlannedRun]:
    nmp = {"conn_type": "http", "host": sandbox.base_url, "password": sandbox.api_key}
    monkeypatch.setenv("AIRFLOW_CONN_NMP", json.dumps(nmp))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", warehouse)
    made = PlannedRun(warehouse, sandbox.control())
    yield made
    close_process_engine()
    made.ledger.close()
