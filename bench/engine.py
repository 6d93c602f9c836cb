"""What the ledger costs: the engine beside a plain client with as many threads, on the sandbox, in turn.

``PYTHONPATH=. python -P bench/engine.py [--orders 1000] [--latency-ms 150] [--rounds 5]``. The last line on standard
output is one JSON object with the medians in seconds and the median ratio of the rounds.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from include.campaigns import OnUnknown
from include.ledger.run_starts import RunStart
from include.ledger.runs import RunLedger, RunPlan
from include.nmp.answers import LinkRules
from include.nmp.client import NmpClient
from include.nmp.connection import NmpConnection
from include.orders import CheckedOrder
from include.reserving import EngineSettings, OrderResult, ReservingEngine
from include.warehouse.database import Connect, connecting_to
from include.warehouse.migrate import migrate
from local.postgres import EmbeddedPostgres
from local.processes import Guard
from local.stack import Ports
from sandbox.server import SandboxServer

CONCURRENCY = 32
DAY = date(2026, 11, 22)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def plain(connection: NmpConnection, orders: int) -> float:
    """Seconds that a client without a ledger takes."""
    client = NmpClient(connection, pool_size=CONCURRENCY)
    began = time.monotonic()
    with ThreadPoolExecutor(CONCURRENCY) as threads:
        answers = list(threads.map(lambda _: client.reserve("plain", deadline=time.monotonic() + 30), range(orders)))
    seconds = time.monotonic() - began
    client.close()
    assert all(answer.status == 200 for answer in answers)
    return seconds


def planned(warehouse: Connect, run_id: str, orders: int) -> tuple[RunStart, list[str]]:
    """Plan a run of so many new orders; give its start and the order keys."""
    keys = [f"{run_id}-{order:06}" for order in range(orders)]
    with RunLedger(warehouse) as ledger:
        eligible = [
            CheckedOrder(
                *(row, key, key, None, None, NOON, NOON, DAY),
                *("c", "engine", OnUnknown.REISSUE, timedelta(days=30), None),
            )
            for row, key in enumerate(keys, 1)
        ]
        ledger.register(eligible, run_id=run_id, days_read={}, pool_sizes={})
        ledger.plan_run(RunPlan(run_id, (DAY,), False, 0, 1, 2, 20, 3, 3))
    return RunStart(run_id, datetime.now(UTC)), keys


def engine(warehouse: Connect, connection: NmpConnection, orders: int, number: int) -> float:
    """Seconds that the engine takes for a planned run of new orders."""
    run, keys = planned(warehouse, f"run {number}", orders)
    serving = ReservingEngine(
        warehouse,
        NmpClient(connection, pool_size=CONCURRENCY),
        LinkRules(),
        EngineSettings(concurrency=CONCURRENCY),
    )
    began = time.monotonic()
    outcomes = serving.reserve_all(run, keys)
    seconds = time.monotonic() - began
    serving.close()
    assert all(outcome.result is OrderResult.SERVED for outcome in outcomes)
    return seconds


def main() -> int:
    """Measures in turn and prints each round, then the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--latency-ms", type=float, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    guard = Guard()
    with tempfile.TemporaryDirectory(prefix="passport-links-bench-") as folder, SandboxServer() as sandbox:
        postgres = EmbeddedPostgres(Path(folder) / "postgres", Ports.free().postgres, guard=guard)
        try:
            postgres.start()
            postgres.create_database("bench")
            warehouse = connecting_to(postgres.uri("bench"))
            migrate(warehouse)
            connection = NmpConnection.validated(sandbox.start(), sandbox.api_key)
            sandbox.control().set_switches(latency_ms=given.latency_ms)
            pairs = []
            for number in range(given.rounds):
                pairs.append((plain(connection, given.orders), engine(warehouse, connection, given.orders, number)))
                print(f"plain {pairs[-1][0]:6.2f} s   engine {pairs[-1][1]:6.2f} s", flush=True)
        finally:
            postgres.stop()
            guard.dismiss()
    summary = {
        "orders": given.orders,
        "latency_ms": given.latency_ms,
        "plain_seconds": round(statistics.median(pair[0] for pair in pairs), 2),
        "engine_seconds": round(statistics.median(pair[1] for pair in pairs), 2),
        "ratio": round(statistics.median(pair[1] / pair[0] for pair in pairs), 2),
    }
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
