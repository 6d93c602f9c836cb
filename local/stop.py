"""``make stop``: end the local stack that runs in a state folder."""

import fcntl
import os
import signal
import sys
from pathlib import Path

from local.console import print_error, short_path, variable
from local.processes import PROJECT, wait_until
from local.stack import running

ORDERLY_SECONDS = 30
DEFAULT_STATE = PROJECT / ".state" / "run"


def main() -> int:
    """End the stack whose state is in ``STATE`` (default ``.state/run``), if there is one; return the exit code."""
    state = Path(variable("STATE") or DEFAULT_STATE).resolve()
    if _is_free(state):
        print(f"nothing is running in {short_path(state)}")
        return 0
    process = running(state)
    if process:
        process.send_signal(signal.SIGTERM)
        if not wait_until(lambda: _is_free(state), ORDERLY_SECONDS):
            process.kill()  # its guard ends the rest
    if not wait_until(lambda: _is_free(state), ORDERLY_SECONDS):
        print_error(f"the stack in {short_path(state)} does not end; look for its processes with `ps`")
        return 1
    print(f"stopped the stack in {short_path(state)}")
    return 0


def _is_free(state: Path) -> bool:
    """Say whether no stack holds the state folder, and no guard that still ends what one left."""
    try:
        lock = os.open(state / "lock", os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


if __name__ == "__main__":
    sys.exit(main())
