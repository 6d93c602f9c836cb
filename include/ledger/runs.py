"""The ledger as a run's tasks need it: take an extraction in, assign orders to mapped tasks, see how a day came out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from include.business_day import ONE_DAY, DayBounds, bounds_of, days_between
from include.ledger.dry_run import DryRun, dry_run
from include.ledger.going_back import GrantCount, Memory, noticing, read_grants
from include.ledger.registering import Registered, columns_of, register
from include.ledger.session import LedgerSession, NeverPlannedError
from include.ledger.states import ASKED_BY_RUNS, UNSERVED, ReservationState
from include.sql_files import sql_of
from include.warehouse.database import database_now, read_rows, safe_errors
from include.warehouse.transactions import Kind, again_after_limit

if TYPE_CHECKING:
    from include.orders import CheckedOrder

sql = sql_of(__package__)


@dataclass(frozen=True)
class RunPlan:
    """What a run sets out to serve: its own days, oldest first. The limits are those of the Trigger form."""

    run_id: str
    days: tuple[date, ...]
    scheduled: bool
    per_order_limit: int
    max_tasks: int
    max_calls_per_order: int
    max_unknown_per_run: int
    max_duplicates_per_run: int
    stop_after_refusals: int
    campaigns: tuple[str, ...] = ()
    max_new_links: int | None = None

    @property
    def first_day(self) -> date:
        """The first of its own days."""
        return self.days[0]

    @property
    def last_day(self) -> date:
        """The last of its own days."""
        return self.days[-1]


@dataclass(frozen=True)
class PlannedRun:
    """How a run's orders were assigned: one label per mapped task."""

    sliced: bool
    orders: int
    labels: list[str]


@dataclass(frozen=True)
class _ScheduledDays:
    first_day: date | None
    last_day: date | None


@dataclass(frozen=True)
class _Shape:
    sliced: bool
    orders: int


@dataclass(frozen=True)
class _Task:
    orders: int
    order_key: str


@dataclass(frozen=True)
class _OrderOfTask:
    sliced: bool
    order_key: str | None


