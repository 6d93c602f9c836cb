"""The trigger that serves one order of a run without starting a process for it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from include.reserving import OrderResult, Outcome
from include.warehouse.database import SafeDatabaseError
from passport_airflow.process_engine import ProcessEngine, process_engine, run_start

ASK_LEDGER_AGAIN_SECONDS = 2.0

EVENTS = {
    OrderResult.SERVED: TaskSuccessEvent,
    OrderResult.OUT_OF_STOCK: TaskSkippedEvent,
    OrderResult.NOT_WANTED: TaskSkippedEvent,
    OrderResult.STOPPED: TaskSkippedEvent,
    OrderResult.LIMITED: TaskSkippedEvent,
    OrderResult.FAILED: TaskFailedEvent,
}
"""How a task ends from here. ``TaskFailedEvent`` is retried; a worker fails what needs a person, without a retry."""


class ReserveTrigger(BaseTrigger):
    """Give the order of one mapped task to the engine of this process and end the task with its outcome.

    A task with a slice continues in a worker. Every mapped task has the same trigger without arguments: the ledger
    knows which order it serves, by run and map index. When two triggerers run the same trigger it still costs one call,
    because the ledger gives the lease of an order to one of them at a time.
    """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give the path of the class, and no arguments."""
        return "passport_airflow.reserve_trigger.ReserveTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: the end of the task, or what a worker continues with (``resume`` of the operator)."""
        task: Any = self.task_instance
        started_at = task.get_template_context()["dag_run"].start_date
        try:
            engine, (sliced, order_keys) = await self._orders(task.run_id, task.map_index)
            if sliced:
                yield TriggerEvent({"sliced": True})  # type: ignore[no-untyped-call]
                return
            outcome = await self._serve(engine, task.run_id, started_at, order_keys)
        except Exception as error:
            # only its type or a text of ours: the text of an unexpected error may hold anything
            words = str(error) if isinstance(error, SafeDatabaseError) else type(error).__name__
            self.log.error("this order could not be served: %s", words)  # noqa: TRY400
            yield TaskFailedEvent()
            return
        if outcome is None:
            yield TaskFailedEvent()
        elif outcome.result in EVENTS:
            yield EVENTS[outcome.result]()
        else:
            yield TriggerEvent({"attention": outcome.sentence})  # type: ignore[no-untyped-call]

    async def _orders(self, run_id: str, map_index: int) -> tuple[ProcessEngine, tuple[bool, list[str]]]:
        """Give the engine and this task's orders; waits while the ledger cannot be reached."""
        while True:
            try:
                engine = await asyncio.to_thread(process_engine)
                return engine, await asyncio.to_thread(engine.orders_of_task, run_id, map_index)
            except SafeDatabaseError as error:
                if not error.transient:
                    raise
                self.log.warning("the ledger cannot be read, trying again: %s", error)
            await asyncio.sleep(ASK_LEDGER_AGAIN_SECONDS)

    async def _serve(
        self, engine: ProcessEngine, run_id: str, started_at: Any, order_keys: list[str]
    ) -> Outcome | None:
        if not order_keys:
            self.log.warning("the run was re-planned and no longer has this task: clear its extract_orders task")
            return None
        [order_key] = order_keys
        self.log.info("order %s: asks for its link", order_key)
        [future] = engine.submit(run_start(run_id, started_at), [order_key])
        outcome = await asyncio.wrap_future(future)
        self.log.info("%s", outcome.sentence)
        return outcome
