"""Starts of runs: what belongs to one start of an Airflow run, and is written behind the grant lock."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.sql_files import sql_of
from include.warehouse.database import Connection

sql = sql_of(__package__)


@dataclass(frozen=True)
class RunStart:
    """One start of an Airflow run: empty tags, the stop and the budgets of calls belong to it.

    Clearing a finished run gives it a new ``started_at`` (time zone aware), and so a new start.
    """

    run_id: str
    started_at: datetime

    @property
    def key(self) -> dict[str, Any]:
        """The two bound parameters that name it."""
        return {"run_id": self.run_id, "run_started_at": self.started_at}


def lock_grants(connection: Connection) -> None:
    """Take the grant lock until the end of the transaction: grants, stops and empty tags are written one by one."""
    connection.execute(sql("lock_grants"))


def count_outcomes(
    connection: Connection,
    run: RunStart,
    *,
    unknown: int = 0,
    duplicates: int = 0,
    usable: bool = False,
    stop_reason: str | None = None,
) -> None:
    """Count unknown outcomes and duplicates of a run's start, and stop it where they or ``stop_reason`` demand it.

    ``usable`` says that an answer proved key and route. The grant lock must be held.
    """
    connection.execute(
        sql("count_outcomes"),
        {**run.key, "unknown": unknown, "duplicates": duplicates, "usable": usable, "stop_reason": stop_reason},
    )
