"""One real Airflow, PostgreSQL and sandbox for all integration tests; every test has business days of its own."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from include.business_day import last_ended_day
from include.settings import Settings
from include.warehouse.migrate import migrate
from local.airflow_api import Json
from local.processes import PROJECT, wait_until
from local.source_table import SourceOrder, load_csv
from local.stack import HOST, Ports, Stack
from sandbox.faults import CallKind, faults_of
from sandbox.server import SandboxControl
from tests.builders.orders_csv import paid_order, write_orders

RESERVE = "reserve_passport_links"
RESET = "reset_stale_reservations"
DAGS = (RESERVE, RESET, "resolve_attention")

SMALL_DAG = "greet"
SMALL_DAG_FILE = """
from airflow.sdk import dag, task

@dag(schedule=None)
def greet():
    @task
    def names():
        return ["Ada", "Grace"]

    @task
    def greet_one(name):
        print("hello", name)

    greet_one.expand(name=names())

greet()
"""

CAMPAIGNS = """
campaigns:
  - {name: scarce, tag: it-scarce, products: [Scarce], stale_after: 30d}
  - {name: rare, tag: it-rare, products: [Rare], stale_after: 30d}
  - {name: everyone, tag: it-gift, products: "*", stale_after: 30d}
"""

ORDERS_BY_AGE = {
    # days ago: (orders, product)
    1: (12, ""),  # the newest day: the schedule's
    2: (5, ""),  # within the look-back of the schedule's run
    8: (4, ""),
    9: (6, ""),
    11: (6, ""),
    12: (30, ""),
    13: (30, ""),
    14: (30, ""),
    15: (4, "Scarce"),
    16: (24, ""),
    17: (4, ""),
}
SETTINGS = {
    "PASSPORT_LINKS_CALL_DEADLINE_SECONDS": "5",
    "PASSPORT_LINKS_LEASE_SECONDS": "10",
    "PASSPORT_LINKS_RETRY_DELAY_SECONDS": "2",
    "PASSPORT_LINKS_TASK_TIMEOUT_SECONDS": "600",
    "PASSPORT_LINKS_MAX_UNKNOWN_PER_RUN": "1000",
    "PASSPORT_LINKS_CONCURRENCY": "8",
}

MAIL_POLICY = """
def task_policy(task):
    wanted = {"email": ["oncall@brand.example"], "email_on_failure": True, "email_on_retry": True}
    if hasattr(task, "partial_kwargs"):
        task.partial_kwargs.update(wanted)
    else:
        for name, value in wanted.items():
            setattr(task, name, value)
"""
"""What an operator may lay over every task: Airflow's own mails about failures and retries."""


SCHEDULED_RUN = """
import sys
from datetime import datetime
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

dag_id, run_id, *interval = sys.argv[1:]
start, end = map(datetime.fromisoformat, interval)
with create_session() as session:
    SerializedDagModel.get_dag(dag_id, session=session).create_dagrun(
        run_id=run_id, logical_date=start, data_interval=(start, end), run_after=end, state=DagRunState.QUEUED,
        run_type=DagRunType.SCHEDULED, triggered_by=DagRunTriggeredByType.TIMETABLE, session=session,
    )
"""
"""Makes the run that the scheduler would make for an interval, whatever the schedule is."""


class MailServer:
    """Takes in every mail that Airflow sends."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.port = Ports.free().sandbox

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: ARG002, N802 - aiosmtpd's own
        parts = [part for part in message_from_bytes(envelope.content).walk() if not part.is_multipart()]
        self.texts += [part.get_payload(decode=True).decode() for part in parts]
        return "250 OK"

    @property
    def connection(self) -> str:
        """Airflow's connection to it."""
        extra = {"disable_ssl": True, "disable_tls": True}
        return json.dumps({"conn_type": "smtp", "host": HOST, "port": self.port, "extra": extra})


