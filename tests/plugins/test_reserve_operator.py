"""The reserve operator in a worker: for slices, and for single orders where there is no triggerer."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.day_check import OrdersNeedAttentionError, OrdersNotServedError
from include.ledger.runs import RunLedger
from passport_airflow.reserve_operator import ReservePassportLinkOperator
from passport_airflow.retry_policy import RETRY_BY_CLASS
from sandbox.server import SandboxControl, SandboxServer
from tests.builders.world import DAY, order, plan


class Worker:
    """A planned run in a fresh warehouse, and the operator as a worker runs it."""

    def __init__(self, warehouse: str, sandbox: SandboxControl) -> None:
        self.warehouse, self.sandbox = warehouse, sandbox
        self.ledger = RunLedger(warehouse)

    def plan(self, *order_keys: str, tag: str, per_order_limit: int = 1000) -> None:
        orders = [order(key, tag=tag) for key in order_keys]
        self.ledger.register(orders, run_id="run", days_read=[DAY], pool_sizes={})
        self.ledger.plan_run(plan(per_order_limit=per_order_limit, max_tasks=1))

    def execute(self, map_index: int) -> None:
        run = SimpleNamespace(run_id="run", start_date=datetime(2026, 11, 23, tzinfo=UTC))
        context: Any = {"dag_run": run, "ti": SimpleNamespace(map_index=map_index)}
        ReservePassportLinkOperator(task_id="reserve", order="for people").execute(context)

    def states(self) -> list[Any]:
        with psycopg.connect(self.warehouse) as connection:
            return connection.execute("select order_key, state from passport_ops.reservation order by 1").fetchall()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        server.start()
        yield server


@pytest.fixture
def worker(warehouse: str, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    nmp = {"conn_type": "http", "host": sandbox.base_url, "password": sandbox.api_key}
    monkeypatch.setenv("AIRFLOW_CONN_NMP", json.dumps(nmp))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", warehouse)
    made = Worker(warehouse, sandbox.control())
    yield made
    made.ledger.close()


def test_a_worker_serves_the_one_order_of_its_task(worker: Worker) -> None:
    worker.plan("A1", "B2", tag="one-order")
    worker.execute(1)
    assert worker.states() == [("A1", "pending"), ("B2", "reserved")]


def test_a_worker_serves_all_orders_of_its_slice(worker: Worker) -> None:
    worker.plan("A1", "B2", "C3", tag="a-slice", per_order_limit=0)
    worker.execute(0)
    assert worker.states() == [("A1", "reserved"), ("B2", "reserved"), ("C3", "reserved")]


def test_an_order_of_an_empty_tag_skips_its_task(worker: Worker) -> None:
    worker.sandbox.create_pool("empty", 0)
    worker.plan("A1", tag="empty")
    with pytest.raises(AirflowSkipException, match="1 out_of_stock"):
        worker.execute(0)
    assert worker.states() == [("A1", "out_of_stock")]


def test_a_slice_that_found_its_tag_empty_half_way_succeeds_for_the_run_s_check_to_judge(worker: Worker) -> None:
    worker.sandbox.create_pool("two-left", 2)
    worker.plan("A1", "B2", "C3", tag="two-left", per_order_limit=0)
    worker.execute(0)
    assert sorted(state for _, state in worker.states()) == ["out_of_stock", "reserved", "reserved"]


def test_a_run_that_stopped_fails_without_a_retry(worker: Worker) -> None:
    worker.sandbox.queue_fault("redirect")
    worker.plan("A1", tag="redirected")
    with pytest.raises(OrdersNeedAttentionError) as error:
        worker.execute(0)
    assert RETRY_BY_CLASS.evaluate(error.value, 1, 3).action.value == "fail"
    assert worker.states() == [("A1", "unknown")]


def test_orders_that_could_not_be_served_are_tried_again(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.reserving.UNREACHABLE_SECONDS", 0.0)
    nobody = {"conn_type": "http", "host": "http://127.0.0.1:9", "password": "a key"}
    monkeypatch.setenv("AIRFLOW_CONN_NMP", json.dumps(nobody))
    worker.plan("A1", tag="unreachable")
    with pytest.raises(OrdersNotServedError) as error:
        worker.execute(0)
    assert RETRY_BY_CLASS.evaluate(error.value, 1, 3).action.value == "retry"
    assert worker.states() == [("A1", "pending")]
