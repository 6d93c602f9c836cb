"""One chaos run: a real stack, its runs, what is done to it, and its end."""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import requests

from include.business_day import last_ended_day
from include.ledger.states import ReservationState
from include.settings import Settings
from include.warehouse.migrate import migrate
from local.processes import LocalStackError, wait_until
from local.source_table import SourceOrder, load_csv
from local.stack import Ports, Stack
from sandbox.calls import ActOutcome
from sandbox.checker import check
from sandbox.errors import SandboxError
from sandbox.server import SandboxControl
from tests.builders.orders_csv import paid_order, write_orders
from tests.canaries import leaks
from tests.chaos.commits import CommitWatch
from tests.chaos.strikes import FAULTS, LATENCY_MILLISECONDS, Striker, planned_strikes
from tests.chaos.verdict import ChaosRecord, Verdict, judge
from tests.silent_proxy import SilentProxy

RESERVE, RESET = "reserve_passport_links", "reset_stale_reservations"
DAGS = (RESERVE, RESET, "resolve_attention")
SETTLING_ROUNDS = 12
LIVENESS_SECONDS = 120.0  # longer than a freeze
SECONDS_PER_STRIKE = 12.0
LONGEST_BETWEEN_STRIKES = 60.0  # seconds; sooner when enough calls were made
MOST_CLAIMS_AT_ONCE = 3
ENVIRONMENT = {
    "PASSPORT_LINKS_CALL_DEADLINE_SECONDS": "3",
    "PASSPORT_LINKS_LEASE_SECONDS": "6",
    "PASSPORT_LINKS_RETRY_DELAY_SECONDS": "2",
    "PASSPORT_LINKS_TASK_TIMEOUT_SECONDS": "900",
    "PASSPORT_LINKS_MAX_TASKS": "3",
    "PASSPORT_LINKS_MAX_UNKNOWN_PER_RUN": "10000",
    "PASSPORT_LINKS_MAX_CALLS_PER_ORDER": "4",
    # Airflow notices the dead sooner than by default
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "4",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
}


