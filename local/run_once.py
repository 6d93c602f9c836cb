"""``make run-once``: one business day on a stack of its own, then one JSON line.

Reads the make variables from the environment: DAY, ORDERS, SHOP_TIMEZONE, CAMPAIGNS, STATE, CONF. Progress goes to
standard error; the last line on standard output is the JSON object, on failure too.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from include.business_day import business_day_of, parse_day, require_ended
from include.campaigns import Campaigns, UnknownCampaignError
from include.ledger.states import ReservationState
from include.settings import Settings
from include.sql_files import sql_of
from include.warehouse.database import Connect, open_session
from include.warehouse.migrate import migrate
from local.airflow_api import Json
from local.console import (
    EXPECTED_ERRORS,
    INTERRUPTED,
    Progress,
    checked_settings,
    ended_by_signals,
    print_error,
    short_path,
    variable,
)
from local.demo_orders import load_demo
from local.processes import PROJECT, LocalStackError
from local.run import DAGS, RESERVE, RESET, check_connections_from_outside, unfinished_runs, wait_for
from local.source_table import load_csv
from local.stack import Stack

STATE = PROJECT / ".state" / "run-once"

sql = sql_of(__package__)

COUNTED_AS = {
    ReservationState.RESERVED: "reserved",
    ReservationState.CLAIMED: "claimed",
    ReservationState.OUT_OF_STOCK: "out_of_stock",
    ReservationState.HELD: "held",
    ReservationState.UNKNOWN: "unknown",
    ReservationState.CALLING: "unknown",  # a call that nobody finished: its outcome is unknown
    ReservationState.PENDING: "pending",
    ReservationState.CANCELLED: "cancelled",
    ReservationState.CLOSED: "cancelled",
    ReservationState.RESET: "reset",
}


@dataclass
class Result:
    """What the JSON line says; the states add up to ``orders``."""

    day: str | None
    orders: int = 0
    reserved: int = 0
    claimed: int = 0
    out_of_stock: int = 0
    held: int = 0
    unknown: int = 0
    pending: int = 0
    cancelled: int = 0
    reset: int = 0
    published: int = 0
    calls: int = 0
    seconds: float | None = None

    def is_complete(self) -> bool:
        """Whether every eligible order's link is published."""
        return self.published == self.orders - self.cancelled


@dataclass(frozen=True)
class Request:
    """What the command was asked for, checked."""

    day: date
    orders: Path | None
    state: Path
    conf: Json
    settings: Settings


def main() -> int:
    """Run one day; returns the exit code."""
    progress = Progress(sys.stderr)
    results = [Result(variable("DAY"))]  # the last one counts
    code = 1
    try:
        with ended_by_signals():
            request = read_request()
            with Stack(request.state, environment={"PASSPORT_LINKS_SCHEDULE": "none"}) as stack:
                state = _run(stack, request, results, progress)
                progress("stopping")
            if state == "success" and results[-1].is_complete():
                code = 0
            else:
                print_error(_why_incomplete(results[-1], state, stack))
    except KeyboardInterrupt:
        code = INTERRUPTED
        print_error("interrupted: what was reserved is in the ledger, the same command continues from there")
    except EXPECTED_ERRORS as error:
        print_error(error)
    finally:
        print(json.dumps(asdict(results[-1])), flush=True)
    return code


def read_request() -> Request:
    """Read what the environment asks for; raises one of ``EXPECTED_ERRORS``: one sentence that says what is wrong."""
    settings = checked_settings(variable("SHOP_TIMEZONE"), variable("CAMPAIGNS"))
    text = variable("DAY")
    if not text:
        message = "DAY is missing; give the business day, like `make run-once DAY=2026-11-22`"
        raise LocalStackError(message)
    day = require_ended(parse_day(text), datetime.now(UTC), settings.timezone)
    return Request(day, _orders_file(), Path(variable("STATE") or STATE), _conf(settings), settings)


def _orders_file() -> Path | None:
    name = variable("ORDERS")
    if not name:
        return None
    if variable("AIRFLOW_CONN_ORDERS_DB"):
        message = "ORDERS and AIRFLOW_CONN_ORDERS_DB are both given; the orders come from one of them: drop the other"
        raise LocalStackError(message)
    path = Path(name)
    if not path.is_file():
        message = f"ORDERS names {name}, which is no file; give the path of a CSV file"
        raise LocalStackError(message)
    return path