@dataclass
class Running:
    """The stack at work, with short names for what the tests look at."""

    stack: Stack
    sandbox: SandboxControl
    newest: date
    mails: list[str]
    scheduled: str = ""
    """The run id of the schedule's run, which has ended."""

    def day(self, days_ago: int) -> date:
        """The business day so many days ago; yesterday is 1."""
        return self.newest - timedelta(days=days_ago - 1)

    def ask(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the warehouse."""
        with self.stack.warehouse() as connection:
            return connection.execute(query, parameters).fetchall()

    def do(self, statement: str) -> None:
        """Change something in the warehouse."""
        with self.stack.warehouse() as connection:
            connection.execute(statement)

    def published(self, day: date) -> int:
        """How many live links are published for a day."""
        query = "select count(link) from passport.links where business_day = %s and state = 'reserved'"
        return int(self.ask(query, day)[0][0])

    def run_day(self, day: date, *, expect: str = "success", **conf: Any) -> str:
        """Run a day by hand, without a logical date, and await its end; gives the run id."""
        run_id = self.stack.api.trigger(RESERVE, {"day": day.isoformat(), **conf})
        self.await_run(run_id, expect=expect)
        return run_id

    def run_interval(self, start: datetime, end: datetime, *, expect: str = "success") -> str:
        """Run an interval as the schedule does, and await its end; gives the run id."""
        run_id = f"scheduled__{end.isoformat()}"
        command = [sys.executable, "-c", SCHEDULED_RUN, RESERVE, run_id, start.isoformat(), end.isoformat()]
        made = subprocess.run(command, env=self.stack.environment(), capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        self.await_run(run_id, expect=expect)
        return run_id

    def events(self, run_id: str) -> list[Json]:
        """What each asset event of a run says."""
        found = self.stack.api.get("/assets/events", source_dag_id=RESERVE, source_run_id=run_id)
        return [event["extra"] for event in found["asset_events"]]

    def serve_by_schedule(self) -> None:
        """Unpause the daily DAG: the latest missed interval runs at once. Await its end."""
        self.stack.api.unpause(RESERVE)
        assert wait_until(lambda: bool(self.stack.api.runs(RESERVE)), 60)
        [run] = self.stack.api.runs(RESERVE)
        self.scheduled = run["dag_run_id"]
        self.await_run(self.scheduled)

    def await_run(self, run_id: str, *, expect: str = "success") -> None:
        """Await a run's end and its expected state."""
        run = self.stack.api.wait_for_run(RESERVE, run_id, 300)
        assert run["state"] == expect, self.task_states(run_id)

    def clear(self, run_id: str) -> str:
        """Clear a whole run and await its end; gives its state."""
        self.stack.api.clear_run(RESERVE, run_id)
        assert wait_until(lambda: self.stack.api.run(RESERVE, run_id)["state"] in ("queued", "running"), 60)
        return str(self.stack.api.wait_for_run(RESERVE, run_id, 300)["state"])

    def release_held(self, day: date) -> None:
        """Decide, as a person does, that the held orders of a day are asked for again."""
        why = {"action": "release", "reason": "looked up, nothing came of it"}
        run_id = self.stack.api.trigger(
            "resolve_attention", {"kind": "held", "day": day.isoformat(), "at_most": 1000, **why}
        )
        assert self.stack.api.wait_for_run("resolve_attention", run_id, 120)["state"] == "success"

    def task_states(self, run_id: str) -> Counter[tuple[str, str]]:
        """How many task instances of a run are in which state."""
        return Counter((task["task_id"], task["state"]) for task in self.stack.api.tasks(RESERVE, run_id))

    def whole_log(self, run_id: str, task_id: str) -> str:
        """The log of a task's first try with all that the UI shows of an error."""
        return str(self.stack.api.get(f"/dags/{RESERVE}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1"))

    def calls(self, run_id: str) -> int:
        """Requests that a run sent."""
        query = "select count(*) from passport_ops.attempt where run_id = %s and outcome is distinct from 'not_sent'"
        return int(self.ask(query, run_id)[0][0])

    def given_out(self) -> int:
        """Reservations that the platform has given, since it was started."""
        return sum(1 for entry in self.sandbox.history() if entry["kind"] == "reserve" and entry["certificate_id"])

    def wasted(self) -> int:
        """Passports given out that are no order's: the price of lost answers and kills."""
        orders = self.ask("select count(*) from passport_ops.passport where state in ('assigned', 'claimed')")[0][0]
        return self.given_out() - int(orders)


@pytest.fixture(scope="session")
def newest() -> date:
    """The newest business day that has ended."""
    return last_ended_day(datetime.now(UTC), Settings().timezone)


@pytest.fixture(scope="session")
def mails() -> Iterator[MailServer]:
    """The server that takes in Airflow's mails."""
    mails = MailServer()
    controller = Controller(mails, HOST, mails.port)
    controller.start()
    yield mails
    controller.stop()


@contextmanager
def started_stack(folder: Path, mails: MailServer, orders: list[SourceOrder]) -> Iterator[Stack]:
    """Start a stack in a folder: orders loaded, statements logged, the daily DAG paused; with one small DAG besides."""
    (folder / "campaigns.yaml").write_text(CAMPAIGNS)
    write_orders(folder / "orders.csv", orders)
    (folder / "dags").mkdir()
    for file in (PROJECT / "dags").glob("*.py"):
        (folder / "dags" / file.name).symlink_to(file)
    (folder / "dags" / f"{SMALL_DAG}.py").write_text(SMALL_DAG_FILE)
    policies = folder / "state" / "airflow" / "config" / "airflow_local_settings.py"
    policies.parent.mkdir(parents=True)
    policies.write_text(MAIL_POLICY)
    environment = {
        **SETTINGS,
        "PASSPORT_LINKS_CAMPAIGNS_FILE": str(folder / "campaigns.yaml"),
        "AIRFLOW_CONN_SMTP_DEFAULT": mails.connection,
    }

    def prepare(stack: Stack) -> None:
        migrate(stack.warehouse)
        with stack.orders_db() as shop:
            load_csv(shop, folder / "orders.csv")

    with Stack(
        folder / "state",
        environment=environment,
        postgres_settings={"log_statement": "all"},
        dags_folder=folder / "dags",
    ) as stack:
        stack.start(prepare)
        stack.api.wait_for_dags([*DAGS, SMALL_DAG])
        for dag in (*DAGS[1:], SMALL_DAG):
            stack.api.unpause(dag)
        yield stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, mails: MailServer, newest: date) -> Iterator[Stack]:
    """The stack that the tests share, with the orders of all their days."""
    with started_stack(tmp_path_factory.mktemp("integration"), mails, orders_of_all_days(newest)) as stack:
        yield stack


