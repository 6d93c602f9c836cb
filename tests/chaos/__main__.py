"""``make chaos SEED=… ORDERS=… KILLS=…``: one run under fire, then the checker's verdict in one line.

``ORDERS`` are served in slices and a twentieth as many one task each, by several runs at once: by hand (twice), by
the schedule, and by a backfill that is told to redo all runs. The NMP answers with a mix of faults, and processes are
killed with SIGKILL. At the end faults stop, the runs are cleared until every order is served, and the checker decides.
"""

import argparse
import contextlib
import csv
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import requests

from include.business_day import last_ended_day
from include.checker import Report, check
from include.local.airflow_api import ENDED
from include.local.processes import LocalStackError, wait_until
from include.local.source_table import load_csv
from include.local.stack import Ports, Stack
from include.sandbox.errors import SandboxError
from include.sandbox.server import SandboxControl
from include.settings import Settings
from include.states import ReservationState
from include.warehouse import migrate
from tests.canaries import leaks
from tests.chaos.turmoil import AMBIGUOUS, FAULTS, Killer

RESERVE = "reserve_passport_links"
DAGS = (RESERVE, "reset_stale_reservations", "resolve_attention")
SETTLING_ROUNDS = 12
LONGEST_BETWEEN_KILLS = 60.0  # seconds; sooner when enough calls were made
ENVIRONMENT = {
    "PASSPORT_LINKS_CALL_DEADLINE_SECONDS": "3",
    "PASSPORT_LINKS_LEASE_SECONDS": "6",
    "PASSPORT_LINKS_RETRY_DELAY_SECONDS": "2",
    "PASSPORT_LINKS_TASK_TIMEOUT_SECONDS": "900",
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
    kills: int

    @property
    def one_by_one(self) -> int:
        """Orders that get a task each."""
        return max(self.orders // 20, 5)


@dataclass
class Chaos:
    """One chaos run on a started stack."""

    plan: Plan
    stack: Stack
    sandbox: SandboxControl
    newest: date
    say: Callable[[str], None]
    runs: list[str] = field(default_factory=list)
    clears: int = 0
    _calls: int = 0

    @property
    def sliced_day(self) -> date:
        """The day of the many orders; the schedule's look-back reaches it."""
        return self.newest - timedelta(days=1)

    @property
    def small_day(self) -> date:
        """The day of the orders with a task each."""
        return self.newest - timedelta(days=2)

    def rage(self) -> Killer:
        """Starts the runs, then kills, clears and backfills until the kills are spent."""
        chance = random.Random(self.plan.seed)
        killer = Killer(self.stack, chance, self.say)
        self.sandbox.set_faults(FAULTS)
        for dag in DAGS:
            self.stack.api.unpause(dag)
        self._start_runs()
        backfills = {self.plan.kills // 3, 2 * self.plan.kills // 3}
        while len(killer.kills) < self.plan.kills:
            self._await_calls(chance)
            killer.strike()
            self.stack.revive()
            if len(killer.kills) in backfills:
                self._try(self._backfill)
            if chance.random() < 0.1:
                self._try(lambda: self._clear(chance.choice(self.runs)))
        return killer

    def settle(self) -> None:
        """Faults stop; the runs are cleared until every order is served."""
        self._await_database()
        self.stack.revive()
        assert wait_until(self._sandbox_answers, 60)
        self.sandbox.clear_faults()
        self.say("faults stop")
        assert wait_until(self.stack.api.is_healthy, 120)
        self.stack.wait_healthy()
        for _ in range(SETTLING_ROUNDS):
            self._await_runs()
            self.stack.revive()
            waiting = self.unserved()
            self.say(f"{waiting} orders wait for a link")
            if not waiting:
                break
            for run_id in self.runs:
                self._try(lambda run_id=run_id: self._clear(run_id))  # type: ignore[misc]
        self._await_runs()
        # publishes what the last runs left
        self._await_run(self.stack.api.trigger(RESERVE, {"day": self.sliced_day.isoformat()}))

    def unserved(self) -> int:
        """Orders that are not where they should end."""
        ended = [ReservationState.RESERVED.value, ReservationState.HELD.value]
        return int(self.ask("select count(*) from passport_ops.reservation where not state = any(%s)", ended)[0][0])

    def ask(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        """Rows of the warehouse."""
        with psycopg.connect(self.stack.warehouse_uri) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def _start_runs(self) -> None:
        for _ in range(2):
            conf = {"day": self.sliced_day.isoformat(), "per_order_limit": 0, "max_tasks": 6}
            self.runs.append(self.stack.api.trigger(RESERVE, conf))
        self.runs.append(self.stack.api.trigger(RESERVE, {"day": self.small_day.isoformat()}))

    def _backfill(self) -> None:
        first, last = f"{self.small_day}T00:00:00Z", f"{self.sliced_day}T23:59:59Z"
        self.stack.api.backfill(RESERVE, first, last, reprocess="completed")
        self.say("a backfill of all runs begins")

    def _clear_ended(self) -> None:
        if not self.unserved():
            return
        for run in self.stack.api.runs(RESERVE):
            if run["state"] in ENDED:
                self._clear(run["dag_run_id"])

    def _clear(self, run_id: str) -> None:
        self.stack.api.clear_run(RESERVE, run_id)
        self.clears += 1

    def _await_runs(self) -> None:
        for run in self.stack.api.runs(RESERVE):
            self._await_run(run["dag_run_id"])

    def _await_run(self, run_id: str) -> None:
        # a scheduler may end by itself long after its database was away
        self.stack.api.wait_for_run(RESERVE, run_id, 1200, meanwhile=lambda: self.stack.revive() and None)

    def _await_calls(self, chance: random.Random) -> None:
        """Lets some more calls begin before the next kill, so that it meets the work in full swing."""
        enough = self.calls() + chance.randint(1, 2 * self.plan.orders // self.plan.kills)
        wait_until(lambda: self._has_come_to(enough), LONGEST_BETWEEN_KILLS, poll=0.5)
        self._await_database()

    def _has_come_to(self, calls: int) -> bool:
        """Whether there were so many calls; runs that have ended meanwhile are cleared to go on."""
        self._try(self._clear_ended)
        return self.calls() >= calls

    def calls(self) -> int:
        """How many intents there have been; as many as before while the database is down."""
        with contextlib.suppress(psycopg.OperationalError):
            self._calls = int(str(self.ask("select count(*) from passport_ops.attempt")[0][0]))
        return self._calls

    def _await_database(self) -> None:
        self.stack.postgres.wait_ready(60)

    def _sandbox_answers(self) -> bool:
        try:
            return bool(self.sandbox.health())
        except SandboxError:
            return False

    @staticmethod
    def _try(act: Callable[[], None]) -> None:
        """What needs a part that was just killed is left for the next time."""
        try:
            act()
        except (requests.RequestException, psycopg.OperationalError, LocalStackError):
            return


def judge(chaos: Chaos, killer: Killer, report: Report, leaked: list[str]) -> tuple[bool, str]:
    """Whether the run passed, and the verdict in one line."""
    total = chaos.plan.orders + chaos.plan.one_by_one
    [[links]] = chaos.ask("select count(link) from passport.links where state = 'reserved'")
    [[attention]] = chaos.ask(
        """
        select count(distinct needy.order_key)
        from passport.needs_attention as needy
        left join passport.links as had on needy.order_key = had.order_key and had.state = 'reserved'
        where needy.order_key is not null and needy.reason is not null and had.order_key is null
        """
    )
    [[unknown]] = chaos.ask("select count(*) from passport_ops.attempt where outcome = 'unknown' or outcome is null")
    [[calls]] = chaos.ask("select count(*) from passport_ops.attempt where outcome is distinct from 'not_sent'")
    faults = Counter(chaos.sandbox.counters()["faults"])
    ambiguous = sum(faults[fault.value] for fault in AMBIGUOUS)
    bound = ambiguous + killer.calls_at_kills
    numbers = [int(str(number)) for number in (links, attention, unknown, calls)]
    served = numbers[0] + numbers[1] >= total and numbers[1] <= total * 0.005
    good = not report.violations and not leaked and served and numbers[2] <= bound
    kinds = ", ".join(f"{count} {victim}" for victim, count in sorted(Counter(killer.kills).items()))
    verdict = (
        f"chaos seed={chaos.plan.seed}: {'HELD' if good else 'BROKEN'}: {numbers[0]} of {total} orders have a link, "
        f"{numbers[1]} need attention, {len(report.violations)} violations, {len(leaked)} leaks; {numbers[3]} calls, "
        f"{sum(faults.values())} faults, {numbers[2]} of unknown outcome (at most {bound}); "
        f"{len(killer.kills)} kills ({kinds}), {chaos.clears} clears"
    )
    return good, verdict


def write_orders(path: Path, plan: Plan, newest: date) -> None:
    """The orders of the two days, as a shop's CSV."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["order_id", "customer_id", "product", "status", "ordered_at", "paid_at"])
        for age, orders in ((1, plan.orders), (2, plan.one_by_one)):
            day = newest - timedelta(days=age)
            for number in range(orders):
                paid = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=number)
                rows.writerow([f"{day}-{number:06}", f"c{number}", "", "paid", paid.isoformat(), paid.isoformat()])


def run(plan: Plan, folder: Path, say: Callable[[str], None]) -> tuple[bool, str]:
    """One chaos run with its state in ``folder``; whether the promises held, and the verdict."""
    newest = last_ended_day(datetime.now(UTC), Settings().timezone)
    write_orders(folder / "orders.csv", plan, newest)

    def prepare(stack: Stack) -> None:
        migrate(stack.warehouse_uri)
        with psycopg.connect(stack.orders_uri) as orders:
            load_csv(orders, folder / "orders.csv")

    arguments = ("--seed", str(plan.seed))
    with Stack(folder / "state", Ports.free(), environment=ENVIRONMENT, sandbox_arguments=arguments) as stack:
        stack.start(prepare, say)
        stack.api.wait_for_dags(DAGS)
        chaos = Chaos(plan, stack, SandboxControl(stack.sandbox_url), newest, say)
        killer = chaos.rage()
        chaos.settle()
        report = check(stack.warehouse_uri, chaos.sandbox.history())
        for violation in report.violations:
            say(str(violation))
        leaked = leaks(stack)
        for place in leaked:
            say(f"a secret stands in {place}")
        return judge(chaos, killer, report, leaked)


def main() -> int:
    """Reads the arguments, runs, prints the verdict last; 0 only when every promise held."""
    parser = argparse.ArgumentParser(prog="make chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--state", type=Path, help="where to keep the state; default: a folder that is deleted")
    given = parser.parse_args()
    began = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {words}", flush=True)

    with tempfile.TemporaryDirectory(prefix="passport-links-chaos-") as temporary:
        folder = given.state or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            good, verdict = run(Plan(given.seed, given.orders, given.kills), folder, say)
        except (LocalStackError, SandboxError) as error:
            say(str(error))
            return 2
    say(verdict)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
