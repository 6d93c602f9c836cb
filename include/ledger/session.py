"""The ledger: who asked the NMP for what, what came back, and whose every passport is.

Each public method of ``Ledger`` is one transaction. The promises rest on four rules, which hold for every writer:
an intent is committed before its call leaves; an order is taken over only after its lease; a writer with an older fence
is late; whoever grants, stops or rests locks the gate first, whoever intends shares its tag's row.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from include.ledger import registering
from include.ledger.states import UNSERVED, PassportState, ReservationState, TagState
from include.ledger.transitions import (
    STATE_AFTER,
    Answered,
    Holder,
    OrderStanding,
    RunStanding,
    Step,
    TagStanding,
    next_step,
    settle_link,
)
from include.nmp.answers import CallFailure, RawAnswer, Reading
from include.outcomes import MEANINGS, AttemptOutcome
from include.sql_files import sql_of
from include.warehouse.database import Connect, open_session, safe_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.ledger.registering import Registered
    from include.orders import CheckedOrder

sql = sql_of(__package__)

Row = dict[str, Any]

USES_BUDGET = [outcome.value for outcome, meaning in MEANINGS.items() if meaning.uses_budget]
MOST_SPARES_AT_ONCE = 500
_MAY_HAVE_AN_ANSWER = frozenset(UNSERVED) - {ReservationState.CALLING}


class LedgerError(Exception):
    """The ledger cannot do what was asked; the message says what to do."""


@dataclass(frozen=True)
class RunStart:
    """One attempt of an Airflow run: rests, stops and budgets belong to it.

    Clearing a finished run gives it a new ``started_at`` (time zone aware), and so a new attempt.
    """

    run_id: str
    started_at: datetime

    @property
    def key(self) -> dict[str, Any]:
        """The two bound parameters that name it."""
        return {"run_id": self.run_id, "run_started_at": self.started_at}


@dataclass(frozen=True)
class RunPlan:
    """What a run sets out to serve; the limits are those of the Trigger form."""

    run_id: str
    business_day: date
    scheduled: bool
    per_order_limit: int
    max_tasks: int
    max_calls_per_order: int
    max_unknown_per_run: int
    max_duplicates_per_run: int
    campaigns: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedRun:
    """How a run was dealt: one label per mapped task."""

    sliced: bool
    orders: int
    labels: list[str]


@dataclass(frozen=True)
class Intent:
    """A committed intent: this call, and no other, may leave now."""

    attempt_id: int
    order_key: str
    tag: str


@dataclass(frozen=True)
class Refusal:
    """No call for this order now: ``step`` says why, ``state`` and ``reason`` where it stands.

    ``wait`` is how many seconds a lease still runs.
    """

    order_key: str
    step: Step
    state: ReservationState
    reason: str | None = None
    wait: float = 0.0


@dataclass(frozen=True)
class Grant:
    """What a grant gave: intents to call, refusals, and calls whose raw answer a dead process left unread."""

    intents: list[Intent] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Settled:
    """Where an order stands after its call was settled; ``late`` where the call no longer moved it."""

    attempt_id: int
    order_key: str
    outcome: AttemptOutcome
    state: ReservationState
    reason: str | None
    late: bool


@dataclass
class _Moves:
    """Orders on their way to a next state, as columns for one statement."""

    rows: dict[str, tuple[str, str | None, int, int | None]] = field(default_factory=dict)

    def add(
        self, order_key: str, state: ReservationState, reason: str | None, fence: int, passport_id: int | None = None
    ) -> None:
        self.rows[order_key] = (state.value, reason, fence, passport_id)

    def parameters(self) -> dict[str, list[Any]]:
        states, reasons, fences, passport_ids = zip(*self.rows.values(), strict=True)
        return {
            "order_keys": list(self.rows),
            "states": list(states),
            "reasons": list(reasons),
            "fences": list(fences),
            "passport_ids": list(passport_ids),
        }


class Ledger:
    """One connection to the ledger. Not for two threads at once.

    ``connect`` opens the warehouse; ``lease_seconds`` how long nobody takes a calling order over;
    ``concurrency`` how many calls may be under way over all runs and processes; ``caller`` names this engine in the
    attempts. Every method raises ``SafeDatabaseError`` when the database does not do its part; its text never holds a
    link.
    """

    def __init__(self, connect: Connect, *, lease_seconds: float, concurrency: int, caller: str) -> None:
        self._connect = connect
        self._lease_seconds = lease_seconds
        self._concurrency = concurrency
        self._caller = caller
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def close(self) -> None:
        """Ends the connection; the next call makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> "Iterator[psycopg.Cursor[Row]]":
        """One transaction; a connection that broke is dropped, so that the next call makes a new one."""
        with safe_errors():
            try:
                connection = self._connected()
                with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
                    yield cursor
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self.close()
                raise

    def _connected(self) -> psycopg.Connection[tuple[object, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = open_session(self._connect, application_name="passport-links ledger")
            with self._connection.transaction():
                self._connection.execute(sql("staging"))
        return self._connection

    # --- planning -----------------------------------------------------------------------------------------------

    def unserved_days(self, business_day: date) -> list[date]:
        """The days before ``business_day`` whose orders still wait and may still be served then, oldest first."""
        with self._transaction() as cursor:
            cursor.execute(sql("unserved_days"), {"business_day": business_day})
            return [row["business_day"] for row in cursor]

    def now(self) -> datetime:
        """The time by the database's clock."""
        with self._transaction() as cursor:
            cursor.execute(sql("now"))
            [row] = cursor
            now: datetime = row["now"]
        return now

    def register(
        self,
        rows: "Iterable[CheckedOrder]",
        *,
        run_id: str,
        days_read: Sequence[date],
        pool_sizes: Mapping[str, int | None],
        began_at: datetime | None = None,
    ) -> "Registered":
        """Take in an extraction: new keys wait for a link, unserved keys of these days that are gone are cancelled.

        ``rows`` are read to their end inside the transaction, which locks no row of the ledger meanwhile and keeps none
        of them in memory. ``pool_sizes`` gives the size of each campaign's pools; ``began_at`` when the extraction
        began to read (``now``): what another run wrote since may be newer than it, and stays.
        """
        rows = iter(rows)
        first = list(islice(rows, 1))  # the shop's database may take long for it: the transaction begins afterwards
        with self._transaction() as cursor:
            return registering.register(
                cursor.connection,
                chain(first, rows),
                run_id=run_id,
                days_read=days_read,
                pool_sizes=pool_sizes,
                began_at=began_at,
            )

    def plan_run(self, plan: RunPlan) -> PlannedRun:
        """Deals a run's unserved orders to its mapped tasks and gives one label per task; done again, dealt anew."""
        parameters = {
            "run_id": plan.run_id,
            "business_day": plan.business_day,
            "scheduled": plan.scheduled,
            "per_order_limit": plan.per_order_limit,
            "max_tasks": plan.max_tasks,
            "max_calls_per_order": plan.max_calls_per_order,
            "max_unknown_per_run": plan.max_unknown_per_run,
            "max_duplicates_per_run": plan.max_duplicates_per_run,
            "campaigns": list(plan.campaigns) or None,
        }
        with self._transaction() as cursor:
            for statement in ("save_run", "clear_run_orders", "deal_run_orders", "finish_run"):
                cursor.execute(sql(f"{statement}"), parameters)
            dealt = cursor.fetchone() or {}
            cursor.execute(sql("task_labels"), parameters)
            tasks = cursor.fetchall()
        if not dealt["sliced"]:
            return PlannedRun(sliced=False, orders=dealt["orders"], labels=[task["order_key"] for task in tasks])
        labels = [f"slice {n} of {len(tasks)}: {task['orders']} orders" for n, task in enumerate(tasks, start=1)]
        return PlannedRun(sliced=True, orders=dealt["orders"], labels=labels)

    def is_sliced(self, run_id: str) -> bool:
        """Whether each task of the run serves a slice of orders. Raises ``LedgerError`` for a run never planned."""
        with self._transaction() as cursor:
            cursor.execute(sql("run_of_task"), {"run_id": run_id})
            row = cursor.fetchone()
        if row is None:
            raise LedgerError(_never_planned(run_id))
        return bool(row["sliced"])

    def orders_of_task(self, run_id: str, task_index: int) -> tuple[bool, list[str]]:
        """Whether a run is sliced, and the order keys of its mapped task of this index, oldest first.

        No keys where the run, dealt anew, no longer has the task. Raises as ``is_sliced`` does.
        """
        with self._transaction() as cursor:
            cursor.execute(sql("orders_of_task"), {"run_id": run_id, "task_index": task_index})
            rows = cursor.fetchall()
        if not rows:
            raise LedgerError(_never_planned(run_id))
        return bool(rows[0]["sliced"]), [row["order_key"] for row in rows if row["order_key"] is not None]

    def standings(self, order_keys: Sequence[str]) -> dict[str, tuple[ReservationState, str | None]]:
        """State and reason of some orders; a key that the ledger does not know is left out."""
        with self._transaction() as cursor:
            cursor.execute(sql("standings"), {"order_keys": list(order_keys)})
            return {row["order_key"]: (ReservationState(row["state"]), row["reason"]) for row in cursor}

    def day_standings(
        self, business_day: date, campaigns: Sequence[str] = ()
    ) -> dict[str, tuple[ReservationState, str | None]]:
        """State and reason of every order key of a business day; of some campaigns only, where any are named."""
        parameters = {"business_day": business_day, "campaigns": list(campaigns) or None}
        with self._transaction() as cursor:
            cursor.execute(sql("day_standings"), parameters)
            return {row["order_key"]: (ReservationState(row["state"]), row["reason"]) for row in cursor}

    # --- intents ------------------------------------------------------------------------------------------------

    def grant(self, run: RunStart, order_keys: Sequence[str], *, slots: int) -> Grant:
        """Commits the intents of at most ``slots`` calls for these orders and says of the others why not now.

        Orders that somebody else is writing at this moment come back as ``Step.WAIT``.
        Raises ``LedgerError`` for a run that was never planned.
        """
        with self._transaction() as cursor:
            cursor.execute(sql("open_run_attempt"), run.key)
            cursor.execute(sql("lock_gate"))
            cursor.execute(sql("run_attempt"), run.key)
            tried = cursor.fetchone()
            if tried is None:
                raise LedgerError(_never_planned(run.run_id))
            cursor.execute(sql("lock_orders"), {"order_keys": list(order_keys)})
            orders = {row["order_key"]: row for row in cursor}
            known = _known(cursor, set(order_keys) - orders.keys()) | orders.keys()
            unread = self._expire(cursor, orders)
            if any(row.get("expired") for row in orders.values()):  # they count, and may have stopped the run
                cursor.execute(sql("run_attempt"), run.key)
                tried = cursor.fetchone() or tried
            grant = self._decide(cursor, run, tried, [key for key in order_keys if key in known], orders, unread, slots)
        grant.refusals.extend(
            Refusal(key, Step.NO_SUCH_ORDER, ReservationState.CANCELLED, "the ledger does not know this order")
            for key in order_keys
            if key not in known
        )
        return grant

    def _expire(self, cursor: "psycopg.Cursor[Row]", orders: dict[str, Row]) -> dict[str, int]:
        """Calls whose lease ended become unknown, unless their raw answer stands unread: those are given back.

        Whoever gave up a lapsed call before may have left its answer unread too: a reset, an extraction, a person.
        """
        unsure = [key for key, row in orders.items() if row["state"] in _MAY_HAVE_AN_ANSWER]
        unread: dict[str, int] = {}
        if unsure:
            cursor.execute(sql("lapsed_answers"), {"order_keys": unsure})
            unread = {row["order_key"]: row["attempt_id"] for row in cursor}
        over = [
            key for key, row in orders.items() if row["state"] == ReservationState.CALLING and row["lease_left"] <= 0
        ]
        if not over:
            return unread
        cursor.execute(sql("unread_attempts"), {"order_keys": over})
        calls = cursor.fetchall()
        unread |= {call["order_key"]: call["attempt_id"] for call in calls if call["has_answer"]}
        lost = [call["attempt_id"] for call in calls if not call["has_answer"]]
        cursor.execute(sql("expire_attempts"), {"attempt_ids": lost})
        by_attempt: dict[tuple[str, datetime], int] = defaultdict(int)
        for row in cursor.fetchall():
            by_attempt[row["run_id"], row["run_started_at"]] += 1
        for (run_id, started_at), unknown in by_attempt.items():
            _count_troubles(cursor, RunStart(run_id, started_at), unknown=unknown)
        for call in calls:
            if not call["has_answer"]:
                orders[call["order_key"]]["state"] = ReservationState.UNKNOWN
                orders[call["order_key"]]["reason"] = "a call's lease ended without an answer"
                orders[call["order_key"]]["expired"] = True
        return unread

    def _decide(
        self,
        cursor: "psycopg.Cursor[Row]",
        run: RunStart,
        tried: Row,
        order_keys: Sequence[str],
        orders: dict[str, Row],
        unread: dict[str, int],
        slots: int,
    ) -> Grant:
        cursor.execute(sql("call_budgets"), {**run.key, "order_keys": list(orders), "outcomes": USES_BUDGET})
        used = {row["order_key"]: row["calls"] for row in cursor}
        tags = self._tags(cursor, run, sorted({row["tag"] for row in orders.values()}))
        standing = RunStanding(
            stopped=tried["stop_reason"] is not None,
            opened=tried["opened"],
            max_calls_per_order=tried["max_calls_per_order"],
        )
        calls_free = min(slots, self._concurrency - tried["calls_under_way"])
        own_calls = tried["own_calls_under_way"]
        grant = Grant(unread=sorted(unread.values()))
        intents: list[Row] = []
        spares: dict[str, int] = {}
        moves = _Moves()
        for key in order_keys:
            row = orders.get(key)
            if row is None or key in unread:
                grant.refusals.append(Refusal(key, Step.WAIT, ReservationState.PENDING))
                continue
            tag = tags[row["tag"]]
            order = OrderStanding(
                state=ReservationState(row["state"]),
                lease_left=row["lease_left"],
                holds_on_unknown=row["on_unknown"] == "hold",
                calls_used=used.get(key, 0),
            )
            step = next_step(order, standing, tag.standing(), calls_free=calls_free, own_calls=own_calls)
            if step is Step.CALL:
                calls_free, own_calls = calls_free - 1, own_calls + 1
                intents.append({"order_key": key, "tag": row["tag"], "epoch": tag.epoch, "fence": row["fence"] + 1})
                moves.add(key, ReservationState.CALLING, None, row["fence"] + 1)
            elif step is Step.USE_SPARE:
                spares[key] = tag.spares.pop()
                moves.add(key, ReservationState.RESERVED, None, row["fence"] + 1, spares[key])
                grant.refusals.append(Refusal(key, Step.DONE, ReservationState.RESERVED))
            else:
                refusal = _refuse(key, step, row, order, tried["stop_reason"])
                grant.refusals.append(refusal)
                if row.get("expired") or refusal.state != row["state"]:
                    moves.add(key, refusal.state, refusal.reason, row["fence"] + 1)
        self._write_grant(cursor, run, grant, intents, spares, moves)
        return grant

    def _tags(self, cursor: "psycopg.Cursor[Row]", run: RunStart, names: list[str]) -> "dict[str, _Tag]":
        tags = {name: _Tag(locked=True) for name in names}
        cursor.execute(sql("share_tags"), {"tags": names})
        for row in cursor.fetchall():
            tags[row["tag"]] = _Tag(locked=False, resetting=row["state"] == TagState.RESETTING, epoch=row["epoch"])
        locked = [name for name, tag in tags.items() if tag.locked]
        if locked:
            cursor.execute(sql("resetting_tags"), {"tags": locked})
            for row in cursor.fetchall():
                tags[row["tag"]].resetting = True
        cursor.execute(sql("resting_tags"), {**run.key, "tags": names})
        for row in cursor.fetchall():
            tags[row["tag"]].resting = True
        open_tags = [name for name, tag in tags.items() if not tag.locked and not tag.resetting]
        cursor.execute(
            sql("lock_spares"),
            {
                "tags": open_tags,
                "epochs": [tags[name].epoch for name in open_tags],
                "most": MOST_SPARES_AT_ONCE,
            },
        )
        for row in cursor.fetchall():
            tags[row["tag"]].spares.append(row["passport_id"])
        return tags

    def _write_grant(
        self,
        cursor: "psycopg.Cursor[Row]",
        run: RunStart,
        grant: Grant,
        intents: list[Row],
        spares: dict[str, int],
        moves: _Moves,
    ) -> None:
        if spares:
            cursor.execute(
                sql("assign_spares"),
                {"passport_ids": list(spares.values()), "order_keys": list(spares)},
            )
        if moves.rows:
            cursor.execute(
                sql("update_orders"),
                {**moves.parameters(), "run_id": run.run_id, "lease_seconds": self._lease_seconds},
            )
        if intents:
            cursor.execute(
                sql("insert_attempts"),
                {
                    **run.key,
                    "caller": self._caller,
                    "lease_seconds": self._lease_seconds,
                    "order_keys": [intent["order_key"] for intent in intents],
                    "tags": [intent["tag"] for intent in intents],
                    "epochs": [intent["epoch"] for intent in intents],
                    "fences": [intent["fence"] for intent in intents],
                },
            )
            tag_of = {intent["order_key"]: intent["tag"] for intent in intents}
            grant.intents.extend(
                Intent(row["attempt_id"], row["order_key"], tag_of[row["order_key"]]) for row in cursor.fetchall()
            )

    def disown(self, under_way: Sequence[int]) -> int:
        """Frees the orders of intents that were committed for this caller, but never came to its knowledge.

        Called after a connection broke: whether its last commit took is unknown, and a call that nobody knows of was
        never sent. ``under_way`` are the attempts this caller does know of. Gives the number of intents freed.
        """
        with self._transaction() as cursor:
            # behind the gate stands whatever the broken connection left in the middle of its commit
            cursor.execute(sql("lock_gate"))
            cursor.execute(sql("disown_attempts"), {"caller": self._caller, "under_way": list(under_way)})
            freed = cursor.fetchall()
            cursor.execute(
                sql("free_orders"),
                {"order_keys": [row["order_key"] for row in freed], "fences": [row["fence"] for row in freed]},
            )
        return len(freed)

    # --- answers ------------------------------------------------------------------------------------------------

    def keep_answers(self, answers: Mapping[int, RawAnswer]) -> None:
        """Commits raw answers, by attempt, before anybody reads them. Keeping one twice is keeping it once."""
        with self._transaction() as cursor:
            with cursor.copy(sql("copy_answers")) as copy:
                copy.set_types(["int8", "int4", "bytea", "text", "text", "text"])
                for attempt_id, raw in answers.items():
                    failure = raw.failure.value if raw.failure else None
                    # a header may hold what a text column cannot, and nothing may keep an answer from being kept
                    retry_after = ascii(raw.retry_after)[1:-1] if raw.retry_after is not None else None
                    copy.write_row((attempt_id, raw.status, raw.body, retry_after, failure, raw.error))
            cursor.execute(sql("keep_answers"))

    def kept_answers(self, attempt_ids: Sequence[int]) -> dict[int, RawAnswer]:
        """Raw answers that a dead process committed, but never read, by attempt."""
        with self._transaction() as cursor:
            cursor.execute(sql("read_answers"), {"attempt_ids": list(attempt_ids)})
            return {
                row["attempt_id"]: RawAnswer(
                    status=row["status"],
                    body=bytes(row["body"] or b""),
                    retry_after=row["retry_after"],
                    failure=CallFailure(row["failure"]) if row["failure"] else None,
                    error=row["error"] or "",
                )
                for row in cursor
            }

    def left_answers(self, most: int = 500) -> list[int]:
        """Attempts whose raw answer was committed, but never read, although their lease is over; at most ``most``."""
        with self._transaction() as cursor:
            cursor.execute(sql("left_answers"), {"most": most})
            return [row["attempt_id"] for row in cursor]

    def settle(self, readings: Mapping[int, Reading]) -> list[Settled]:
        """Writes what answers meant, by attempt, and erases the raw ones that were read.

        Settling twice is settling once; a call that was settled before is left out of what comes back.
        The order's next state is that of the answer table in ``include/nmp/answers.py``, unless the order has moved on.
        """
        with self._transaction() as cursor:
            with cursor.copy(sql("copy_links")) as copy:
                copy.set_types(["int8", "text", "text"])
                for attempt_id, reading in readings.items():
                    if reading.outcome is AttemptOutcome.RESERVED:
                        copy.write_row((attempt_id, reading.certificate_id, reading.link))
            cursor.execute(sql("share_answered_tags"), {"attempt_ids": list(readings)})
            tags = {row["tag"]: row for row in cursor.fetchall()}
            cursor.execute(sql("lock_answered"), {"attempt_ids": list(readings)})
            cursor.execute(sql("answered_calls"), {"attempt_ids": list(readings)})
            found: list[Row] = cursor.fetchall()
            calls = [row for row in found if _tells_more(row["outcome"], readings[row["attempt_id"]])]
            # an answer that was kept again after somebody settled it must not stand for ever
            settled = [row for row in found if row not in calls]
            read = [row["attempt_id"] for row in settled if not MEANINGS[AttemptOutcome(row["outcome"])].keeps_raw]
            if read:
                cursor.execute(sql("erase_answers"), {"attempt_ids": read})
            return _Settlement(cursor, self._lease_seconds, readings, calls, tags).write() if calls else []


@dataclass
class _Tag:
    """A tag in the hands of one grant."""

    locked: bool
    resetting: bool = False
    resting: bool = False
    epoch: int = 0
    spares: list[int] = field(default_factory=list)

    def standing(self) -> TagStanding:
        return TagStanding(
            resetting=self.resetting, locked=self.locked, resting=self.resting, has_spare=bool(self.spares)
        )


def _never_planned(run_id: str) -> str:
    return f"run {run_id} was never planned in this warehouse: clear its extract_orders task"


def _known(cursor: "psycopg.Cursor[Row]", order_keys: set[str]) -> set[str]:
    """Which of these orders the ledger knows: those that somebody else is writing at this moment."""
    if not order_keys:
        return set()
    cursor.execute(sql("standings"), {"order_keys": sorted(order_keys)})
    return {row["order_key"] for row in cursor}


def _refuse(key: str, step: Step, row: Row, order: OrderStanding, stop_reason: str | None) -> Refusal:
    """Why an order gets no call now; the state is the one to be written where it moves."""
    state, reason = order.state, row["reason"]
    if step is Step.REST:
        state, reason = ReservationState.OUT_OF_STOCK, f"tag {row['tag']} is empty"
    elif step is Step.DONE and state is ReservationState.UNKNOWN:
        state = ReservationState.HELD
    elif step is Step.RESETTING:
        reason = f"tag {row['tag']} is being reset"
    elif step is Step.STOPPED:
        reason = stop_reason
    elif step is Step.EXHAUSTED:
        reason = reason or f"{order.calls_used} calls gave it nothing"
    wait = order.lease_left if step is Step.LEASED else 0.0
    return Refusal(key, step, state, reason, wait)


def _count_troubles(
    cursor: "psycopg.Cursor[Row]",
    run: RunStart,
    *,
    unknown: int = 0,
    duplicates: int = 0,
    usable: bool = False,
    stop_reason: str | None = None,
) -> None:
    """Counts a run attempt's troubles, opens or stops it. The gate must be locked."""
    cursor.execute(
        sql("count_troubles"),
        {**run.key, "unknown": unknown, "duplicates": duplicates, "usable": usable, "stop_reason": stop_reason},
    )


def _tells_more(outcome: str | None, reading: Reading) -> bool:
    """Whether an answer says more of a call than the ledger knows; a lapsed call that then times out is no news."""
    if outcome == AttemptOutcome.UNKNOWN:
        return reading.outcome is not AttemptOutcome.UNKNOWN
    return outcome is None


class _Settlement:
    """One settling transaction at work: decides each answer in turn, then writes all at once."""

    def __init__(
        self,
        cursor: "psycopg.Cursor[Row]",
        lease_seconds: float,
        readings: Mapping[int, Reading],
        calls: list[Row],
        tags: dict[str, Row],
    ) -> None:
        self._tags = tags
        self._cursor = cursor
        self._lease_seconds = lease_seconds
        self._readings = readings
        self._calls = {call["attempt_id"]: call for call in calls}
        # two answers for one order share its standing
        self._orders: dict[str, Row] = {}
        for call in calls:
            self._orders.setdefault(call["order_key"], call)
        self._moves = _Moves()
        self._settled: dict[int, Settled] = {}

    def write(self) -> list[Settled]:
        links = [key for key in self._calls if self._readings[key].outcome is AttemptOutcome.RESERVED]
        for attempt_id in self._calls.keys() - set(links):
            self._settle_other(attempt_id)
        for _ in range(len(links) + 5):
            links = self._settle_links(links)
            if not links:
                break
        else:
            message = f"{len(links)} passports could not be stored: their certificates keep changing hands"
            raise LedgerError(message)
        self._write_orders()
        self._write_attempts()
        self._write_troubles()
        return list(self._settled.values())

    def _answered(self, call: Row) -> Answered:
        order = self._orders[call["order_key"]]
        return Answered(
            order_key=call["order_key"],
            epoch=call["epoch"],
            fence=call["fence"],
            order_state=ReservationState(order["state"]),
            order_fence=order["order_fence"],
            order_has_passport=order["passport_id"] is not None,
            tag_epoch=self._tags[call["tag"]]["epoch"],
            tag_resetting=self._tags[call["tag"]]["state"] == TagState.RESETTING,
        )

    def _settle_other(self, attempt_id: int) -> None:
        """Any answer but a 200 with a link: it moves its order only if nobody took that over."""
        call, reading = self._calls[attempt_id], self._readings[attempt_id]
        order, answered = self._orders[call["order_key"]], self._answered(call)
        if answered.on_time:
            state = STATE_AFTER[reading.outcome]
            if state is ReservationState.UNKNOWN and call["on_unknown"] == "hold":
                state = ReservationState.HELD
            self._move(order, state, reading.detail)
        self._done(call, reading.outcome, reading, late=not answered.on_time)

    def _settle_links(self, attempt_ids: list[int]) -> list[int]:
        """Stores the passports of these calls; gives back those whose certificate was made live by somebody else."""
        certificates = {key: self._readings[key].certificate_id or "" for key in attempt_ids}
        self._cursor.execute(sql("certificate_holders"), {"certificate_ids": sorted(set(certificates.values()))})
        holders = {
            row["certificate_id"]: Holder(row["passport_id"], PassportState(row["state"]), row["order_key"])
            for row in self._cursor
        }
        taken: set[str] = set()
        again: list[int] = []
        inserts: list[tuple[int, str, str | None, str | None]] = []
        decided: dict[int, Any] = {}
        for attempt_id, certificate in certificates.items():
            call = self._calls[attempt_id]
            if certificate in taken or call["order_key"] in taken:
                again.append(attempt_id)  # another answer of this batch is about to change what this one meets
                continue
            taken |= {certificate, call["order_key"]}
            link = decided[attempt_id] = settle_link(self._answered(call), holders.get(certificate))
            if link.promote is not None:
                self._cursor.execute(
                    sql("assign_spares"), {"passport_ids": [link.promote], "order_keys": [call["order_key"]]}
                )
                if self._cursor.fetchone() is None:
                    again.append(attempt_id)  # somebody else's grant used the spare first
                else:
                    self._apply(call, link, link.promote)
            elif link.passport is None:
                self._apply(call, link, None)
            else:
                owner = call["order_key"] if link.passport is not PassportState.SPARE else None
                inserts.append((attempt_id, link.passport.value, owner, link.end_reason))
        stored = self._insert(inserts)
        for attempt_id, _, _, _ in inserts:
            if attempt_id in stored:
                self._apply(self._calls[attempt_id], decided[attempt_id], stored[attempt_id])
            else:
                again.append(attempt_id)
        return again

    def _insert(self, inserts: list[tuple[int, str, str | None, str | None]]) -> dict[int, int]:
        if not inserts:
            return {}
        attempt_ids, states, owners, end_reasons = zip(*inserts, strict=True)
        self._cursor.execute(
            sql("insert_passports"),
            {
                "attempt_ids": list(attempt_ids),
                "states": list(states),
                "order_keys": list(owners),
                "end_reasons": list(end_reasons),
            },
        )
        return {row["attempt_id"]: row["passport_id"] for row in self._cursor}

    def _apply(self, call: Row, link: Any, passport_id: int | None) -> None:
        order, on_time = self._orders[call["order_key"]], self._answered(call).on_time
        if link.order_state is ReservationState.RESERVED:
            self._move(order, ReservationState.RESERVED, None, passport_id)
        elif link.order_state is not None:
            self._move(order, link.order_state, _WHY_NO_LINK[link.outcome])
        self._done(call, link.outcome, self._readings[call["attempt_id"]], late=not on_time)

    def _move(self, order: Row, state: ReservationState, reason: str | None, passport_id: int | None = None) -> None:
        order.update(state=state, reason=reason, passport_id=passport_id, order_fence=order["order_fence"] + 1)
        self._moves.add(order["order_key"], state, reason, order["order_fence"], passport_id)

    def _done(self, call: Row, outcome: AttemptOutcome, reading: Reading, *, late: bool) -> None:
        order = self._orders[call["order_key"]]
        self._settled[call["attempt_id"]] = Settled(
            attempt_id=call["attempt_id"],
            order_key=call["order_key"],
            outcome=outcome,
            state=ReservationState(order["state"]),
            reason=order["reason"],
            late=late,
        )
        call["reading"] = reading

    def _write_orders(self) -> None:
        # an order belongs to one run at a time, so the run that moves it is that of its call
        by_run: dict[str, _Moves] = defaultdict(_Moves)
        for key, move in self._moves.rows.items():
            by_run[self._orders[key]["run_id"]].rows[key] = move
        for run_id, moves in by_run.items():
            self._cursor.execute(
                sql("update_orders"),
                {**moves.parameters(), "run_id": run_id, "lease_seconds": self._lease_seconds},
            )

    def _write_attempts(self) -> None:
        settled = list(self._settled.values())
        readings = [self._readings[done.attempt_id] for done in settled]
        self._cursor.execute(
            sql("settle_attempts"),
            {
                "attempt_ids": [done.attempt_id for done in settled],
                "outcomes": [done.outcome.value for done in settled],
                "lates": [done.late for done in settled],
                "statuses": [reading.status for reading in readings],
                "details": [reading.detail for reading in readings],
            },
        )
        read = [done.attempt_id for done in settled if not MEANINGS[done.outcome].keeps_raw]
        self._cursor.execute(sql("erase_answers"), {"attempt_ids": read})

    def _write_troubles(self) -> None:
        """Opens, stops and counts run attempts and rests tags, behind the gate; a plain link needs none of it."""
        by_attempt: dict[RunStart, list[Settled]] = defaultdict(list)
        for done in self._settled.values():
            call = self._calls[done.attempt_id]
            by_attempt[RunStart(call["run_id"], call["run_started_at"])].append(done)
        troubled = {run: settled for run, settled in by_attempt.items() if self._needs_gate(run, settled)}
        if not troubled:
            return
        self._cursor.execute(sql("lock_gate"))
        for run, settled in troubled.items():
            outcomes = [done.outcome for done in settled]
            empty = sorted(
                {
                    self._calls[done.attempt_id]["tag"]
                    for done in settled
                    if MEANINGS[done.outcome].marks_tag_empty and not done.late
                }
            )
            if empty:
                self._cursor.execute(sql("rest_tags"), {**run.key, "tags": empty})
            stopping = [done for done in settled if MEANINGS[done.outcome].stops_run]
            _count_troubles(
                self._cursor,
                run,
                unknown=sum(outcome is AttemptOutcome.UNKNOWN for outcome in outcomes),
                duplicates=sum(outcome is AttemptOutcome.DUPLICATE for outcome in outcomes),
                usable=any(MEANINGS[outcome].usable for outcome in outcomes),
                stop_reason=self._readings[stopping[0].attempt_id].detail if stopping else None,
            )

    def _needs_gate(self, run: RunStart, settled: list[Settled]) -> bool:
        meanings = [MEANINGS[done.outcome] for done in settled]
        counted = (AttemptOutcome.UNKNOWN, AttemptOutcome.DUPLICATE)
        if any(meaning.stops_run or meaning.marks_tag_empty for meaning in meanings):
            return True
        if any(done.outcome in counted for done in settled):
            return True
        if not any(meaning.usable for meaning in meanings):
            return False
        self._cursor.execute(sql("opened"), run.key)
        row = self._cursor.fetchone()
        return row is not None and not row["opened"]


_WHY_NO_LINK = {
    AttemptOutcome.DUPLICATE: "the NMP gave a certificate that is another order's",
    AttemptOutcome.ENDED: "the answer was of before a reset of its tag",
}