@pytest.fixture(scope="session")
def running(stack: Stack, mails: MailServer, newest: date) -> Running:
    """The stack at work: the schedule's run of the newest day is done."""
    sandbox = SandboxControl(stack.sandbox_url)
    sandbox.create_pool("it-scarce", 2)
    running = Running(stack, sandbox, newest, mails.texts)
    running.serve_by_schedule()
    return running


@dataclass(frozen=True)
class FailedRun:
    """A run that failed, was cleared and then served its day: what it showed when it failed, and the faults it met."""

    run_id: str
    day: date
    tasks: list[Json]
    log: str
    calls: int
    published: int
    faults: Counter[str]

    def count(self, task_id: str, state: str) -> int:
        """How many instances of a task were in a state when the run failed."""
        return sum(1 for task in self.tasks if (task["task_id"], task["state"]) == (task_id, state))


def fail_and_serve(
    running: Running, day: date, faults: list[Json], repair: Callable[[], Any] = lambda: None, rounds: int = 1
) -> FailedRun:
    """Run a day that meets ``faults`` and fails; then repair and clear the run until it succeeds."""
    before = Counter(running.sandbox.counters()["faults"])
    for fault in faults:
        running.sandbox.queue_fault(**fault)
    run_id = running.run_day(day, expect="failed")
    tasks, log = running.stack.api.tasks(RESERVE, run_id), running.whole_log(run_id, "check_run")
    calls, published = running.calls(run_id), running.published(day)
    for _ in range(rounds):
        repair()
        if running.clear(run_id) == "success":
            met = Counter(running.sandbox.counters()["faults"]) - before
            return FailedRun(run_id, day, tasks, log, calls, published, met)
    pytest.fail(f"run {run_id} still fails after {rounds} clears: {running.task_states(run_id)}")


@pytest.fixture(scope="session")
def out_of_stock(running: Running) -> FailedRun:
    """A day of four orders with two passports in their pool; the repair is a larger pool."""
    return fail_and_serve(running, running.day(15), [], lambda: running.sandbox.create_pool("it-scarce", 10))


@pytest.fixture(scope="session")
def redirected(running: Running) -> FailedRun:
    """A day of six orders; its first call consumes a passport and is redirected, which stops the run."""
    return fail_and_serve(running, running.day(11), [{"fault": "redirect", "commit": True}])


@pytest.fixture(scope="session")
def under_every_fault(running: Running) -> FailedRun:
    """A day of 24 orders whose first calls meet every fault of that call; the repair is to release the held orders."""
    day = running.day(16)
    faults = [{"fault": fault.value} for fault in faults_of(CallKind.RESERVE)]
    return fail_and_serve(running, day, faults, lambda: running.release_held(day), rounds=6)


def orders_of_all_days(newest: date) -> Iterator[SourceOrder]:
    """The orders of ``ORDERS_BY_AGE``; the newest business day has age 1."""
    for age, (orders, product) in ORDERS_BY_AGE.items():
        day = newest - timedelta(days=age - 1)
        for number in range(orders):
            paid_at = datetime(day.year, day.month, day.day, 9, number, tzinfo=UTC)
            yield paid_order(f"{day}-{number:02}", paid_at, product=product, customer_id=f"customer-{number}")
