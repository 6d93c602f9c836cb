"""Starts of runs: what belongs to one start of an Airflow run, and is written behind the grant lock."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.sql_files import sql_of
from include.warehouse.database import Connection

sql = sql_of(__package__)


@dataclass(frozen=True)
class RunStart:
    """One start of an Airflow run: empty tags, refusals and the stop belong to it, and it says which budgets count.

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


def begin(connection: Connection, run: RunStart) -> None:
    """Make the row of a run's start at its first grant, and take the grant lock until the end of the transaction.

    A start whose budget of unknown outcomes was used up by earlier runs of its day begins stopped.
    """
    is_new = connection.execute(sql("add_run_start"), run.key).fetchone() is not None
    lock_grants(connection)
    if is_new:
        count_outcomes(connection, run)


def count_outcomes(
    connection: Connection,
    run: RunStart,
    *,
    usable: bool = False,
    refusal: str | None = None,
    stop_reason: str | None = None,
) -> None:
    """Open a run's start if an answer was ``usable``, and stop it where the outcomes of its calls demand it.

    The outcomes are those that its calls have in the ledger. ``stop_reason`` stops it at once; ``refusal``, the words
    of an answer that refused a call, does so before its first usable answer. The grant lock must be held.
    """
    connection.execute(
        sql("count_outcomes"), {**run.key, "usable": usable, "refusal": refusal, "stop_reason": stop_reason}
    )
