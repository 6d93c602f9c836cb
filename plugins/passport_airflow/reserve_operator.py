"""The operator of the ``reserve`` task: one order in the triggerer, or a slice of orders in a worker."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException
from airflow.triggers.base import StartTriggerArgs

from include.day_check import OrdersNeedAttentionError, OrdersNotServedError
from include.reserving import OrderResult, Outcome
from include.settings import settings
from passport_airflow.process_engine import close_process_engine, process_engine, run_start

MOST_OUTCOMES_LOGGED = 100
PROGRESS_SECONDS = 5.0


class ReservePassportLinkOperator(BaseOperator):
    """Reserve one claim link for each order of the mapped task. Map it over ``order``, the labels of a planned run.

    It starts in the triggerer (``start_from_trigger``), where one order costs no process. A slice of orders continues
    in a worker, and so does a single order without a triggerer (setting ``start_in_triggerer``). The ledger knows which
    orders it serves, by run and map index; ``order`` is for people, and for the task's row in the UI.
    """

    template_fields: Sequence[str] = ()
    start_trigger_args = StartTriggerArgs(
        trigger_cls="passport_airflow.reserve_trigger.ReserveTrigger", trigger_kwargs={}, next_method="resume"
    )
    start_from_trigger = settings().start_in_triggerer

    def __init__(self, *, order: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.order = order

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """Continue in a worker after the trigger: serve the slice of orders, or fail because a person must act.

        Raises what ``execute`` raises.
        """
        if attention := event.get("attention"):
            raise OrdersNeedAttentionError(attention)
        self.execute(context)

    def execute(self, context: Context) -> None:
        """Serve the task's orders in this process.

        Raises ``AirflowSkipException`` when its only order was not asked for (out of stock, no longer wanted, the run
        stopped, a limit on new links), ``OrdersNotServedError`` for a retry, and ``OrdersNeedAttentionError`` where a
        retry would not help.
        """
        run, map_index = context["dag_run"], context["ti"].map_index or 0
        try:
            engine = process_engine()
            _, order_keys = engine.orders_of_task(run.run_id, map_index)
            self.log.info("serves %d orders%s", len(order_keys), f": {order_keys[0]}" if len(order_keys) == 1 else "")
            outcomes = engine.reserve_all(
                run_start(run.run_id, run.start_date),
                order_keys,
                progress=lambda done, of: self.log.info("%d of %d orders done", done, of),
                every_seconds=PROGRESS_SECONDS,
            )
        finally:
            # also when the task times out or is terminated: the calls under way are settled first
            close_process_engine()
        self._conclude(outcomes)

    def _conclude(self, outcomes: Sequence[Outcome]) -> None:
        counts = Counter(outcome.result for outcome in outcomes)
        told = outcomes if len(outcomes) == 1 else [each for each in outcomes if each.result is not OrderResult.SERVED]
        for outcome in told[:MOST_OUTCOMES_LOGGED]:
            self.log.info("%s", outcome.sentence)
        summary = ", ".join(f"{count} {result}" for result, count in sorted(counts.items())) or "no orders"
        self.log.info("%d orders: %s", len(outcomes), summary)
        if counts[OrderResult.FAILED]:
            raise OrdersNotServedError(summary)
        if counts[OrderResult.ATTENTION] or (counts[OrderResult.STOPPED] and len(outcomes) > 1):
            raise OrdersNeedAttentionError(summary)
        if outcomes and not counts[OrderResult.SERVED]:
            raise AirflowSkipException(summary)
