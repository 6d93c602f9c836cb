"""How well several processes keep ``calls_per_second`` together: when their calls arrive at the sandbox.

``PYTHONPATH=. python -P bench/pace.py [--per-second 20 200] [--seconds 30] [--processes 4] [--latency-ms 50]``. The
last line on standard output is one JSON object: for each pace the calls per second from the first to the last, and the
most within any five seconds, both as a share of the pace.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
from pathlib import Path

from bench.engine import CONCURRENCY, planned
from include.ledger.run_starts import RunStart
from include.nmp.answers import LinkRules
from include.nmp.client import NmpClient
from include.nmp.connection import NmpConnection
from include.reserving import EngineSettings, OrderResult, ReservingEngine
from include.warehouse.database import connecting_to
from include.warehouse.migrate import migrate
from local.postgres import EmbeddedPostgres
from local.processes import Guard
from local.stack import Ports
from sandbox.server import SandboxServer

WINDOW_SECONDS = 5.0


def serve(uri: str, base_url: str, api_key: str, run: RunStart, keys: list[str], per_second: float) -> None:
    """Serve these orders in a process of their own."""
    client = NmpClient(NmpConnection(base_url, api_key), pool_size=CONCURRENCY)
    settings = EngineSettings(concurrency=CONCURRENCY, calls_per_second=per_second)
    engine = ReservingEngine(connecting_to(uri), client, LinkRules(), settings)
    outcomes = engine.reserve_all(run, keys)
    engine.close()
    assert all(outcome.result is OrderResult.SERVED for outcome in outcomes)


def shares(times: list[float], per_second: float) -> dict[str, float]:
    """Give the mean pace, and that of the fullest window, as shares of the pace that was asked for."""
    first, most = 0, 0
    for last, moment in enumerate(times):
        while times[first] <= moment - WINDOW_SECONDS:
            first += 1
        most = max(most, last - first + 1)
    mean = (len(times) - 1) / (times[-1] - times[0])
    return {"mean": round(mean / per_second, 3), "fullest": round(most / WINDOW_SECONDS / per_second, 3)}


def main() -> int:
    """Measure each pace in turn and print it, then the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--per-second", type=float, nargs="+", default=[20.0, 200.0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--latency-ms", type=float, default=50)
    given = parser.parse_args()
    summary = {}
    guard = Guard()
    spawning = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="passport-links-bench-") as folder, SandboxServer() as sandbox:
        postgres = EmbeddedPostgres(Path(folder) / "postgres", Ports.free().postgres, guard=guard)
        try:
            postgres.start()
            postgres.create_database("bench")
            uri = postgres.uri("bench")
            warehouse = connecting_to(uri)
            migrate(warehouse)
            base_url = sandbox.start()
            control = sandbox.control()
            control.set_switches(latency_ms=given.latency_ms)
            for per_second in given.per_second:
                run, keys = planned(warehouse, f"run at {per_second:g}", int(per_second * given.seconds))
                since = control.counters()["last_seq"]
                engines = [
                    spawning.Process(
                        target=serve,
                        args=(uri, base_url, sandbox.api_key, run, keys[n :: given.processes], per_second),
                    )
                    for n in range(given.processes)
                ]
                for engine in engines:
                    engine.start()
                for engine in engines:
                    engine.join()
                times = sorted(entry["time"] for entry in control.history(since))
                summary[f"{per_second:g}"] = shares(times, per_second)
                print(f"{per_second:g} a second: {summary[f'{per_second:g}']}", flush=True)
        finally:
            postgres.stop()
            guard.dismiss()
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