class RunLedger(LedgerSession):
    """Plans and checks runs; each method but ``register`` is one transaction, repeated after a limit ended it.

    See ``LedgerSession``.
    """

    @again_after_limit
    def now(self) -> datetime:
        """Give the time by the database's clock."""
        with self.transaction() as connection:
            return database_now(connection)

    @again_after_limit
    def expect_days(self, plan: RunPlan, zone: ZoneInfo) -> None:
        """Put the days of a scheduled run into the calendar, with all days since the last scheduled run.

        So a day that no run serves is known to be missing. ``zone`` is the shop's time zone.
        """
        with self.transaction() as connection:
            [known] = read_rows(connection, _ScheduledDays, sql("scheduled_days"), {})
            if known.first_day is None or known.last_day is None:
                days = days_between(plan.first_day, plan.last_day)
            else:
                days = days_between(plan.first_day, known.first_day - ONE_DAY)
                days += days_between(known.last_day + ONE_DAY, plan.last_day)
            if days:
                connection.execute(sql("add_scheduled_days"), columns_of(bounds_of(days, zone)))

    @again_after_limit
    def unserved_days(self, first_day: date) -> list[date]:
        """Give the days before ``first_day`` whose orders still wait and may still be served then, oldest first."""
        with self.transaction(Kind.LONG) as connection:
            parameters = {"first_day": first_day, "unserved": UNSERVED}
            return [day for (day,) in connection.execute(sql("unserved_days"), parameters)]

    @again_after_limit
    def days_not_read(self, first_day: date, not_before: date) -> list[date]:
        """Give the days of scheduled runs in ``not_before <= day < first_day`` that ended and were not read since."""
        with self.transaction(Kind.LONG) as connection:
            parameters = {"first_day": first_day, "not_before": not_before}
            return [day for (day,) in connection.execute(sql("days_not_read"), parameters)]

    def register(
        self,
        rows: "Iterable[CheckedOrder]",
        *,
        run_id: str,
        days_read: DayBounds,
        pool_sizes: Mapping[str, int | None],
        began_at: datetime | None = None,
    ) -> Registered:
        """Take in an extraction: new keys wait for a link, unserved keys of these days that are gone are cancelled.

        ``rows`` are read to their end first, while no row of the ledger is locked and none of them stays in memory.
        ``days_read`` are the days with their bounds: they count as read since ``began_at``, which is when the
        extraction began to read (``now``): what another run wrote since may be newer than it, and stays.
        ``pool_sizes`` gives the size of each campaign's pools. Several transactions; done again, it changes nothing.
        """
        rows = iter(rows)
        first = list(islice(rows, 1))  # the shop's database may take long for it: the transaction begins afterwards
        with safe_errors():
            return register(
                self._connected(),
                chain(first, rows),
                run_id=run_id,
                days_read=days_read,
                pool_sizes=pool_sizes,
                began_at=began_at,
            )

    def dry_run(
        self,
        rows: "Iterable[CheckedOrder]",
        plan: RunPlan,
        *,
        days_read: DayBounds,
        pool_sizes: Mapping[str, int | None],
    ) -> DryRun:
        """Say what a run would ask for after ``register`` and ``plan_run``, by tag; no row of the ledger moves.

        The arguments are those of ``register``.
        """
        parameters = {
            "days": list(plan.days),
            "first_day": plan.first_day,
            "scheduled": plan.scheduled,
            "campaigns": list(plan.campaigns) or None,
        }
        with safe_errors():
            return dry_run(self._connected(), rows, parameters, days_read=days_read, pool_sizes=pool_sizes)

    @again_after_limit
    def plan_run(self, plan: RunPlan, *, day_began_at: datetime | None = None) -> PlannedRun:
        """Assign a run's unserved orders to its mapped tasks, as if for the first time; give a label for each task.

        ``day_began_at`` is when the clock day began in the shop's time zone: since then all scheduled runs share their
        budgets. Without it the run has its own.
        """
        parameters = {
            "run_id": plan.run_id,
            "days": list(plan.days),
            "first_day": plan.first_day,
            "last_day": plan.last_day,
            "scheduled": plan.scheduled,
            "per_order_limit": plan.per_order_limit,
            "max_tasks": plan.max_tasks,
            "max_calls_per_order": plan.max_calls_per_order,
            "max_unknown_per_run": plan.max_unknown_per_run,
            "max_duplicates_per_run": plan.max_duplicates_per_run,
            "stop_after_refusals": plan.stop_after_refusals,
            "day_began_at": day_began_at,
            "max_new_links": plan.max_new_links,
            "campaigns": list(plan.campaigns) or None,
            "asked_by_runs": ASKED_BY_RUNS,
        }
        with self.transaction(Kind.LONG) as connection:
            for statement in ("save_run", "clear_run_orders", "assign_run_orders"):
                connection.execute(sql(statement), parameters)
            [shape] = read_rows(connection, _Shape, sql("finish_run"), parameters)
            tasks = read_rows(connection, _Task, sql("task_labels"), parameters)
        labels = [task.order_key for task in tasks]
        if shape.sliced:
            labels = [f"slice {n} of {len(tasks)}: {task.orders} orders" for n, task in enumerate(tasks, start=1)]
        return PlannedRun(shape.sliced, shape.orders, labels)

    @again_after_limit
    def count_grants(self) -> GrantCount:
        """Give the ledger's own identity, and how many grants it counts."""
        with self.transaction() as connection:
            return read_grants(connection)

    def compare(self, memory: Memory) -> None:
        """Raise ``WentBackError`` where the ledger has less than is remembered of it, or somebody noticed so before."""
        with noticing(self, memory), self.transaction() as connection:
            memory.compare(connection)

    @again_after_limit
    def is_sliced(self, run_id: str) -> bool:
        """Whether each task of the run serves a slice of orders. Raises ``LedgerError`` for a run never planned."""
        with self.transaction() as connection:
            row = connection.execute(sql("run_shape"), {"run_id": run_id}).fetchone()
        if row is None:
            raise NeverPlannedError(run_id)
        return bool(row[0])

    @again_after_limit
    def orders_of_task(self, run_id: str, task_index: int) -> tuple[bool, list[str]]:
        """Whether a run is sliced, and the order keys of its mapped task of this index, oldest first.

        No keys where the run, planned again, no longer has the task. Raises as ``is_sliced`` does.
        """
        with self.transaction() as connection:
            parameters = {"run_id": run_id, "task_index": task_index}
            rows = read_rows(connection, _OrderOfTask, sql("orders_of_task"), parameters)
        if not rows:
            raise NeverPlannedError(run_id)
        return rows[0].sliced, [row.order_key for row in rows if row.order_key is not None]

    @again_after_limit
    def closed_days(self, run_id: str, closes: Sequence[date]) -> list[date]:
        """Give the days that a run closes and that were read whole, oldest first.

        These are those of ``closes``, its own days that have ended, and those that it was the first to read whole.
        """
        with self.transaction() as connection:
            parameters = {"run_id": run_id, "closes": list(closes)}
            return [day for (day,) in connection.execute(sql("closed_days"), parameters)]

    @again_after_limit
    def orders_of_days(
        self, days: Sequence[date], campaigns: Sequence[str] = ()
    ) -> dict[str, tuple[ReservationState, str | None]]:
        """Give state and reason of every order of some business days; of some campaigns only, where any are named."""
        parameters = {"days": list(days), "campaigns": list(campaigns) or None}
        with self.transaction(Kind.LONG) as connection:
            found = connection.execute(sql("orders_of_days"), parameters).fetchall()
        return {order_key: (ReservationState(state), reason) for order_key, state, reason in found}
