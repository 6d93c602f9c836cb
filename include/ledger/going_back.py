"""What a caller remembers of the ledger, so that it notices when the ledger went back in time.

A ledger that was restored from a backup, or lost its last commits in a failover, shows orders as unserved that have a
link. ``docs/recovery.md`` says what to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from include.ledger.intents import Intent
from include.ledger.session import LedgerError, LedgerSession
from include.sql_files import sql_of
from include.warehouse.database import Connection, read_rows

sql = sql_of(__package__)

WHAT_TO_DO = (
    "orders that look unserved may have a link, so nothing is asked for: stop whatever sends links, then run "
    "`make recover SINCE=<time of the backup>` (docs/recovery.md)"
)


class WentBackError(LedgerError):
    """The ledger has lost what was committed before."""

    def __init__(self, count: "GrantCount", remembered: int) -> None:
        why = f"it counts {count.grants} grants"
        if count.grants < remembered:
            why += f", and {remembered} were seen"
        elif not count.has_last_call:
            why = "it has lost a call that was committed"
        super().__init__(f"the warehouse went back in time ({why}): {WHAT_TO_DO}")


@dataclass(frozen=True)
class GrantCount:
    """A ledger's own identity and how many grants it counts.

    ``went_back`` says that somebody noticed before that it went back in time, and ``remembered`` how many grants that
    one knew of. ``has_last_call`` says whether it has the call that was asked about.
    """

    warehouse_id: UUID
    grants: int
    went_back: bool
    remembered: int
    has_last_call: bool = True


@dataclass
class Memory:
    """What a caller last knew of one ledger.

    ``grants`` is the highest number of grants it saw; ``last_call`` the last call whose intent it committed or whose
    answer it settled. Another ``warehouse_id`` is another ledger, of which it knows nothing.
    """

    warehouse_id: UUID | None = None
    grants: int = 0
    last_call: Intent | None = None
    settled: bool = False

    def compare(self, connection: Connection) -> GrantCount:
        """Give the ledger's count; raises ``WentBackError`` where the ledger has less than is remembered of it."""
        count = read_grants(connection, self.last_call, settled=self.settled)
        known = self if count.warehouse_id == self.warehouse_id else Memory()
        if count.grants < known.grants or count.went_back or not (known.last_call is None or count.has_last_call):
            raise WentBackError(count, max(known.grants, count.remembered))
        return count

    def remember(self, warehouse_id: UUID, grants: int, last_call: Intent | None = None) -> None:
        """Keep the highest number of grants, and the last call if there is one; of this ledger alone."""
        if warehouse_id != self.warehouse_id:
            self.warehouse_id, self.grants, self.last_call = warehouse_id, grants, None
        self.grants = max(self.grants, grants)
        if last_call is not None:
            self.last_call, self.settled = last_call, False

    def remember_settled(self, call: Intent) -> None:
        """Keep that the outcome of a call is committed."""
        self.last_call, self.settled = call, True


def read_grants(connection: Connection, last_call: Intent | None = None, *, settled: bool = False) -> GrantCount:
    """Give the ledger's identity and count, and whether it has this call and, if ``settled``, its outcome."""
    parameters = {
        "attempt_id": last_call.attempt_id if last_call else None,
        "intent_id": last_call.intent_id if last_call else None,
        "settled": settled,
    }
    [count] = read_rows(connection, GrantCount, sql("read_grants"), parameters)
    return count


@contextmanager
def noticing(ledger: LedgerSession, memory: Memory) -> Iterator[None]:
    """Write down when the block finds that the ledger went back in time, so that nobody is granted anything.

    A recovery ends that. The block's transaction is over by then.
    """
    try:
        yield
    except WentBackError:
        with ledger.transaction() as connection:
            parameters = {"warehouse_id": memory.warehouse_id, "remembered": memory.grants}
            connection.execute(sql("note_went_back"), parameters)
        raise