def _conf(settings: Settings) -> Json:
    text = variable("CONF") or "{}"
    try:
        conf = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"""CONF is not JSON ({error.msg} at character {error.pos + 1}); write CONF='{{"max_tasks": 4}}'"""
        raise LocalStackError(message) from None
    if not isinstance(conf, dict):
        message = """CONF is no JSON object; write it like CONF='{"max_tasks": 4}'"""
        raise LocalStackError(message)
    if "day" in conf:
        message = "CONF holds a day; give it as DAY"
        raise LocalStackError(message)
    chosen = conf.get("campaigns") or []
    if not isinstance(chosen, list) or not all(isinstance(name, str) for name in chosen):
        message = """CONF's campaigns is no list of names; write it like CONF='{"campaigns": ["watches"]}'"""
        raise LocalStackError(message)
    try:
        Campaigns.load(settings.campaigns_file).require(chosen)
    except UnknownCampaignError as error:
        message = f"CONF's campaigns: {error}"
        raise LocalStackError(message) from None
    return conf


def _run(stack: Stack, request: Request, results: list[Result], progress: Progress) -> str:
    """Serve the day and add its counts to ``results``; give the run's state."""
    progress("starting PostgreSQL")
    stack.start_databases()
    check_connections_from_outside(stack, progress)
    _load(stack, request, progress)
    results.append(count(stack.warehouse, request.day, None))
    stack.start(progress=progress, before_scheduler=lambda: _prepare_dags(stack, request.conf))
    run_id = stack.api.trigger(RESERVE, {"day": request.day.isoformat(), **request.conf})
    try:
        run = wait_for(stack, RESERVE, run_id, progress)
        for reset in unfinished_runs(stack.api, RESET):  # the run started it: it must not be cut off in the middle
            wait_for(stack, RESET, reset["dag_run_id"], progress)
    finally:
        results.append(count(stack.warehouse, request.day, run_id))
    results[-1].seconds = _seconds(run)
    return str(run["state"])


def _load(stack: Stack, request: Request, progress: Progress) -> None:
    """Migrate the warehouse and load the orders, before anything slow is started."""
    migrate(stack.warehouse)
    with open_session(stack.orders_db) as orders:
        if request.orders:
            progress(f"loading {short_path(request.orders)}")
            load_csv(orders, request.orders)
        elif not stack.outside_connection("orders_db"):
            load_demo(orders, business_day_of(datetime.now(UTC), request.settings.timezone), request.settings.timezone)


def _prepare_dags(stack: Stack, conf: Json) -> None:
    """Check the params, end the runs that an interrupted command left, and unpause; the scheduler must not run yet."""
    stack.api.wait_for_dags(DAGS)
    params = stack.api.get(f"/dags/{RESERVE}/details")["params"]
    if unknown := sorted(set(conf) - set(params)):
        message = f"CONF holds {unknown[0]!r}, which the DAG does not know; it knows {', '.join(sorted(params))}"
        raise LocalStackError(message)
    for dag in DAGS:
        for run in unfinished_runs(stack.api, dag):
            stack.api.call("PATCH", f"/dags/{dag}/dagRuns/{run['dag_run_id']}", json={"state": "failed"})
        stack.api.unpause(dag)


def count(connect: Connect, day: date, run_id: str | None) -> Result:
    """Count a day's orders in the warehouse, and the calls that the run ``run_id`` sent (``None``: no run)."""
    result = Result(day.isoformat())
    with open_session(connect) as warehouse:
        states: list[tuple[Any, ...]] = warehouse.execute(sql("day_states"), {"day": day}).fetchall()
        calls: Any = warehouse.execute(sql("run_calls"), {"run_id": run_id}).fetchone()
    for state, orders, published in states:
        name = COUNTED_AS[ReservationState(state)]
        setattr(result, name, getattr(result, name) + orders)
        result.orders += orders
        result.published += published
    result.calls = calls[0]
    return result


def _seconds(run: Json) -> float:
    begun, ended = (datetime.fromisoformat(run[key]) for key in ("start_date", "end_date"))
    return round((ended - begun).total_seconds(), 1)


def _why_incomplete(result: Result, state: str, stack: Stack) -> str:
    where = f"the task logs are in {short_path(stack.state / 'airflow' / 'logs')}"
    if result.is_complete():
        return f"the run of {result.day} ended as {state}, though every link is published; {where}"
    lacking = result.orders - result.cancelled - result.published
    return f"{lacking} of the {result.orders - result.cancelled} orders of {result.day} have no published link; {where}"


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
