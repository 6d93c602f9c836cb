"""A reserving engine as a process of its own that tests can kill at a chosen point, or run with a clock that is wrong.

``python -m tests.include.engine_process '{"uri": …, "nmp": …, "keys": […], …}'`` prints one verdict per key.
"""

import json
import os
import signal
import sys
import time
from typing import Any

from include.ledger.calls import CallLedger
from include.nmp.answers import LinkRules, RawAnswer
from include.nmp.client import NmpClient
from include.nmp.connection import NmpConnection
from include.reserving import EngineSettings, ReservingEngine
from include.warehouse.database import connecting_to
from tests.builders.world import attempt_of


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class Client(NmpClient):
    """Dies before its request leaves, or with the answer in hand."""

    dies = ""

    def reserve(self, tag: str, *, deadline: float) -> RawAnswer:
        if self.dies == "before the call":
            die()
        answer = super().reserve(tag, deadline=deadline)
        if self.dies == "with the answer in hand":
            die()
        return answer


def after(method: Any) -> Any:
    def and_die(*arguments: Any, **options: Any) -> Any:
        method(*arguments, **options)
        die()

    return and_die


def main() -> None:
    given = json.loads(sys.argv[1])
    skew = given.get("clock_is_ahead_by", 0.0)
    wall, monotonic = time.time, time.monotonic
    time.time = lambda: wall() + skew
    time.monotonic = lambda: monotonic() + abs(skew)  # begins anywhere, but is never negative
    Client.dies = given.get("dies", "")
    if Client.dies == "with the intent committed":
        CallLedger.grant = after(CallLedger.grant)  # type: ignore[method-assign]
    elif Client.dies == "with the answer committed":
        CallLedger.keep_answers = after(CallLedger.keep_answers)  # type: ignore[method-assign]
    elif Client.dies == "with the answer settled":
        CallLedger.settle = after(CallLedger.settle)  # type: ignore[method-assign]
    client = Client(NmpConnection(given["nmp"], given["api_key"]))
    settings = EngineSettings(
        given.get("concurrency", 8), given.get("deadline", 0.5), given.get("lease", 1.0), given.get("per_second")
    )
    engine = ReservingEngine(connecting_to(given["uri"]), client, LinkRules(), settings)
    for outcome in engine.reserve_all(attempt_of(given.get("run_id", "run")), given["keys"]):
        print(outcome.order_key, outcome.result, flush=True)
    engine.close()


if __name__ == "__main__":
    main()
