"""
### One claim link per order, every day

Takes the orders that were paid on a business day and earned a digital passport, reserves one passport for each of
them on the NMP, publishes the links in `passport.links` and starts the reset of stale reservations.

**When.** Every day after midnight in the shop's time zone, for the day that ended. On another schedule a run serves all
days that its interval touches: a day that has not ended as far as it is known, until the run after its end closes it. A
scheduled run also finds late orders of the last days, carries unserved ones over, and reads the days that no run has
read since their end. A Backfill, or a run by hand with the param `day`, serves its own day. Running a day again costs
nothing: an order that has a link is never asked for again.

**Before something big**, like a backfill of many days or a new campaign file, choose *Dry run*: nothing is called and
nothing changes, and the log of `extract_orders` says how many passports each tag would need and has left. *New links*
(`max_new_links`) limits a run, `PASSPORT_LINKS_MAX_NEW_LINKS_PER_DAY` all runs of a day. Beyond a limit orders wait.

**Tasks.** `extract_orders` reads and checks the orders. `reserve` is mapped: one task per order, or slices of orders
above `per_order_limit`. `load_links` publishes what is reserved, whatever failed; it is skipped when nothing is new.
`check_run` fails the run when an order of a day that it closes has no link, and says which and why. `trigger_reset`
starts `reset_stale_reservations`: once a day, in the run that closes the day, and in each run by hand.

**When it fails**, read the log of `check_run`, correct the cause, and clear the failed tasks (or the run):

| what you see | what to do |
|---|---|
| the warehouse went back in time | it was restored from a backup: follow `docs/recovery.md` |
| `out_of_stock` | mint passports under that tag, then clear the run's `reserve` task, or wait for the next day's run |
| the run stopped (401, 403, 404), other orders skipped | correct the connection `nmp`, then clear the run |
| the run stopped: unknown outcomes | see whether the NMP is well, then clear the run |
| `unknown` | each may have cost a passport; clearing asks again within the budget |
| a day was not read since its end | correct what `extract_orders` says, then clear it, or wait for the next run |
| a limit on new links is reached | see whether so many orders are meant; trigger a run by hand with a higher limit |
| `held` | decide with `resolve_attention`: release it or close it |
| rows not taken | correct the order in the shop; the next run reads it again |

Everything that waits for a person is in `passport.needs_attention`.
"""

import logging
from datetime import timedelta
from typing import Unpack, cast

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Asset, Context, CronDataIntervalTimetable, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from pendulum import datetime

import passport_airflow  # noqa: F401 - first: it says what to do when another package is called include
from include.campaigns import Campaigns
from include.day_check import check_days
from include.intake import dry_run, plan_day
from include.ledger.runs import RunLedger
from include.settings import settings
from include.warehouse.publishing import load_links as publish_links
from passport_airflow.connections import orders_db, warehouse
from passport_airflow.failed_tasks import failed_tasks
from passport_airflow.grant_memory import refuse_if_went_back, remember_grants
from passport_airflow.reserve_operator import ReservePassportLinkOperator
from passport_airflow.run_day import run_days
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
    """Read the eligible orders of the run's days and assign them to the mapped tasks; give a label for each task."""
    plan = run_plan(context["dag_run"], context["params"], SETTINGS)
    with RunLedger(warehouse()) as ledger:
        refuse_if_went_back(ledger)
        if context["params"].get("dry_run"):
            dry_run(ledger, orders_db(), CAMPAIGNS, SETTINGS, plan)
            return []
        return plan_day(ledger, orders_db(), CAMPAIGNS, SETTINGS, plan).labels


@task(trigger_rule="all_done", outlets=[PASSPORT_LINKS])
def load_links(**context: Unpack[Context]) -> None:
    """Publish every reserved link in one transaction, also when some orders were skipped or failed.

    With nothing new for readers it is skipped, so that no asset event is sent.
    """
    skip_after_a_dry_run(context)
    run = context["dag_run"]
    published = publish_links(warehouse(), closes=run_days(run, context["params"]).closes, run_id=run.run_id)
    if published.refused:
        message = f"no publishable link: {', '.join(published.refused[:20])}; see passport.needs_attention"
        raise AirflowFailException(message)
    if not published.has_news:
        message = "nothing new was published, so no asset event is sent"
        raise AirflowSkipException(message)
    context["outlet_events"][PASSPORT_LINKS].extra = {
        "published_now": published.published_now,
        "updated": published.updated,
        "days": {str(day.business_day): day.state for day in published.days if day.changed},
    }


@task(trigger_rule="all_done")
def check_run(**context: Unpack[Context]) -> None:
    """Fail the run when extraction, loading or a slice failed, or an order of a day that it closes has no link."""
    run, params = context["dag_run"], context["params"]
    own = run_days(run, params)
    failed = failed_tasks(context, ["extract_orders", "reserve", "load_links"])
    if not failed:
        skip_after_a_dry_run(context)
    with RunLedger(warehouse()) as ledger:
        remember_grants(ledger)
        if "extract_orders" not in failed and not ledger.is_sliced(run.run_id):
            # a task of one order fails for that order alone, which the check of its own day names
            failed = {name for name in failed if not name.startswith("reserve")}
        closed = ledger.closed_days(run.run_id, own.closes)
        days = closed or own.days
        orders = ledger.orders_of_days(days, campaigns=params["campaigns"] or ())
    summary = check_days(
        days,
        orders,
        not_read=set(own.closes) - set(closed),
        failed_tasks=failed,
        reasons_that_fail=SETTINGS.reasons_that_fail_a_run if closed else (),
    )
    log.info("%s", summary)


def skip_after_a_dry_run(context: Context) -> None:
    """Skip a task that has nothing to do after a dry run."""
    if context["params"].get("dry_run"):
        message = "a dry run changes nothing: the log of extract_orders has what the run would ask for"
        raise AirflowSkipException(message)


def name_the_reset(context: Context) -> None:
    """Give the reset of a scheduled run the name of the day that the run closed, so that each day starts one reset.

    Skip it when the run closed no day, for a backfill, which serves its own days only, and while the resets are paused.
    """
    skip_after_a_dry_run(context)
    run, params = context["dag_run"], context["params"]
    if run.run_type == "backfill":
        message = "a backfill triggers no reset"
        raise AirflowSkipException(message)
    if run.run_type == "scheduled":
        with RunLedger(warehouse()) as ledger:
            closed = ledger.closed_days(run.run_id, run_days(run, params).closes)
        if not closed:
            message = "the run closed no day, so no reset is due"
            raise AirflowSkipException(message)
        cast("TriggerDagRunOperator", context["task"]).trigger_run_id = f"after__{closed[-1]}"
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
        trigger_rule="none_failed",  # a load that found nothing new is skipped
        pre_execute=name_the_reset,
    )

    reserve >> load_links() >> [check_run(), trigger_reset]


reserve_passport_links()
