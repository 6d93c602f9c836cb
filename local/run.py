"""``make run``: the local stack in the foreground, with demo orders, until Ctrl-C.

Sets everything up, loads the demo orders, unpauses the DAGs (their schedule runs the newest ended day at once), prints
the result of that day and where to look, and stays. A second start continues where the first one was.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from include.business_day import business_day_of, last_ended_day
from include.settings import Settings
from include.sql_files import sql_of
from include.warehouse.database import open_session
from include.warehouse.migrate import migrate
from local.airflow_api import ENDED, AirflowApi, Json
from local.console import (
    EXPECTED_ERRORS,
    INTERRUPTED,
    Progress,
    checked_settings,
    ended_by_signals,
    print_error,
    raise_if_make_ended,
    short_path,
    variable,
    with_number,
)
from local.demo_orders import load_demo, load_stale_demo
from local.postgres import BIN, SUPERUSER, write_private
from local.processes import PROJECT, LocalStackError
from local.stack import HOST, WAREHOUSE_DATABASE, Ports, Stack, is_free

STATE = PROJECT / ".state" / "run"
sql = sql_of(__package__)
DEFAULT_PORTS = {"PORT": 8080, "POSTGRES_PORT": 5433, "SANDBOX_PORT": 8765}
RESERVE, RESET = "reserve_passport_links", "reset_stale_reservations"
DAGS = (RESERVE, RESET, "resolve_attention")
RUN_SECONDS = 24 * 3600


def main() -> int:
    """Run until Ctrl-C, SIGTERM or ``make stop``; returns the exit code."""
    progress = Progress(sys.stdout)
    try:
        with ended_by_signals():
            settings = checked_settings(variable("SHOP_TIMEZONE"), variable("CAMPAIGNS"))
            with Stack(Path(variable("STATE") or STATE), _ports()) as stack:
                _check_ports(stack)
                try:
                    _run(stack, settings, progress)
                finally:
                    progress("stopping")
    except KeyboardInterrupt:
        progress("everything has ended")
        return 0
    except EXPECTED_ERRORS as error:
        print_error(error)
        return 1
    return INTERRUPTED


def _run(stack: Stack, settings: Settings, progress: Progress) -> None:
    stale_day: list[date] = []

    def prepare(stack: Stack) -> None:
        today = business_day_of(datetime.now(UTC), settings.timezone)
        migrate(stack.warehouse)
        if not stack.outside_connection("orders_db"):
            with open_session(stack.orders_db) as orders:
                load_demo(orders, today, settings.timezone)
                stale_day.append(load_stale_demo(orders, today, settings.timezone))

    progress("starting PostgreSQL")
    stack.start_databases()
    check_connections_from_outside(stack, progress)
    stack.start(prepare, progress)
    progress("reading the DAGs")
    stack.api.wait_for_dags(DAGS)
    for dag in DAGS:
        stack.api.unpause(dag)
    wait_for_schedule(stack, progress)
    _print_day(stack, last_ended_day(datetime.now(UTC), settings.timezone))
    _print_addresses(stack)
    if not stack.outside_connections() and not _has_orders(stack, stale_day[0]):
        demonstrate_reset(stack, stale_day[0], progress)
    progress("up; Ctrl-C ends everything")
    while True:
        check_parts(stack)
        time.sleep(1)


def check_connections_from_outside(stack: Stack, progress: Progress) -> None:
    """Try the connections from outside; raises ``LocalStackError`` for the first that does not work.

    ``passport_airflow.check_connections`` reads connections as Airflow does, so it is a process of its own. A warehouse
    from outside is migrated before it is tried.
    """
    names = stack.outside_connections()
    if not names:
        return
    progress(f"trying the connections from outside: {', '.join(names)}")
    migrate(stack.warehouse)
    environment = {**stack.environment(), "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}"}
    check = subprocess.run(
        [sys.executable, "-m", "passport_airflow.check_connections"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    for line in check.stdout.splitlines():
        verdict, _, rest = line.partition(" ")
        if verdict == "FAILED" and rest.strip().split(":")[0] in names:
            message = f"the connection {rest.strip()}"
            raise LocalStackError(message)


# ---- the daily run ---------------------------------------------------------------------------------------------------


def wait_for_schedule(stack: Stack, progress: Progress) -> None:
    """Wait until no interval that has ended waits for its run, and no run is under way."""

    def due() -> bool:
        next_run = stack.api.dag(RESERVE)["next_dagrun_run_after"]
        return next_run is not None and datetime.fromisoformat(next_run) <= datetime.now(UTC)

    deadline = time.monotonic() + 60
    while due():
        progress("waiting for the schedule to begin the newest day")
        check_parts(stack)
        if time.monotonic() > deadline:
            message = f"Airflow has not begun the newest day's run in 60 seconds; read {stack.logs / 'scheduler.log'}"
            raise LocalStackError(message)
        time.sleep(0.25)
    for run in unfinished_runs(stack.api, RESERVE):
        state = wait_for(stack, RESERVE, run["dag_run_id"], progress)["state"]
        progress(f"the run {run['dag_run_id']} ended: {state}")


def wait_for(stack: Stack, dag_id: str, run_id: str, progress: Callable[[str], None]) -> Json:
    """Wait for a run's end with a word now and then; raises ``LocalStackError`` when a part of the stack ends."""
    printed_at = time.monotonic()
    progress(f"{dag_id} runs")

    def meanwhile() -> None:
        nonlocal printed_at
        check_parts(stack)
        if time.monotonic() - printed_at > 5:
            printed_at = time.monotonic()
            progress(_task_counts(stack.api.tasks(dag_id, run_id)))

    return stack.api.wait_for_run(dag_id, run_id, RUN_SECONDS, meanwhile=meanwhile)


