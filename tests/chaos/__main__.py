"""``make chaos SEED=… ORDERS=… KILLS=…``: one run with faults and strikes, then the checker's verdict in one line.

``ORDERS`` are served in slices and a twentieth as many one task each, by several runs at once: by hand (twice), by
the schedule, and by a backfill that is told to redo all runs. The NMP answers with a mix of faults, customers claim,
and ``KILLS`` strikes hit processes: SIGKILL, a freeze (SIGSTOP for 5 to 90 seconds, then SIGCONT), or a silent cut of
their connections to the warehouse. At the end faults stop, the runs are cleared until every order is served, and the
checker decides.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from local.processes import LocalStackError
from sandbox.errors import SandboxError
from tests.chaos.run import Plan, run


def main() -> int:
    """Read the arguments, run, print the verdict last; 0 only when every promise held."""
    parser = argparse.ArgumentParser(prog="make chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10, help="how many strikes")
    parser.add_argument("--state", type=Path, help="where to keep the state; default: a folder that is deleted")
    given = parser.parse_args()
    began = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {words}", flush=True)

    with tempfile.TemporaryDirectory(prefix="passport-links-chaos-") as temporary:
        folder = given.state or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            verdict = run(Plan(given.seed, given.orders, given.kills), folder, say)
        except (LocalStackError, SandboxError) as error:
            say(str(error))
            return 2
    for finding in verdict.findings:
        say(finding)
    say(verdict.line)
    return 0 if verdict.held else 1


if __name__ == "__main__":
    sys.exit(main())
