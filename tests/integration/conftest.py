"""One real Airflow, PostgreSQL and sandbox for all integration tests; every test has business days of its own."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
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
from local.processes import wait_until
from local.source_table import load_csv
from local.stack import HOST, Ports, Stack
from sandbox.server import SandboxControl

RESERVE = "reserve_passport_links"
DAGS = (RESERVE, "reset_stale_reservations", "resolve_attention")

CAMPAIGNS = """
campaigns:
  - {name: scarce, tag: it-scarce, products: [Scarce], stale_after: 30d}
  - {name: everyone, tag: it-gift, products: "*", stale_after: 30d}
"""

ORDERS_BY_AGE = {
    # days ago: (orders, product)
    1: (12, ""),  # the newest day: the schedule's
    2: (5, ""),  # within the look-back of the schedule's run
    8: (4, ""),
    9: (6, ""),
    10: (3, ""),
    11: (6, ""),
    12: (30, ""),
    13: (30, ""),
    14: (30, ""),
    15: (4, "Scarce"),
    16: (24, ""),
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

    def day(self, days_ago: int) -> date:
        """The business day so many days ago; yesterday is 1."""
        return self.newest - timedelta(days=days_ago - 1)

    def ask(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the warehouse."""
        with self.stack.warehouse() as connection:
            return connection.execute(query, parameters).fetchall()

    def published(self, day: date) -> int:
        """How many live links are published for a day."""
        query = "select count(link) from passport.links where business_day = %s and state = 'reserved'"
        return int(self.ask(query, day)[0][0])

    def run_day(self, day: date, *, expect: str = "success", **conf: Any) -> str:
        """Runs a day by hand, without a logical date, and awaits its end; gives the run id."""
        run_id = self.stack.api.trigger(RESERVE, {"day": day.isoformat(), **conf})
        self.await_run(run_id, expect=expect)
        return run_id

    def await_run(self, run_id: str, *, expect: str = "success") -> None:
        """Awaits a run's end and its expected state."""
        run = self.stack.api.wait_for_run(RESERVE, run_id, 300)
        assert run["state"] == expect, self.task_states(run_id)

    def await_restart(self, run_id: str) -> None:
        """Awaits that a cleared run is under way again."""
        assert wait_until(lambda: self.stack.api.run(RESERVE, run_id)["state"] in ("queued", "running"), 60)

    def release(self, order_key: str) -> None:
        """Decides, as a person does, that a held order is to be asked for again."""
        conf = {"order_key": order_key, "action": "release", "reason": "looked up, nothing came of it"}
        run_id = self.stack.api.trigger("resolve_attention", conf)
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
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The stack with the DAGs parsed and paused, orders loaded and statement logging on."""
    folder = tmp_path_factory.mktemp("integration")
    (folder / "campaigns.yaml").write_text(CAMPAIGNS)
    newest = last_ended_day(datetime.now(UTC), Settings().timezone)
    _write_orders(folder / "orders.csv", newest)

    def prepare(stack: Stack) -> None:
        migrate(stack.warehouse)
        with stack.orders_db() as orders:
            load_csv(orders, folder / "orders.csv")

    mails = MailServer()
    environment = {
        **SETTINGS,
        "PASSPORT_LINKS_CAMPAIGNS_FILE": str(folder / "campaigns.yaml"),
        "AIRFLOW_CONN_SMTP_DEFAULT": mails.connection,
    }
    policies = folder / "state" / "airflow" / "config" / "airflow_local_settings.py"
    policies.parent.mkdir(parents=True)
    policies.write_text(MAIL_POLICY)
    mail_server = Controller(mails, HOST, mails.port)
    mail_server.start()
    with (
        ending(mail_server),
        Stack(folder / "state", environment=environment, postgres_settings={"log_statement": "all"}) as stack,
    ):
        stack.start(prepare)
        stack.api.wait_for_dags(DAGS)
        sandbox = SandboxControl(stack.sandbox_url)
        sandbox.create_pool("it-scarce", 2)
        for dag in DAGS[1:]:
            stack.api.unpause(dag)
        yield Running(stack, sandbox, newest, mails.texts)


@contextmanager
def ending(server: Controller) -> Iterator[None]:
    """Stops the mail server at the end of the block."""
    try:
        yield
    finally:
        server.stop()


def _write_orders(path: Path, newest: date) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["order_id", "customer_id", "product", "status", "ordered_at", "paid_at"])
        for age, (orders, product) in ORDERS_BY_AGE.items():
            day = newest - timedelta(days=age - 1)
            for number in range(orders):
                paid = datetime(day.year, day.month, day.day, 9, number, tzinfo=UTC).isoformat()
                rows.writerow([f"{day}-{number:02}", f"customer-{number}", product, "paid", paid, paid])