def unfinished_runs(api: AirflowApi, dag_id: str) -> list[Json]:
    """List the runs of a DAG that have not ended."""
    return [run for run in api.runs(dag_id, state=["queued", "running"]) if run["state"] not in ENDED]


def check_parts(stack: Stack) -> None:
    """Raise ``LocalStackError`` when a part has ended by itself, KeyboardInterrupt when make has."""
    raise_if_make_ended()
    for name, part in stack.parts.items():
        if not part.is_alive():
            message = f"{name} ended by itself; read {short_path(stack.logs / name)}.log, then start again"
            raise LocalStackError(message)


def _task_counts(tasks: list[Json]) -> str:
    counts: dict[str, dict[str, int]] = {}
    for task in tasks:
        states = counts.setdefault(task["task_id"], {})
        state = task["state"] or "waiting"
        states[state] = states.get(state, 0) + 1
    begun = {task: states for task, states in counts.items() if set(states) - {"waiting"}}
    return "; ".join(
        f"{task}: {', '.join(f'{number} {state}' for state, number in sorted(states.items()))}"
        for task, states in begun.items()
    )


# ---- what it prints ---------------------------------------------------------------------------------------------


def demonstrate_reset(stack: Stack, day: date, progress: Progress) -> None:
    """Serve the orders of a day of three months ago, make their links old, and let the reset take them back."""
    progress(f"the demo's reset: reserving for the orders of {day}")
    run_id = stack.api.trigger(RESERVE, {"day": day.isoformat()})
    wait_for(stack, RESERVE, run_id, progress)
    for run in unfinished_runs(stack.api, RESET):
        wait_for(stack, RESET, run["dag_run_id"], progress)
    with open_session(stack.warehouse) as warehouse:
        warehouse.execute(sql("age_links"), {"day": day})
    progress(f"the demo's reset: as if those links had been given out on {day}")
    run_id = stack.api.trigger(RESET)
    wait_for(stack, RESET, run_id, progress)
    with open_session(stack.warehouse) as warehouse:
        taken_back = warehouse.execute(sql("day_resets"), {"day": day}).fetchall()
    for tag, count in taken_back:
        progress(f"the demo's reset: {with_number(int(str(count)), 'unclaimed link')} of tag {tag} taken back")


def _has_orders(stack: Stack, day: date) -> bool:
    with open_session(stack.warehouse) as warehouse:
        row = warehouse.execute(sql("day_is_known"), {"day": day}).fetchone()
    return bool(row and row[0])


def _print_day(stack: Stack, day: date) -> None:
    with open_session(stack.warehouse) as warehouse:
        states: list[tuple[Any, ...]] = warehouse.execute(sql("day_summary"), {"day": day}).fetchall()
        rejected: list[tuple[Any, ...]] = warehouse.execute(sql("rejected_rows"), {"day": day}).fetchall()
    orders, published = sum(row[2] for row in states), sum(row[3] for row in states)
    print(f"\n{day}: {with_number(orders, 'order')}, {with_number(published, 'link')} published")
    for state, reason, count, with_link in states:
        if count > with_link:
            why = f": {reason}" if reason else ""
            print(f"  {with_number(count - with_link, 'order')} without a link, {state}{why}")
    if rejected:
        rows = ", ".join(f"{count} {reason}" for reason, count in rejected)
        print(f"  rows of the shop that were not taken: {rows}")


def _print_addresses(stack: Stack) -> None:
    print(f"\nAirflow    {stack.api.base_url}/dags/{RESERVE}")
    if not stack.outside_connection("warehouse"):
        passfile = stack.state / "pgpass"
        write_private(passfile, f"{HOST}:{stack.ports.postgres}:*:{SUPERUSER}:{stack.postgres.password}\n")
        psql = f"{short_path(BIN / 'psql')} -h {HOST} -p {stack.ports.postgres} -U {SUPERUSER} {WAREHOUSE_DATABASE}"
        print(f"warehouse  PGPASSFILE={short_path(passfile)} {psql}")
        print("           select * from passport.days;  select * from passport.link_status;")
    if not stack.outside_connection("nmp"):
        print(f"sandbox    {stack.sandbox_url}/sandbox/counters")
    print(f"logs       {short_path(stack.logs)}\n", flush=True)


# ---- ports -----------------------------------------------------------------------------------------------------------


def _ports() -> Ports:
    return Ports(*(_port(name, default) for name, default in DEFAULT_PORTS.items()))


def _port(name: str, default: int) -> int:
    value = variable(name) or str(default)
    if not value.isdigit() or not 0 < int(value) < 65536:
        message = f"{name} is {value!r}, which is no port; give a number between 1 and 65535"
        raise LocalStackError(message)
    return int(value)


def _check_ports(stack: Stack) -> None:
    for name, port in zip(DEFAULT_PORTS, (stack.ports.ui, stack.ports.postgres, stack.ports.sandbox), strict=True):
        unused = name == "SANDBOX_PORT" and stack.outside_connection("nmp")
        if not unused and not is_free(port):
            message = f"port {port} is in use; choose another one with `make run {name}={port + 10}`"
            raise LocalStackError(message)


if __name__ == "__main__":
    sys.exit(main())
