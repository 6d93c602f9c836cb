"""
### One claim link per order, every day

Takes the orders that were paid on a business day and earned a digital passport, reserves one passport for each of
them on the NMP, publishes the links in `passport.links` and starts the reset of stale reservations.

**When.** Every day after midnight in the shop's time zone, for the day that ended. It also finds late orders of the
last days and carries unserved ones over. A Backfill, or a run by hand with the param `day`, serves its own day.
Running a day again costs nothing: an order that has a link is never asked for again.

**Tasks.** `extract_orders` reads and checks the orders. `reserve` is mapped: one task per order, or slices of orders
above `per_order_limit`. `load_links` publishes what is reserved, whatever failed. `check_run` fails the run when an
order of its day has no link, and says which and why. `trigger_reset` starts `reset_stale_reservations`.

**When it fails**, read the log of `check_run`, correct the cause, and clear the failed tasks (or the run):

| what you see | what to do |
|---|---|
| the warehouse went back in time | it was restored from a backup: follow `docs/recovery.md` |
| `out_of_stock` | mint passports under that tag, then clear the run's `reserve` task, or wait for the next day's run |
| the run stopped (401, 403, 404), other orders skipped | correct the connection `nmp`, then clear the run |
| the run stopped: unknown outcomes | see whether the NMP is well, then clear the run |
| `unknown` | each may have cost a passport; clearing asks again within the budget |
| `held` | decide with `resolve_attention`: release it or close it |
| rows not taken | correct the order in the shop; the next run reads it again |

Everything that waits for a person is in `passport.needs_attention`.
"""

import logging
from datetime import timedelta
from typing import Unpack

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Asset, Context, CronDataIntervalTimetable, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from pendulum import datetime

import passport_airflow  # noqa: F401 - first: it says what to do when another package is called include
from include.campaigns import Campaigns
from include.day_check import check_day
from include.intake import plan_day
from include.ledger.runs import RunLedger
from include.settings import settings
from include.warehouse.publishing import load_links as publish_links
from passport_airflow.connections import orders_db, warehouse
from passport_airflow.failed_tasks import failed_tasks
from passport_airflow.grant_memory import refuse_if_went_back, remember_grants
from passport_airflow.reserve_operator import ReservePassportLinkOperator
from passport_airflow.run_day import run_day
from passport_airflow.run_params import run_params, run_plan
from passport_airflow.task_defaults import task_defaults

log = logging.getLogger(__name__)

SETTINGS = settings()
CAMPAIGNS = Campaigns.load(SETTINGS.campaigns_file)
PASSPORT_LINKS = Asset("passport_links")
RESET_DAG = "reset_stale_reservations"
SCHEDULE = (
    None
    if SETTINGS.schedule == "none"
    else CronDataIntervalTimetable(SETTINGS.schedule, timezone=SETTINGS.shop_timezone)
)


@task(show_return_value_in_logs=False)
def extract_orders(**context: Unpack[Context]) -> list[str]:
    """Read the day's eligible orders and assign them to the mapped tasks; give a label for each task."""
    plan = run_plan(context["dag_run"], context["params"], SETTINGS)
    with RunLedger(warehouse()) as ledger:
        refuse_if_went_back(ledger)
        return plan_day(ledger, orders_db(), CAMPAIGNS, SETTINGS, plan).labels


@task(trigger_rule="all_done", outlets=[PASSPORT_LINKS])
def load_links(**context: Unpack[Context]) -> None:
    """Publish every reserved link in one transaction, also when some orders were skipped or failed."""
    run = context["dag_run"]
    day = run_day(run, context["params"])
    published = publish_links(warehouse(), business_day=day, run_id=run.run_id)
    if published.refused:
        message = f"no publishable link: {', '.join(published.refused[:20])}; see passport.needs_attention"
        raise AirflowFailException(message)
    event = context["outlet_events"][PASSPORT_LINKS]
    event.extra = {"business_day": str(day), "published_now": published.published_now}


@task(trigger_rule="all_done")
def check_run(**context: Unpack[Context]) -> None:
    """Fail the run when extraction, loading or a slice failed, or an order of its day has no link."""
    run, params = context["dag_run"], context["params"]
    day = run_day(run, params)
    failed = failed_tasks(context, ["extract_orders", "reserve", "load_links"])
    with RunLedger(warehouse()) as ledger:
        remember_grants(ledger)
        if "extract_orders" not in failed and not ledger.is_sliced(run.run_id):
            # a task of one order fails for that order alone, which the check of its own day names
            failed = {name for name in failed if not name.startswith("reserve")}
        orders = ledger.orders_of_day(day, campaigns=params["campaigns"] or ())
    reasons = SETTINGS.reasons_that_fail_a_run
    log.info("%s", check_day(str(day), orders, failed_tasks=failed, reasons_that_fail=reasons))


def skip_where_no_reset_is_due(context: Context) -> None:
    """Skip the reset of a backfill, which serves its own days only, and while a person has paused the resets."""
    if context["dag_run"].run_type == "backfill":
        message = "a backfill triggers no reset"
        raise AirflowSkipException(message)
    if context["ti"].get_dag(RESET_DAG).is_paused:
        message = f"resets are paused: unpause the DAG {RESET_DAG} to go on with them"
        raise AirflowSkipException(message)


@dag(
    schedule=SCHEDULE,
    start_date=datetime(2016, 1, 1, tz=SETTINGS.shop_timezone),
    catchup=False,
    max_active_runs=4,
    params=run_params(CAMPAIGNS, SETTINGS),
    doc_md=__doc__,
    tags=["passport-links"],
    default_args=task_defaults(timedelta(hours=1)),
)
def reserve_passport_links() -> None:
    """Connect the tasks of a day: extract, reserve, load, check, reset."""
    reserve = ReservePassportLinkOperator.partial(
        task_id="reserve",
        map_index_template="{{ task.order }}",
        execution_timeout=timedelta(seconds=SETTINGS.task_timeout_seconds),
        do_xcom_push=False,
    ).expand(order=extract_orders())

    trigger_reset = TriggerDagRunOperator(
        task_id="trigger_reset",
        trigger_dag_id=RESET_DAG,
        trigger_run_id="after__{{ run_id }}",
        skip_when_already_exists=True,
        pre_execute=skip_where_no_reset_is_due,
    )

    reserve >> load_links() >> [check_run(), trigger_reset]


reserve_passport_links()
