"""The pace of calls over all runs and processes: the slots of ``calls_per_second``, and pauses that the NMP asks for.

The gate row holds both; whoever reads it to grant, or writes it, holds the grant lock.
"""

import math
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.nmp.answers import RETRY_AFTER_LIMIT
from include.sql_files import sql_of
from include.warehouse.database import Connection

sql = sql_of(__package__)

MOST_AHEAD_SECONDS = 1.0
"""A slot further ahead is not given yet: an engine that is killed takes its slots with it."""


@dataclass(frozen=True)
class Gate:
    """The gate row, read at ``read_at`` by a transaction that began at ``began_at``; all times are the database's.

    ``next_call_at`` is the first slot that nobody has.
    """

    began_at: datetime
    read_at: datetime
    next_call_at: datetime | None
    paused_until: datetime | None


class Slots:
    """The slots that one grant may give: each call its own moment, ``1 / per_second`` seconds apart.

    Without ``per_second`` every call may begin at once. A slot that nobody took in time is lost, so that no burst
    follows a quiet time.
    """

    def __init__(self, gate: Gate, per_second: float | None) -> None:
        self._read_at = gate.read_at
        self._waited = (gate.read_at - gate.began_at).total_seconds()
        self._apart = 1.0 / per_second if per_second else 0.0
        # Times further ahead than anybody writes are of a clock that was set back, or of another setting.
        self._pause = _seconds_until(gate.paused_until, gate.read_at, most=RETRY_AFTER_LIMIT)
        self._next = _seconds_until(gate.next_call_at, gate.read_at, most=2 * MOST_AHEAD_SECONDS + self._apart)

    def free(self) -> int:
        """Give how many calls may begin; no end of them without a pace."""
        if self._pause:
            return 0
        if not self._apart:
            return sys.maxsize
        return max(0, math.floor((MOST_AHEAD_SECONDS - self._next) / self._apart) + 1)

    def take(self) -> float:
        """Take the next slot; give the seconds from the transaction's begin until the call may begin."""
        wait = self._waited + self._next if self._apart else 0.0
        self._next += self._apart
        return wait

    def seconds_to_wait(self) -> float:
        """Give the seconds until it is of use to ask again; 0 while a slot is free."""
        if self.free():
            return 0.0
        # Then there are slots for half that time at once: a transaction for each would be many.
        return max(self._pause, self._next - MOST_AHEAD_SECONDS / 2)

    def write(self, connection: Connection) -> None:
        """Write where the slots that were taken end."""
        if self._apart:
            connection.execute(sql("advance_pace"), {"next_call_at": self._read_at + timedelta(seconds=self._next)})


def pause_calls(connection: Connection, seconds: float) -> None:
    """Let no intent begin for ``seconds`` from now, in any process. The grant lock must be held."""
    connection.execute(sql("pause_calls"), {"seconds": seconds})


def _seconds_until(moment: datetime | None, now: datetime, *, most: float) -> float:
    seconds = (moment - now).total_seconds() if moment else 0.0
    return seconds if 0.0 < seconds <= most else 0.0
