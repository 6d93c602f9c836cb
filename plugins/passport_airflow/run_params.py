"""The Trigger form of ``reserve_passport_links``, and what a run takes from it."""

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param
from airflow.sdk.types import DagRunProtocol

from include.campaigns import Campaigns
from include.ledger.runs import RunPlan
from include.settings import Settings
from passport_airflow.run_day import run_days


def run_params(campaigns: Campaigns, settings: Settings) -> dict[str, Param]:
    """Give the DAG's params, typed and with help; their defaults are the project's settings."""
    return {
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Business day",
            description="For a run by hand: the day to serve, as YYYY-MM-DD. Empty: the last day that ended.",
        ),
        "campaigns": Param(
            [],
            type=["null", "array"],
            items={"type": "string"},
            examples=campaigns.names,
            title="Campaigns",
            description="Serve only these campaigns. Empty: all.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Only read the orders and say in the log of extract_orders what the run would ask for, by tag.",
        ),
        "per_order_limit": Param(
            settings.per_order_limit,
            type="integer",
            minimum=0,
            maximum=1024,
            title="Orders with a task each",
            description="Up to so many orders get one mapped task each; above, each task serves a slice.",
        ),
        "max_tasks": Param(
            settings.max_tasks,
            type="integer",
            minimum=1,
            maximum=1024,
            title="Slices",
            description="At most so many slices.",
        ),
        "max_calls_per_order": Param(
            settings.max_calls_per_order,
            type="integer",
            minimum=1,
            title="Calls per order",
            description="Calls that may cost a passport, per order: of this run or, if it is scheduled, of the day.",
        ),
        "max_unknown_per_run": Param(
            settings.max_unknown_per_run,
            type="integer",
            minimum=1,
            title="Unknown outcomes",
            description="The run stops calling after so many unknown outcomes, or 2 % of its calls if that is more.",
        ),
        "max_new_links": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="New links",
            description="The run asks for so many new links at most; the other orders wait. Empty: no limit.",
        ),
    }


def run_plan(run: DagRunProtocol, params: Mapping[str, Any], settings: Settings) -> RunPlan:
    """Give what a run is to serve, by its params; raises ``AirflowFailException`` as ``run_days`` does."""
    return RunPlan(
        run_id=run.run_id,
        days=run_days(run, params).days,
        scheduled=run.run_type == "scheduled",
        per_order_limit=params["per_order_limit"],
        max_tasks=params["max_tasks"],
        max_calls_per_order=params["max_calls_per_order"],
        max_unknown_per_run=params["max_unknown_per_run"],
        max_duplicates_per_run=settings.max_duplicates_per_run,
        stop_after_refusals=settings.stop_after_refusals,
        campaigns=tuple(params["campaigns"] or ()),
        max_new_links=params["max_new_links"],
    )
