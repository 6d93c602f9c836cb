"""The reserve operator in a worker: for slices, and for single orders where there is no triggerer."""

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from include.day_check import OrdersNeedAttentionError, OrdersNotServedError
from passport_airflow.reserve_operator import ReservePassportLinkOperator
from passport_airflow.retry_policy import RETRY_BY_CLASS

if TYPE_CHECKING:
    from tests.plugins.conftest import PlannedRun


def execute(planned: "PlannedRun", map_index: int) -> None:
    context: Any = {"dag_run": planned.dag_run(), "ti": SimpleNamespace(map_index=map_index)}
    ReservePassportLinkOperator(task_id="reserve", order="for people").execute(context)


def test_a_worker_serves_the_one_order_of_its_task(planned: "PlannedRun") -> None:
    planned.plan("A1", "B2", tag="one-order")
    execute(planned, 1)
    assert planned.states() == [("A1", "pending"), ("B2", "reserved")]


def test_a_worker_serves_all_orders_of_its_slice(planned: "PlannedRun") -> None:
    planned.plan("A1", "B2", "C3", tag="a-slice", per_order_limit=0)
    execute(planned, 0)
    assert planned.states() == [("A1", "reserved"), ("B2", "reserved"), ("C3", "reserved")]


def test_an_order_of_an_empty_tag_skips_its_task(planned: "PlannedRun") -> None:
    planned.sandbox.create_pool("empty", 0)
    planned.plan("A1", tag="empty")
    with pytest.raises(AirflowSkipException, match="1 out_of_stock"):
        execute(planned, 0)
    assert planned.states() == [("A1", "out_of_stock")]


def test_a_slice_that_found_its_tag_empty_half_way_succeeds_for_the_run_s_check_to_judge(planned: "PlannedRun") -> None:
    planned.sandbox.create_pool("two-left", 2)
    planned.plan("A1", "B2", "C3", tag="two-left", per_order_limit=0)
    execute(planned, 0)
    assert sorted(state for _, state in planned.states()) == ["out_of_stock", "reserved", "reserved"]


def test_an_order_beyond_the_limit_of_its_run_skips_its_task(planned: "PlannedRun") -> None:
    planned.plan("A1", "B2", tag="limited", max_new_links=1)
    execute(planned, 0)
    with pytest.raises(AirflowSkipException, match="1 limited"):
        execute(planned, 1)
    assert planned.states() == [("A1", "reserved"), ("B2", "pending")]


def test_a_slice_that_reached_the_limit_half_way_succeeds_for_the_run_s_check_to_judge(planned: "PlannedRun") -> None:
    planned.plan("A1", "B2", "C3", tag="limited-slice", per_order_limit=0, max_new_links=2)
    execute(planned, 0)
    assert sorted(state for _, state in planned.states()) == ["pending", "reserved", "reserved"]


def test_a_run_that_stopped_fails_without_a_retry(planned: "PlannedRun") -> None:
    planned.sandbox.queue_fault("redirect")
    planned.plan("A1", tag="redirected")
    with pytest.raises(OrdersNeedAttentionError) as error:
        execute(planned, 0)
    assert RETRY_BY_CLASS.evaluate(error.value, 1, 3).action.value == "fail"
    assert planned.states() == [("A1", "unknown")]


def test_orders_that_could_not_be_served_are_tried_again(
    planned: "PlannedRun", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.reserving.UNREACHABLE_SECONDS", 0.0)
    nobody = {"conn_type": "http", "host": "http://127.0.0.1:9", "password": "a key"}
    monkeypatch.setenv("AIRFLOW_CONN_NMP", json.dumps(nobody))
    planned.plan("A1", tag="unreachable")
    with pytest.raises(OrdersNotServedError) as error:
        execute(planned, 0)
    assert RETRY_BY_CLASS.evaluate(error.value, 1, 3).action.value == "retry"
    assert planned.states() == [("A1", "pending")]
