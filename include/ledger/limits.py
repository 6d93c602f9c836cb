"""Limits on new links: per run, and per clock day in the shop's time zone over all runs.

A call counts from its intent on, unless it certainly consumed nothing. All of it is written behind the grant lock.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from include.ledger.run_starts import RunStart
from include.sql_files import sql_of
from include.warehouse.database import Connection

sql = sql_of(__package__)


class LimitName(StrEnum):
    """The limits, by the names under which people set them; ``passport_ops.new_links.limit_reached``."""

    RUN = "max_new_links"
    DAY = "max_new_links_per_day"


@dataclass(frozen=True)
class Limit:
    """A limit, and how many new links count for it."""

    name: LimitName
    most: int
    links: int

    @property
    def left(self) -> int:
        """How many new links it leaves."""
        return max(0, self.most - self.links)

    @property
    def reason(self) -> str:
        """Why an order waits when none is left."""
        whose = "the run" if self.name is LimitName.RUN else "the day"
        return f"{whose} has its {self.most} new links ({self.name})"


class NewLinks:
    """The new links that one grant may ask for; ``limits`` are those that are set, ``clock_day`` is today."""

    def __init__(self, run: RunStart, clock_day: date, limits: Iterable[Limit]) -> None:
        self._run = run
        self.clock_day = clock_day
        self._tightest = min(limits, key=lambda limit: limit.left, default=None)
        self.free = sys.maxsize if self._tightest is None else self._tightest.left

    @property
    def reason(self) -> str | None:
        """Why an order waits when none is left."""
        return self._tightest.reason if self._tightest else None

    def take(self) -> None:
        """Count a call; ``insert_attempts`` writes it."""
        self.free -= 1

    def note(self, connection: Connection) -> None:
        """Write that a limit lets orders of the run wait."""
        if self._tightest is not None:
            parameters = {"run_id": self._run.run_id, "clock_day": self.clock_day, "limit_reached": self._tightest.name}
            connection.execute(sql("note_limit"), parameters)


def give_back(connection: Connection, calls: Iterable[tuple[str, date | None]]) -> None:
    """Count calls no more that certainly consumed nothing, each by its run and clock day."""
    counted = Counter((run_id, day) for run_id, day in calls if day is not None)
    if counted:
        parameters = {
            "run_ids": [run_id for run_id, _ in counted],
            "clock_days": [day for _, day in counted],
            "links": list(counted.values()),
        }
        connection.execute(sql("give_back_links"), parameters)