@dataclass(frozen=True)
class Plan:
    """What a chaos run was asked for."""

    seed: int
    orders: int
    strikes: int

    @property
    def one_by_one(self) -> int:
        """Orders that get a task each."""
        return max(self.orders // 20, 5)

    @property
    def total(self) -> int:
        """All orders."""
        return self.orders + self.one_by_one

    @property
    def concurrency(self) -> int:
        """Calls under way at once: so few that the orders last for all strikes."""
        per_second = self.orders / (SECONDS_PER_STRIKE * self.strikes)
        return max(2, min(32, round(per_second * sum(LATENCY_MILLISECONDS) / 2 / 1000)))


@dataclass
class Chaos:
    """One chaos run on a started stack."""

    plan: Plan
    stack: Stack
    proxy: SilentProxy
    newest: date
    say: Callable[[str], None]
    runs: list[str] = field(default_factory=list)
    clears: int = 0
    claims: int = 0
    _calls: int = 0
    _healthy_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.plan.seed)
        self.striker = Striker(self.stack, self.proxy, self.chance)
        self.watch = CommitWatch(self.stack, self.proxy.port)
        self.sandbox = SandboxControl(self.stack.sandbox_url)

    @property
    def sliced_day(self) -> date:
        """The day of the many orders; the schedule's look-back reaches it."""
        return self.newest - timedelta(days=1)

    @property
    def small_day(self) -> date:
        """The day of the orders with a task each."""
        return self.newest - timedelta(days=2)

    # ---- faults, strikes, clears and claims --------------------------------------------------------------------------

    def run_with_faults(self) -> None:
        """Start the runs, then strike, clear, backfill and claim until the strikes are spent."""
        self.sandbox.set_switches(latency_ms=LATENCY_MILLISECONDS)
        self.sandbox.set_faults(FAULTS)
        for dag in DAGS:
            self.stack.api.unpause(dag)
        self._start_runs()
        count = self.plan.strikes
        backfills = {count // 3, 2 * count // 3}
        for number, planned in enumerate(planned_strikes(self.plan.seed, count), 1):
            self._await_calls()
            strike = self.striker.strike(planned)
            self.stack.revive()
            self.say(f"strike {number} of {count}: {strike}; {self._progress()}")
            if number in backfills:
                self._try(self._backfill)
            if self.chance.random() < 0.1:
                self._try(lambda: self._clear(self.chance.choice(self.runs)))
            self._try(self._claim_some)

    def _start_runs(self) -> None:
        """Start the day of the many orders twice by hand; the schedule has started its own run."""
        for _ in range(2):
            conf = {"day": self.sliced_day.isoformat(), "per_order_limit": 0}
            self.runs.append(self.stack.api.trigger(RESERVE, conf))
        self.runs.append(self.stack.api.trigger(RESERVE, {"day": self.small_day.isoformat()}))

    def _await_calls(self) -> None:
        """Let some more calls begin before the next strike, and wait until some are under way."""
        most = max(1, 3 * self.plan.orders // (2 * self.plan.strikes))
        enough = self._count_calls() + self.chance.randint(1, most)
        wait_until(lambda: self._has_come_to(enough), LONGEST_BETWEEN_STRIKES, poll=1)
        self.stack.postgres.wait_ready(60)
        wait_until(self._is_calling, 10)

    def _has_come_to(self, calls: int) -> bool:
        """Whether there were so many calls, or no order waits; runs that failed meanwhile are cleared to go on."""
        self._try(self._clear_failed)
        self._is_healthy()
        return self._count_calls() >= calls or self._all_are_served()

    def _look_after(self) -> None:
        """Start what has ended by itself, as a scheduler may long after its database was away, or does nothing."""
        self.stack.revive()
        self._is_healthy()

    def _is_healthy(self) -> bool:
        """Whether the scheduler and the triggerer are; restart one that was not for long, as a liveness probe would.

        A scheduler that lost its database ends only after its workers have, and waits for them without a limit.
        """
        moment = time.monotonic()
        if not self.stack.api.is_healthy():
            self._healthy_at.clear()
            return False
        for part in (self.stack.scheduler, self.stack.triggerer):
            if self.stack.api.is_healthy(part.name):
                self._healthy_at[part.name] = moment
            elif moment - self._healthy_at.setdefault(part.name, moment) > LIVENESS_SECONDS:
                self.say(f"the {part.name} is restarted: it was not healthy for {LIVENESS_SECONDS:g} s")
                del self._healthy_at[part.name]
                part.kill()
                part.start()
        return all(self._healthy_at.get(part.name) == moment for part in (self.stack.scheduler, self.stack.triggerer))

    def _all_are_served(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            return (
                self.ask("select count(*) from passport_ops.reservation") == [(self.plan.total,)]
                and not self.unserved()
            )
        return False

    def _is_calling(self) -> bool:
        query = "select count(*) from passport_ops.attempt where outcome is null and lease_until > clock_timestamp()"
        return bool(self.ask(query)[0][0])

    def _backfill(self) -> None:
        first, last = f"{self.small_day}T00:00:00Z", f"{self.sliced_day}T23:59:59Z"
        self.stack.api.backfill(RESERVE, first, last, reprocess="completed")
        self.say("a backfill of all runs begins")

    def _clear_failed(self) -> None:
        for run in self.stack.api.runs(RESERVE, state=["failed"]):
            self._clear(run["dag_run_id"], only_failed=self.chance.random() < 0.5)

    def _clear(self, run_id: str, *, only_failed: bool = False) -> None:
        self.stack.api.clear_run(RESERVE, run_id, only_failed=only_failed)
        self.clears += 1

    def _claim_some(self) -> None:
        """Claim a few of the links that were published, as customers do."""
        query = "select link from passport.links where state = 'reserved' order by order_key"
        links = [str(row[0]) for row in self.ask(query)]
        for link in self.chance.sample(links, k=min(len(links), MOST_CLAIMS_AT_ONCE)):
            self.claims += self.sandbox.claim(link) is ActOutcome.DONE

    # ---- the end -----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """End faults and freezes, clear the runs until every order is served, and publish what was claimed."""
        self.stack.postgres.wait_ready(60)
        self.striker.thaw()
        self.stack.revive()
        assert wait_until(self._sandbox_answers, 60)
        self.sandbox.clear_faults()
        self.sandbox.set_switches(latency_ms=0)
        self.say(f"faults stop; {self._progress()}")
        assert wait_until(self.stack.api.is_healthy, 120)
        wait_until(self._is_healthy, 3 * LIVENESS_SECONDS, poll=1)
        self.stack.wait_healthy()
        for _ in range(SETTLING_ROUNDS):
            for run in self.stack.api.runs(RESERVE):
                self._await_run(RESERVE, run["dag_run_id"])
            if not self.unserved():
                break
            self.say(self._progress())
            for run_id in self.runs:
                self._try(lambda run_id=run_id: self._clear(run_id))  # type: ignore[misc]
        last = self.stack.api.trigger(RESERVE, {"day": self.sliced_day.isoformat()})
        self._await_run(RESERVE, last)
        self._await_run(RESET, f"after__{last}")

    def record(self) -> ChaosRecord:
        """What was done to the stack."""
        return ChaosRecord(
            seed=self.plan.seed,
            orders=self.plan.total,
            strikes=self.striker.strikes,
            faults=Counter(self.sandbox.counters()["faults"]),
            claims=self.claims,
            clears=self.clears,
            longest_gap=self.watch.gaps.longest,
        )

    def unserved(self) -> int:
        """Orders that are not where they should end."""
        ended = [ReservationState.RESERVED.value, ReservationState.CLAIMED.value, ReservationState.HELD.value]
        return int(
            str(self.ask("select count(*) from passport_ops.reservation where not state = any(%s)", ended)[0][0])
        )

    def ask(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        """Rows of the warehouse."""
        with self.stack.warehouse() as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def _await_run(self, dag: str, run_id: str) -> None:
        self.stack.api.wait_for_run(dag, run_id, 1200, meanwhile=self._look_after)

    def _count_calls(self) -> int:
        """How many intents there have been; as many as before while the database is down."""
        with contextlib.suppress(psycopg.OperationalError):
            self._calls = int(str(self.ask("select count(*) from passport_ops.attempt")[0][0]))
        return self._calls

    def _progress(self) -> str:
        with contextlib.suppress(psycopg.OperationalError):
            return f"{self._count_calls()} calls, {self.unserved()} of {self.plan.total} orders wait for a link"
        return "the warehouse is down"

    def _sandbox_answers(self) -> bool:
        try:
            return bool(self.sandbox.health())
        except SandboxError:
            return False

    @staticmethod
    def _try(act: Callable[[], None]) -> None:
        """Act, or leave it for the next time when a part that it needs was just killed."""
        with contextlib.suppress(requests.RequestException, psycopg.OperationalError, LocalStackError, SandboxError):
            act()


def run(plan: Plan, folder: Path, say: Callable[[str], None], *, log_statements: bool = True) -> Verdict:
    """One chaos run with its state in ``folder``. PostgreSQL logs every statement, so that the search sees them."""
    newest = last_ended_day(datetime.now(UTC), Settings().timezone)
    write_orders(folder / "orders.csv", orders_of_both_days(plan, newest))

    def prepare(stack: Stack) -> None:
        migrate(stack.warehouse)
        with stack.orders_db() as orders:
            load_csv(orders, folder / "orders.csv")

    ports = Ports.free()
    with (
        SilentProxy(ports.postgres) as proxy,
        Stack(
            folder / "state",
            ports,
            environment={**ENVIRONMENT, "PASSPORT_LINKS_CONCURRENCY": str(plan.concurrency)},
            postgres_settings={"log_statement": "all"} if log_statements else None,
            sandbox_arguments=("--seed", str(plan.seed)),
            warehouse_port=proxy.port,
        ) as stack,
    ):
        stack.start(prepare, say)
        stack.api.wait_for_dags(DAGS)
        chaos = Chaos(plan, stack, proxy, newest, say)
        with chaos.watch:
            chaos.run_with_faults()
            chaos.settle()
        say("the checker reads the history and the ledger")
        report = check(stack.warehouse, chaos.sandbox.history())
        say("every file, database and answer is searched for secrets")
        return judge(stack.warehouse, chaos.record(), report, leaks(stack))


def orders_of_both_days(plan: Plan, newest: date) -> Iterator[SourceOrder]:
    """The orders of the two days before the newest."""
    for age, orders in ((1, plan.orders), (2, plan.one_by_one)):
        day = newest - timedelta(days=age)
        for number in range(orders):
            paid_at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=number)
            yield paid_order(f"{day}-{number:06}", paid_at, customer_id=f"customer-{number}")
