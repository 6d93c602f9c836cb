"""A limit in time for whatever waits for a server, which holds when the server or the network never says anything.

The kernel of a frozen PostgreSQL, or of a proxy that forwards nothing any more, still answers keepalives.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

LOOK_SECONDS = 0.5
"""How often the watchdog looks; so much later than its limit a connection may break."""


class _Deadline:
    """When a connection is broken, on ``time.monotonic``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        self.moment = time.monotonic() + self._seconds


_deadlines: dict[int, _Deadline] = {}  # by a duplicate of the socket's descriptor; who takes an entry out closes it
_thread: threading.Thread | None = None


@contextmanager
def answered_within(connection: "psycopg.Connection[Any]", seconds: float) -> Iterator[Callable[[], None]]:
    """Break the connection when the block takes longer: what waits for the server then raises ``OperationalError``.

    Gives what a block calls that makes progress: the seconds then count anew.
    """
    descriptor = os.dup(connection.fileno())
    deadline = _deadlines[descriptor] = _Deadline(seconds)
    _start()
    try:
        yield deadline.renew
    finally:
        if _deadlines.pop(descriptor, None) is not None:
            os.close(descriptor)


def _start() -> None:
    global _thread  # one to a process; a forked one has none yet
    if _thread is None or not _thread.is_alive():
        _thread = threading.Thread(target=_watch, name="database-watchdog", daemon=True)
        _thread.start()


def _watch() -> None:
    while True:
        time.sleep(LOOK_SECONDS)
        moment = time.monotonic()
        for descriptor, deadline in list(_deadlines.items()):
            if deadline.moment <= moment and _deadlines.pop(descriptor, None) is not None:
                with socket.socket(fileno=descriptor) as late, contextlib.suppress(OSError):
                    late.shutdown(socket.SHUT_RDWR)
