"""How long a process that could serve orders went without any commit in the ledger: measured while a chaos run goes on.

The promise: while one and the same process has orders to serve and could serve them, somebody commits an intent or an
answer at least every 15 seconds. A process *could* while all of this is true of it:

* Airflow says that its task runs (a slice in a worker), or that its triggers wait (single orders in the triggerer);
* it lives, is not frozen, and has, or had within 5 seconds, a connection to the warehouse, also one that was cut;
* the run start has not stopped, and an order of the task is ``pending``, ``calling`` or ``unknown`` and was not called
  for so often that its budget may be used up.

So the time in which Airflow notices a dead process, and starts a task again, does not count. While PostgreSQL is down
nothing counts.
"""

import contextlib
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psutil
import psycopg

from include.outcomes import MEANINGS
from include.warehouse.database import Connect, SafeDatabaseError, connecting_to
from local.stack import AIRFLOW_DATABASE, WAREHOUSE_DATABASE, Stack
from tests.chaos.strikes import is_frozen, triggerer, warehouse_ports

MOST_SECONDS = 15.0
SAMPLE_SECONDS = 0.5
USE_BUDGET = [outcome.value for outcome, meaning in MEANINGS.items() if meaning.uses_budget]
RECONNECT_SECONDS = 5.0  # longer than an engine waits before it connects again

COMMITS = """
select
    (select count(*) from passport_ops.attempt),
    (select count(*) from passport_ops.attempt where outcome is not null),
    (select count(*) from passport_ops.answer)
"""

TASKS = """
select task.run_id, run.start_date, task.map_index, case when task.state = 'running' then task.pid end
from task_instance as task
inner join dag_run as run on task.dag_id = run.dag_id and task.run_id = run.run_id
where
    task.dag_id = 'reserve_passport_links'
    and task.task_id = 'reserve'
    and task.state in ('running', 'deferred')
    and run.state = 'running'
"""
"""Tasks that serve orders now: in the process ``pid``, or without one in the triggerer."""

WITH_WORK = """
select distinct task.pid
from unnest(%(runs)s::text[], %(starts)s::timestamptz[], %(indexes)s::integer[], %(pids)s::integer[])
    as task (run_id, run_started_at, map_index, pid)
inner join passport_ops.run as planned on task.run_id = planned.run_id and planned.sliced = (task.pid is not null)
inner join passport_ops.run_order as part on task.run_id = part.run_id and task.map_index = part.task_index
inner join passport_ops.reservation as known on part.order_key = known.order_key
where
    known.state in ('pending', 'calling', 'unknown')
    and not exists (
        select from passport_ops.run_attempt as started
        where
            started.run_id = task.run_id
            and started.run_started_at = task.run_started_at
            and started.stopped_at is not null
    )
    and planned.max_calls_per_order > (
        select count(*) from passport_ops.attempt as call
        where call.order_key = known.order_key and call.outcome = any(%(use_budget)s)
    )
"""


@dataclass(frozen=True)
class Gap:
    """A time without a commit: how long, whose it was, and when it was last seen (time zone aware)."""

    seconds: float = 0.0
    process: str = "no process"
    until: datetime | None = None

    def __str__(self) -> str:
        until = f" until {self.until:%H:%M:%S} UTC" if self.until else ""
        return f"nobody committed for {self.seconds:.1f} s{until}, while {self.process} had orders to serve"


@dataclass
class Gaps:
    """The longest gap so far, from what is seen of the ledger's commits and of the processes that could commit."""

    longest: Gap = field(default_factory=Gap)
    _commits: object = None
    _committed_at: float = 0.0
    _able_since: dict[str, float] = field(default_factory=dict)

    def see(self, moment: float, commits: object, able: Collection[str]) -> None:
        """Take in one look at ``moment`` (seconds): what tells commits apart, and the processes that could commit."""
        if commits != self._commits:
            self._commits, self._committed_at = commits, moment
        self._able_since = {process: self._able_since.get(process, moment) for process in able}
        for process, since in self._able_since.items():
            seconds = moment - max(since, self._committed_at)
            if seconds > self.longest.seconds:
                self.longest = Gap(seconds, process, datetime.now(UTC))

    def see_nothing(self) -> None:
        """Take in that the database is down: nobody could commit."""
        self._able_since = {}


@dataclass
class CommitWatch:
    """Looks twice a second, in a thread, on connections that do not pass the proxy. A context manager."""

    stack: Stack
    proxy_port: int
    gaps: Gaps = field(default_factory=Gaps)
    _ends: threading.Event = field(default_factory=threading.Event)
    _connected: dict[psutil.Process, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._warehouse = _Lasting(connecting_to(self.stack.postgres.uri(WAREHOUSE_DATABASE)))
        self._airflow = _Lasting(connecting_to(self.stack.postgres.uri(AIRFLOW_DATABASE)))
        self._thread = threading.Thread(target=self._watch, name="commit-watch", daemon=True)

    def __enter__(self) -> "CommitWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        self._warehouse.close()
        self._airflow.close()

    def _watch(self) -> None:
        while not self._ends.wait(SAMPLE_SECONDS):
            try:
                commits = self._warehouse.ask(COMMITS)
                able = self._able()
            except (psycopg.Error, SafeDatabaseError):
                self.gaps.see_nothing()
            else:
                self.gaps.see(time.monotonic(), commits, able)

    def _able(self) -> list[str]:
        """Name the processes that have orders to serve and could serve them."""
        tasks = self._airflow.ask(TASKS)
        if not tasks:
            return []
        runs, starts, indexes, pids = (list(column) for column in zip(*tasks, strict=True))
        parameters = {"runs": runs, "starts": starts, "indexes": indexes, "pids": pids, "use_budget": USE_BUDGET}
        with_work = {pid for (pid,) in self._warehouse.ask(WITH_WORK, parameters)}
        pids_with_work = [pid for pid in with_work if isinstance(pid, int)]
        found = {process: f"slice task {process.pid}" for pid in pids_with_work for process in _process(pid)}
        if None in with_work:
            found |= {process: f"triggerer {process.pid}" for process in triggerer(self.stack)}
        return [name for process, name in found.items() if self._could_serve(process)]

    def _could_serve(self, process: psutil.Process) -> bool:
        moment = time.monotonic()
        if any(warehouse_ports(process, self.proxy_port)):
            self._connected[process] = moment
        return moment - self._connected.get(process, float("-inf")) < RECONNECT_SECONDS and not is_frozen(process)


class _Lasting:
    """A connection that is opened again after it broke."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def ask(self, query: str, parameters: Mapping[str, object] | None = None) -> list[tuple[object, ...]]:
        try:
            if self._connection is None:
                self._connection = self._connect()
                self._connection.autocommit = True
            return self._connection.execute(query.encode(), parameters).fetchall()
        except psycopg.Error:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _process(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        yield psutil.Process(pid)
