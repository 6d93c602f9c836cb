"""The one reserving engine of a process, made from Airflow's connections."""

import atexit
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from include.ledger.run_starts import RunStart
from include.ledger.runs import RunLedger
from include.nmp.connection import NmpConnection
from include.reserving import HOLD_SECONDS, EngineSettings, ReservingEngine
from include.settings import settings
from passport_airflow.connections import PostgresDatabase, warehouse
from passport_airflow.grant_memory import memory_of
from passport_airflow.nmp_hook import NmpHook

CONNECTIONS_HOLD_SECONDS = 5.0
"""How long what Airflow said of the connections counts."""

LOOKUP_SECONDS = 1.0
"""How long a closing engine waits for a look-up, which may wait for a silent network."""


@dataclass(frozen=True)
class Connections:
    """What Airflow's connections say; they may be changed while a triggerer runs."""

    warehouse: PostgresDatabase
    nmp: NmpConnection


class ProcessEngine(ReservingEngine):
    """A reserving engine that also looks up which task serves which orders."""

    def __init__(self, connections: Connections) -> None:
        from include.nmp.client import NmpClient  # imports requests, which parsing a DAG file does not need

        chosen = settings()
        self._lookups = RunLedger(connections.warehouse)
        memory = memory_of(self._lookups)
        super().__init__(
            connections.warehouse,
            NmpClient(connections.nmp, pool_size=chosen.concurrency),
            connections.nmp.rules,
            EngineSettings(
                concurrency=chosen.concurrency,
                call_deadline_seconds=chosen.call_deadline_seconds,
                lease_seconds=chosen.lease_seconds,
                calls_per_second=chosen.calls_per_second,
                max_new_links_per_day=chosen.max_new_links_per_day,
                timezone=chosen.shop_timezone,
            ),
            memory,
        )
        self._looking_up = threading.Lock()

    def orders_of_task(self, run_id: str, map_index: int) -> tuple[bool, list[str]]:
        """Say whether the run is sliced, and give the order keys of a mapped task."""
        with self._looking_up:
            return self._lookups.orders_of_task(run_id, map_index)

    def close(self, hold_seconds: float = HOLD_SECONDS) -> None:
        """Settle the calls under way and end; see ``ReservingEngine.close``."""
        super().close(hold_seconds)
        if self._looking_up.acquire(timeout=LOOKUP_SECONDS):
            self._lookups.close()
            self._looking_up.release()


_lock = threading.Lock()
_current: tuple[Connections, ProcessEngine] | None = None
_reading = threading.Lock()
_read: tuple[float, Connections] | None = None


def process_engine() -> ProcessEngine:
    """Give the engine of this process; a new one after a connection was changed, while the old one settles its calls.

    Reads Airflow's connections and what it remembers of the ledger, so it blocks. Raises ``AirflowFailException`` or
    ``NmpConfigurationError`` for a connection that is missing or wrong, ``SafeDatabaseError`` for a ledger that cannot
    be read.
    """
    global _current  # one engine to a process is the point
    connections = _connections()
    with _lock:
        if _current is None or _current[0] != connections:
            if _current is not None:
                threading.Thread(target=_current[1].close, name="former-engine").start()
            _current = (connections, ProcessEngine(connections))
        return _current[1]


def _connections() -> Connections:
    """Read Airflow's connections, but not for each of many triggers that begin at once: Airflow answers one by one."""
    global _read
    with _reading:
        if _read is None or time.monotonic() - _read[0] > CONNECTIONS_HOLD_SECONDS:
            connections = Connections(warehouse(), NmpHook().nmp_connection())
            _read = (time.monotonic(), connections)
        return _read[1]


def close_process_engine() -> None:
    """End the engine of this process, if it has one; waits until every answer is settled."""
    global _current, _read
    with _lock:
        current, _current = _current, None
        _read = None
    if current is not None:
        current[1].close()


# A triggerer that is asked to end settles what it can: the threads of the calls end before this runs.
atexit.register(close_process_engine)


def run_start(run_id: str, started_at: datetime | None) -> RunStart:
    """Give the start of a run, by when Airflow last started it; raises ``ValueError`` for a run without start date."""
    if started_at is None:
        message = f"run {run_id} has no start date"
        raise ValueError(message)
    return RunStart(run_id, started_at)
