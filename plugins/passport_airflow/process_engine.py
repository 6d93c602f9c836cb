"""The one reserving engine of a process, made from Airflow's connections."""

import atexit
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from include.ledger.session import Ledger, RunStart
from include.nmp.client import NmpClient
from include.nmp.connection import NmpConnection
from include.reserving import EngineSettings, ReservingEngine
from include.settings import settings
from passport_airflow.connections import PostgresDatabase, warehouse
from passport_airflow.nmp_hook import NmpHook

CONNECTIONS_HOLD_SECONDS = 5.0


@dataclass(frozen=True)
class Connections:
    """Where an engine works; read from Airflow's connections, which may change while a triggerer runs."""

    warehouse: PostgresDatabase
    nmp: NmpConnection


class ProcessEngine:
    """An engine and a ledger connection for looking up which task serves which order."""

    def __init__(self, places: Connections) -> None:
        chosen = settings()
        self.engine = ReservingEngine(
            places.warehouse,
            NmpClient(places.nmp, pool_size=chosen.concurrency),
            places.nmp.rules,
            EngineSettings(
                concurrency=chosen.concurrency,
                call_deadline_seconds=chosen.call_deadline_seconds,
                lease_seconds=chosen.lease_seconds,
            ),
        )
        self._ledger = Ledger(
            places.warehouse,
            lease_seconds=chosen.lease_seconds,
            concurrency=chosen.concurrency,
            caller=self.engine.caller,
        )
        self._looking = threading.Lock()

    def orders_of_task(self, run_id: str, map_index: int) -> tuple[bool, list[str]]:
        """Whether the run is sliced, and the order keys of one of its mapped tasks; see ``Ledger.orders_of_task``."""
        with self._looking:
            return self._ledger.orders_of_task(run_id, map_index)

    def close(self) -> None:
        """Settles what is under way and ends; see ``ReservingEngine.close``."""
        self.engine.close()
        with self._looking:
            self._ledger.close()


_lock = threading.Lock()
_current: tuple[Connections, ProcessEngine] | None = None
_reading = threading.Lock()
_read: tuple[float, Connections] | None = None


def process_engine() -> ProcessEngine:
    """The engine of this process; a new one after a connection was changed, while the old one settles its calls.

    Reads Airflow's connections, so it blocks. Raises ``AirflowFailException`` or ``NmpConfigurationError`` for a
    connection that is missing or wrong.
    """
    global _current  # one engine to a process is the point
    places = _places()
    with _lock:
        if _current is None or _current[0] != places:
            if _current is not None:
                threading.Thread(target=_current[1].close, name="former-engine").start()
            _current = (places, ProcessEngine(places))
        return _current[1]


def _places() -> Connections:
    """What the connections say, or said a moment ago: many triggers begin at once, and Airflow answers one by one."""
    global _read
    with _reading:
        if _read is None or time.monotonic() - _read[0] > CONNECTIONS_HOLD_SECONDS:
            places = Connections(warehouse(), NmpHook().nmp_connection())
            _read = (time.monotonic(), places)
        return _read[1]


def close_process_engine() -> None:
    """Ends the engine of this process, if it has one; waits until every answer is settled."""
    global _current, _read
    with _lock:
        current, _current = _current, None
        _read = None
    if current is not None:
        current[1].close()


# a triggerer that is asked to end settles what it can: threads of calls are joined before this runs
atexit.register(close_process_engine)


def run_attempt(run_id: str, started_at: datetime | None) -> RunStart:
    """The attempt of a run, by when the run (last) started; raises ``ValueError`` for a run that has not."""
    if started_at is None:
        message = f"run {run_id} has no start date"
        raise ValueError(message)
    return RunStart(run_id, started_at)
