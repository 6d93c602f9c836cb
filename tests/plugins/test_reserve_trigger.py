"""The trigger in a triggerer: one order of a run, in the event loop, with the engine of the process."""

import asyncio
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from passport_airflow.reserve_trigger import ReserveTrigger

if TYPE_CHECKING:
    from tests.plugins.conftest import PlannedRun


def end_of_task(planned: "PlannedRun", map_index: int = 0) -> TriggerEvent:
    """Run the trigger of one mapped task to its one event."""
    trigger: Any = ReserveTrigger()
    trigger._log = logging.getLogger("of the trigger")  # Airflow's own writes to a stream that it has kept
    trigger._task_instance = SimpleNamespace(
        run_id="run", map_index=map_index, get_template_context=lambda: {"dag_run": planned.dag_run()}
    )

    async def events() -> list[TriggerEvent]:
        return [event async for event in trigger.run()]

    [event] = asyncio.run(events())
    return event


def test_an_order_that_got_its_link_succeeds(planned: "PlannedRun") -> None:
    planned.plan("A1", "B2", tag="by-trigger")
    assert type(end_of_task(planned, 1)) is TaskSuccessEvent
    assert planned.states() == [("A1", "pending"), ("B2", "reserved")]


def test_an_order_of_an_empty_tag_is_skipped(planned: "PlannedRun") -> None:
    planned.sandbox.create_pool("empty-by-trigger", 0)
    planned.plan("A1", tag="empty-by-trigger")
    assert type(end_of_task(planned)) is TaskSkippedEvent


def test_a_slice_continues_in_a_worker(planned: "PlannedRun") -> None:
    planned.plan("A1", "B2", tag="slice-by-trigger", per_order_limit=0)
    assert end_of_task(planned).payload == {"sliced": True}
    assert planned.states() == [("A1", "pending"), ("B2", "pending")]


def test_an_order_that_needs_a_person_fails_in_a_worker_with_the_reason(planned: "PlannedRun") -> None:
    planned.sandbox.queue_fault("redirect")
    planned.plan("A1", tag="redirected-by-trigger")
    assert end_of_task(planned).payload["attention"].startswith("order A1: unknown (")


def test_a_task_that_a_second_planning_left_out_fails_and_says_what_to_clear(
    planned: "PlannedRun", caplog: pytest.LogCaptureFixture
) -> None:
    planned.plan("A1", tag="planned-again")
    with caplog.at_level(logging.WARNING):
        assert type(end_of_task(planned, 7)) is TaskFailedEvent
    assert "the run was re-planned and no longer has this task: clear its extract_orders task" in caplog.text


def test_a_warehouse_that_refuses_fails_the_task_and_the_log_holds_no_password(
    planned: "PlannedRun", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    password = psycopg.conninfo.conninfo_to_dict(planned.warehouse)["password"]
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", planned.warehouse.replace(str(password), "hunter22"))
    with caplog.at_level(logging.DEBUG):
        assert type(end_of_task(planned)) is TaskFailedEvent
    assert "it refuses the login; check user and password" in caplog.text
    assert "hunter22" not in caplog.text
