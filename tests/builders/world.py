"""A planned run over a freshly migrated warehouse, for tests of the ledger and of the engine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from include.business_day import bounds_of
from include.campaigns import OnUnknown
from include.ledger.calls import CallLedger
from include.ledger.granting import Caller, Grant, Refusal
from include.ledger.intents import Intent
from include.ledger.run_starts import RunStart
from include.ledger.runs import RunLedger, RunPlan
from include.ledger.session import LedgerSession
from include.ledger.settling import Settled
from include.ledger.states import ReservationState
from include.nmp.answers import RawAnswer, Reading
from include.orders import CheckedOrder
from include.outcomes import AttemptOutcome
from include.warehouse.database import open_session
from tests.builders.ledger_rows import LedgerRows

DAY = date(2026, 11, 22)
UTC_ZONE = ZoneInfo("UTC")
_certificates = count(440105001)
_row_numbers = count(1)


def order(key: str, *, tag: str = "gift", day: date = DAY, **fields: Any) -> CheckedOrder:
    """An order that a campaign takes, paid at noon of its day."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return CheckedOrder(
        **{
            "row_number": next(_row_numbers),
            "order_key": key,
            "order_id": key,
            "customer_ref": f"customer-{key}",
            "product": "watch",
            "ordered_at": noon,
            "paid_at": noon,
            "business_day": day,
            "campaign": "gift",
            "tag": tag,
            "on_unknown": OnUnknown.REISSUE,
            "stale_after": timedelta(days=30),
            "carry_until": None,
            **fields,
        }
    )


def plan(run_id: str = "run", **fields: Any) -> RunPlan:
    return RunPlan(
        **{
            "run_id": run_id,
            "days": (DAY,),
            "scheduled": False,
            "per_order_limit": 1000,
            "max_tasks": 4,
            "max_calls_per_order": 2,
            "max_unknown_per_run": 20,
            "max_duplicates_per_run": 3,
            "stop_after_refusals": 3,
            **fields,
        }
    )


def attempt_of(run_id: str = "run", clear: int = 0) -> RunStart:
    """An attempt of a run; every clear is another one."""
    return RunStart(run_id, datetime(2026, 11, 23, tzinfo=UTC) + timedelta(hours=clear))


def a_link(certificate: str | None = None) -> Reading:
    """A 200 with a link, as ``read_answer`` reads it; a new certificate unless one is named."""
    certificate = certificate or str(next(_certificates))
    link = f"https://test.arianee.net/{certificate},secret{certificate}"
    return Reading(AttemptOutcome.RESERVED, "200 with a link", 200, certificate_id=certificate, link=link)


def an_answer(outcome: AttemptOutcome) -> Reading:
    """Any other answer."""
    return Reading(outcome, f"an answer that is {outcome}", None)


RAW = RawAnswer(200, b"https://test.arianee.net/440105186,v6lsj4vhg5dx")


