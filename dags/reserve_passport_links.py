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

**When it fails**, read the log of `check_run`, mend the cause, and clear the failed tasks (or the run):

| what you see | what to do |
|---|---|
| `out_of_stock` | mint passports under that tag, then clear the run's `reserve` task, or wait for the next day's run |
| the run stopped (401, 403, 404), other orders skipped | mend the connection `nmp`, then clear the run |
| the run stopped: unknown outcomes | see whether the NMP is well, then clear the run |
| `unknown` | each may have cost a passport; clearing asks again within the budget |
| `held` | decide with `resolve_attention`: release it or close it |
| rows not taken | mend the order in the shop; the next run reads it again |

Everything that waits for a person stands in `passport.needs_attention`.
"""

import logging
from datetime import timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Asset, CronDataIntervalTimetable, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from pendulum import datetime

from include.campaigns import Campaigns
from include.day_check import check_day
from include.intake import plan_day
from include.ledger.session import RunPlan
from include.settings import settings
from include.warehouse.publishing import load_links as publish_links
from passport_airflow.connections import orders_db, warehouse
from passport_airflow.open_ledger import open_ledger
from passport_airflow.reserve_operator import ReservePassportLinkOperator
from passport_airflow.retry_policy import RETRY_BY_CLASS
from passport_airflow.run_day import run_day
from passport_airflow.run_params import run_params

log = logging.getLogger(__name__)

SETTINGS = settings()
CAMPAIGNS = Campaigns.load(SETTINGS.campaigns_file)
PASSPORT_LINKS = Asset("passport_links")
SCHEDULE = (
    None
    if SETTINGS.schedule == "none"
    else CronDataIntervalTimetable(SETTINGS.schedule, timezone=SETTINGS.shop_timezone)
)


@task(show_return_value_in_logs=False)
def extract_orders(params=None, dag_run=None, **context) -> list[str]:
    """Reads the day's eligible orders and deals them to the mapped tasks; gives their labels."""
    plan = RunPlan(
        run_id=dag_run.run_id,
        business_day=run_day({"params": params, "dag_run": dag_run, **context}),
        scheduled=dag_run.run_type == "scheduled",
        per_order_limit=params["per_order_limit"],
        max_tasks=params["max_tasks"],
        max_calls_per_order=params["max_calls_per_order"],
        max_unknown_per_run=params["max_unknown_per_run"],
        max_duplicates_per_run=SETTINGS.max_duplicates_per_run,
        campaigns=tuple(params["campaigns"] or ()),
    )
    with open_ledger("extract_orders") as ledger:
        return plan_day(ledger, orders_db(), CAMPAIGNS, SETTINGS, plan).labels


@task(trigger_rule="all_done", outlets=[PASSPORT_LINKS])
def load_links(params=None, dag_run=None, outlet_events=None, **context) -> None:
    """Publishes every reserved link in one transaction, also when some orders were skipped or failed."""
    day = run_day({"params": params, "dag_run": dag_run, **context})
    published = publish_links(warehouse(), business_day=day, run_id=dag_run.run_id)
    log.info("%d links published, %d published rows brought up to date", published.published_now, published.updated)
    if published.refused:
        message = f"no publishable link: {', '.join(published.refused[:20])}; see passport.needs_attention"
        raise AirflowFailException(message)
    outlet_events[PASSPORT_LINKS].extra = {"business_day": str(day), "published_now": published.published_now}


@task(trigger_rule="all_done")
def check_run(params=None, dag_run=None, ti=None, **context) -> None:
    """Fails the run when extraction, loading or a slice failed, or an order of its day has no link."""
    day = run_day({"params": params, "dag_run": dag_run, **context})
    upstream = ["extract_orders", "reserve", "load_links"]
    states = ti.get_task_states(dag_id=dag_run.dag_id, task_ids=upstream, run_ids=[dag_run.run_id])
    failed = {name for name, state in states.get(dag_run.run_id, {}).items() if state in ("failed", "upstream_failed")}
    with open_ledger("check_run") as ledger:
        # a task of one order fails for that order alone, which its own day's check names
        one_order_tasks = "extract_orders" not in failed and not ledger.is_sliced(dag_run.run_id)
        blamed = {name for name in failed if not (one_order_tasks and name.startswith("reserve"))}
        standings = ledger.day_standings(day, campaigns=params["campaigns"] or ())
    verdict = check_day(str(day), standings, failed_tasks=blamed, reasons_that_fail=SETTINGS.reasons_that_fail_a_run)
    log.info("%s", verdict)


def not_for_backfills(context) -> None:
    """A backfill serves its own days; resets are for the days as they come."""
    if context["dag_run"].run_type == "backfill":
        message = "a backfill triggers no reset"
        raise AirflowSkipException(message)


@dag(
    schedule=SCHEDULE,
    start_date=datetime(2016, 1, 1, tz=SETTINGS.shop_timezone),
    catchup=False,
    max_active_runs=4,
    params=run_params(CAMPAIGNS, SETTINGS),
    doc_md=__doc__,
    tags=["passport-links"],
    default_args={
        "owner": "passport-links",
        "retries": 2,
        "retry_delay": timedelta(seconds=SETTINGS.retry_delay_seconds),
        "retry_policy": RETRY_BY_CLASS,
        "execution_timeout": timedelta(hours=1),
    },
)
def reserve_passport_links():
    """Wires the day: extract, reserve, load, check, reset."""
    reserve = ReservePassportLinkOperator.partial(
        task_id="reserve",
        map_index_template="{{ task.order }}",
        execution_timeout=timedelta(seconds=SETTINGS.task_timeout_seconds),
        do_xcom_push=False,
    ).expand(order=extract_orders())

    trigger_reset = TriggerDagRunOperator(
        task_id="trigger_reset",
        trigger_dag_id="reset_stale_reservations",
        trigger_run_id="after__{{ run_id }}",
        skip_when_already_exists=True,
        fail_when_dag_is_paused=True,
        pre_execute=not_for_backfills,
    )

    reserve >> load_links() >> [check_run(), trigger_reset]


reserve_passport_links()
