"""Ends the local stack's processes when their parent is gone: ``python -m local.guard``.

Reads one session per line from standard input (leader, start time, stop signal). The pipe closes when the parent ends,
in whatever way: then the sessions end in the reverse order of their start, so that PostgreSQL goes last.
"""

import signal
import sys

from local.processes import Session, end_sessions

GRACE_SECONDS = 3


def main() -> None:
    """Wait for the parent's end, then end what it left."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sessions = []
    for line in sys.stdin:
        leader, began, stop_signal = line.split()
        sessions.append(Session(int(leader), float(began), int(stop_signal)))
    if not sessions:
        return
    first, *later = sessions
    end_sessions(reversed(later), GRACE_SECONDS)
    end_sessions([first], GRACE_SECONDS)


if __name__ == "__main__":
    main()