@dataclass(repr=False)
class World:
    """A warehouse with orders and a planned run, and one or more ledgers of its workers."""

    uri: str
    concurrency: int = 8
    lease_seconds: float = 60.0
    ledger: CallLedger = field(init=False)
    runs: RunLedger = field(init=False)
    written: LedgerRows = field(init=False)
    rows: "psycopg.Connection[Any]" = field(init=False)
    _ledgers: list[LedgerSession] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = self.worker("worker 1")
        self.runs = self.planner()
        self.written = LedgerRows(self.uri)
        self.rows = self.written.connection

    def worker(self, name: str, **options: Any) -> CallLedger:
        options = {"lease_seconds": self.lease_seconds, "concurrency": self.concurrency, **options}
        self._ledgers.append(ledger := CallLedger(self.uri, Caller(name, **options)))
        return ledger

    def planner(self) -> RunLedger:
        """Another task that plans or checks a run."""
        self._ledgers.append(ledger := RunLedger(self.uri))
        return ledger

    def close(self) -> None:
        for ledger in self._ledgers:
            ledger.close()
        self.rows.close()

    # --- orders and runs ------------------------------------------------------------------------------------------

    def register(self, *orders: CheckedOrder, run_id: str = "run", days: Sequence[date] = (DAY,)) -> None:
        self.runs.register(
            orders,
            run_id=run_id,
            days_read=bounds_of(days, UTC_ZONE),
            pool_sizes={},
        )

    def planned(self, *keys: str, run_id: str = "run", opened: bool = True, **fields: Any) -> RunStart:
        """Registers orders of these keys and plans a run; ``opened`` spares it the first call alone."""
        self.register(*(order(key) for key in keys), run_id=run_id)
        self.runs.plan_run(plan(run_id, **fields))
        if opened:
            self.open(attempt_of(run_id))
        return attempt_of(run_id)

    def open(self, run: RunStart) -> None:
        """See ``LedgerRows.open``."""
        self.written.open(run)

    # --- calls ------------------------------------------------------------------------------------------------------

    def grant(self, run: RunStart, *keys: str, by: CallLedger | None = None, slots: int = 100) -> Grant:
        return (by or self.ledger).grant(run, keys, slots=slots)

    def intend(self, run: RunStart, key: str, by: CallLedger | None = None) -> Intent:
        """The intent that a grant for one order gives; fails where it gives none."""
        (intent,) = self.grant(run, key, by=by).intents
        return intent

    def refused(self, run: RunStart, key: str, by: CallLedger | None = None) -> Refusal:
        grant = self.grant(run, key, by=by)
        assert grant.intents == []
        (refusal,) = grant.refusals
        return refusal

    def answer(self, intent: Intent, reading: Reading, by: CallLedger | None = None) -> Settled:
        """Settles one call as the engine does."""
        ledger = by or self.ledger
        ledger.keep_answers({intent.attempt_id: RAW})
        (settled,) = ledger.settle({intent.attempt_id: reading})
        return settled

    def served(self, run: RunStart, key: str, certificate: str | None = None) -> Settled:
        return self.answer(self.intend(run, key), a_link(certificate))

    def spare(self, run: RunStart, key: str, certificate: str, own: str | None = None) -> None:
        """Serves an order by its second call, with certificate ``own``; what the first one brings late is a spare."""
        late = self.intend(run, key)
        self.end_leases()
        self.served(run, key, own)
        self.answer(late, a_link(certificate))

    def requeued(self, key: str, certificate: str) -> RunStart:
        """Serves an order and takes its link back, so that it waits again."""
        run = self.planned(key)
        self.served(run, key, certificate)
        self.reset(to="pending")
        return run

    def end_leases(self, *keys: str) -> None:
        """See ``LedgerRows.end_leases``."""
        self.written.end_leases(*keys)

    def reset(self, tag: str = "gift", to: str = "reset") -> None:
        """See ``LedgerRows.reset``."""
        self.written.reset(tag, to)

    # --- what stands there ------------------------------------------------------------------------------------------

    def state(self, key: str) -> ReservationState:
        return self.states(key)[key][0]

    def reason(self, key: str) -> str | None:
        return self.states(key)[key][1]

    def states(self, *keys: str) -> dict[str, tuple[ReservationState, str | None]]:
        """State and reason of those of some orders that the ledger knows."""
        found = self.rows.execute(
            "select order_key, state, reason from passport_ops.reservation where order_key = any(%s)", [list(keys)]
        )
        return {key: (ReservationState(state), reason) for key, state, reason in found}

    def one(self, query: str, *values: Any) -> Any:
        """The only column of the only row."""
        ((value,),) = self.rows.execute(query, values).fetchall()
        return value

    def outcome(self, intent: Intent) -> str | None:
        return self.one("select outcome from passport_ops.attempt where attempt_id = %s", intent.attempt_id)

    def passports(self) -> list[tuple[str, str, str | None]]:
        """Certificate, state and order of every passport received, in order."""
        return self.rows.execute(
            "select certificate_id, state, order_key from passport_ops.passport order by passport_id"
        ).fetchall()

    def answers_left(self) -> int:
        return self.one("select count(*) from passport_ops.answer")

    def stop_reason(self, run: RunStart) -> str | None:
        return self.one(
            "select stop_reason from passport_ops.run_attempt where run_id = %s and run_started_at = %s",
            *(run.run_id, run.started_at),
        )


@contextmanager
def world(uri: str, **options: Any) -> Iterator[World]:
    here = World(uri, **options)
    try:
        yield here
    finally:
        here.close()


def empty(uri: str) -> None:
    """Takes away every row of the ledger and of what is published; far cheaper than a new database."""
    with open_session(uri) as connection:
        tables = connection.execute(
            """
            select format('%I.%I', schemaname, tablename) from pg_tables
            where schemaname in ('passport', 'passport_ops') and tablename not in ('gate', 'alembic_version')
            """
        ).fetchall()
        connection.execute("truncate " + ", ".join(str(table) for (table,) in tables))
        connection.execute("update passport_ops.gate set next_call_at = null, paused_until = null")
