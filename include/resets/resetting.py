"""Reset one tag: take back all its unclaimed links, on the NMP and in the ledger.

That is done only when all its live links are stale; ``include.resets.planning`` says what that means.

The NMP's resetAll works on a whole tag, answers with a count and nothing else, and has no idempotency key. Links that
were out may go on working after it.

Each step of a reset is committed before the next one. So the next try finishes a reset that was killed:

1. Close the tag and commit the intent. From here on no intent is granted for the tag.
2. Wait until the lease of the last call for the tag has ended.
3. Check again that all live links are stale. Commit that the NMP is being asked.
4. Ask the NMP.
5. In one transaction: take the links back, end the passports, raise the epoch, open the tag, save the NMP's count.

No plan skips a closed tag. Not preventable: the NMP carries out a request long after its caller gave up.
``docs/lifecycle.md`` says which rows each step locks.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import psycopg
from psycopg.rows import scalar_row

from include.campaigns import Campaign
from include.ledger.leases import lapse_calls_of_tag
from include.ledger.states import TagState
from include.nmp.errors import NmpError, NmpUnreadableError
from include.resets.planning import ResetError, what_blocks_now
from include.sql_files import sql_of
from include.warehouse.database import Connect, Connection, open_session, read_rows, safe_errors
from include.warehouse.transactions import Kind, again_after_limit, limited_transaction

sql = sql_of(__package__)
log = logging.getLogger(__name__)

CALLS_PER_TRY = 3
"""How often one try asks the NMP while its answers get lost; another resetAll cancels what is still reserved."""


class ResetState(StrEnum):
    """The state of a reset; ``passport_ops.tag_reset.state``."""

    INTENDED = "intended"  # the tag is closed, the NMP was not asked yet
    DONE = "done"
    UNKNOWN = "unknown"  # the NMP is being asked, or its answer was lost; the tag stays closed
    REFUSED = "refused"  # the NMP did nothing, or was not asked


@dataclass(frozen=True)
class ResetDone:
    """A finished reset: ``nmp_count`` is what the NMP says it cancelled (None: its answer was unreadable)."""

    nmp_count: int | None
    orders_reset: int
    orders_requeued: int
    spares_ended: int

    def __str__(self) -> str:
        """Say it as one line of a log."""
        count = "an unreadable number of" if self.nmp_count is None else self.nmp_count
        return (
            f"the NMP cancelled {count} reservations; {self.orders_reset} orders lost their link, "
            f"{self.orders_requeued} of them wait for a new one; {self.spares_ended} spares ended"
        )


@dataclass(frozen=True)
class ResetBlocked:
    """A reset that was not begun, or was given up before the NMP was asked, because of ``why``."""

    why: str

    def __str__(self) -> str:
        """Say it as one line of a log."""
        return f"not reset: {self.why}"


class Resetter(Protocol):
    """What a reset needs of the NMP; ``include.nmp.client.NmpClient`` is one."""

    def reset_all(self, tag: str) -> int:
        """Reset a tag and return the NMP's count; raises ``include.nmp.errors.NmpError``."""
        ...


def reset_tag(
    connect: Connect,
    nmp: Resetter,
    tag: str,
    *,
    run_id: str,
    campaigns: Sequence[Campaign],
    synced_since: datetime,
    pause_seconds: float = 2.0,
) -> ResetDone | ResetBlocked:
    """Reset one tag, or go on with a reset of it that did not finish.

    Whether all its live links are stale is checked twice more, while no intent can be granted for it: when it is
    closed, and after its last call ended, because that call may have brought a new link. ``pause_seconds`` is the time
    between two looks at the leases and between two requests.

    Raises ``ResetError`` when the NMP refuses (the tag is open again), when its answers get lost (the tag stays closed
    until a later try gets an answer) or when another process carries the reset out;
    ``include.warehouse.database.SafeDatabaseError`` when the database fails. Try again after each of them.
    """
    with (
        safe_errors(f"The reset of tag {tag!r} stopped"),
        open_session(connect, autocommit=True, application_name="passport-links reset") as work,
        open_session(connect, application_name="passport-links reset") as owner,
    ):
        begun = _begin(work, tag, run_id, campaigns, synced_since)
        if isinstance(begun, ResetBlocked):
            return begun
        reset = TagReset(work, owner, tag, begun)
        reset.own()
        reset.wait_for_calls(pause_seconds)
        if not begun.asked_before:
            if blocked := what_blocks_now(work, tag, campaigns, synced_since):
                reset.give_up(f"not begun: {blocked}")
                return ResetBlocked(blocked)
            reset.mark_asked()
        answer = _ask(nmp, tag, pause_seconds)
        if answer.is_done:
            return reset.finish(answer, run_id, campaigns)
        if answer.lost or begun.asked_before:
            reset.leave_unknown(answer)
            left = "may or may not be reset, and stays closed until a try gets an answer"
        else:
            reset.give_up(f"the NMP did nothing: {answer.error}")
            left = "was not reset and is open again"
        message = f"tag {tag!r} {left}: {answer.error}"
        raise ResetError(message)


# -- the NMP -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Answer:
    """The NMP's last answer to a reset.

    ``is_done`` says whether this answer proves the reset, ``count`` how many reservations the NMP says it cancelled
    (None: not done, or unreadable), ``lost`` how many answers were lost, ``error`` what was wrong with the last one.
    """

    is_done: bool
    count: int | None
    lost: int
    error: NmpError | None = None


def _ask(nmp: Resetter, tag: str, pause_seconds: float) -> _Answer:
    """Ask the NMP to reset a tag, again while its answers get lost; raises nothing that the NMP causes."""
    lost = 0
    while True:
        try:
            return _Answer(True, nmp.reset_all(tag), lost)
        except NmpUnreadableError as error:
            return _Answer(True, None, lost, error)
        except NmpError as error:
            lost += error.possibly_done
            if not error.possibly_done or lost == CALLS_PER_TRY:
                return _Answer(False, None, lost, error)
            log.warning("%s; asking again", error)
            time.sleep(pause_seconds)


# -- the database ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tag:
    """A row of ``passport_ops.tag``."""

    state: str
    epoch: int
    resetting_since: datetime | None


@dataclass(frozen=True)
class _ResetRow:
    """A row of ``passport_ops.tag_reset``."""

    reset_id: int
    state: str


@dataclass(frozen=True)
class _Begun:
    """A reset whose intent is committed; ``asked_before`` says whether an earlier try may have asked the NMP."""

    reset_id: int
    resetting_since: datetime | None
    asked_before: bool


@again_after_limit
def _begin(
    work: Connection, tag: str, run_id: str, campaigns: Sequence[Campaign], synced_since: datetime
) -> _Begun | ResetBlocked:
    """Close the tag and commit the intent, or find the one that an earlier try committed."""
    with limited_transaction(work, Kind.LONG):
        found = read_rows(work, _Tag, sql("lock_tag"), {"tag": tag})
        if not found:
            return ResetBlocked("no order ever named this tag")
        if found[0].state == TagState.OPEN:
            if blocked := what_blocks_now(work, tag, campaigns, synced_since):
                return ResetBlocked(blocked)
            found = read_rows(work, _Tag, sql("close_tag"), {"tag": tag})
        [closed] = found
        intent = {"tag": tag, "run_id": run_id, "epoch": closed.epoch}
        [reset] = read_rows(work, _ResetRow, sql("under_way"), intent) or read_rows(
            work, _ResetRow, sql("intend"), intent
        )
        return _Begun(reset.reset_id, closed.resetting_since, asked_before=reset.state == ResetState.UNKNOWN)


class TagReset:
    """A reset whose intent is committed, and the two connections that carry it out.

    ``owner`` locks the reset's row, and nothing else, while the NMP works. ``work`` writes what becomes of the reset,
    in limited transactions.
    """

    def __init__(self, work: Connection, owner: Connection, tag: str, begun: _Begun) -> None:
        self._work = work
        self._owner = owner
        self._tag = tag
        self._begun = begun

    def own(self) -> None:
        """Lock the reset's row until the next step, so that two processes never carry out one reset."""
        self._lock_row(self._owner)

    def _lock_row(self, connection: Connection) -> None:
        try:
            unfinished = connection.execute(sql("own"), {"reset_id": self._begun.reset_id}).fetchone()
        except psycopg.errors.LockNotAvailable:
            unfinished = None
        if unfinished is None:
            message = (
                f"another process is resetting tag {self._tag!r}, or has just done so: "
                "wait for it, then clear this task"
            )
            raise ResetError(message)

    @contextmanager
    def _step(self) -> Iterator[Connection]:
        """Open a limited transaction that has the reset's row, to write what becomes of the reset."""
        self._owner.commit()  # another process that takes the row in this moment finds the reset unfinished and goes on
        with limited_transaction(self._work, Kind.LONG) as work:
            self._lock_row(work)
            yield work

    def wait_for_calls(self, pause_seconds: float) -> None:
        """Wait until no call for the tag is under way; no new one is granted, so this ends with the longest lease."""
        waits = self._work.cursor(row_factory=scalar_row)
        while True:
            lapse_calls_of_tag(self._work, self._tag)
            seconds: float | None = waits.execute(sql("seconds_to_wait"), {"tag": self._tag}).fetchone()
            if seconds is None:
                return
            log.info("Tag %s: a call is under way, its lease ends in %.0f s", self._tag, seconds)
            # A call may be answered long before its lease ends.
            time.sleep(min(max(seconds, 0.01), pause_seconds))

    def mark_asked(self) -> None:
        """Commit that the NMP is being asked: from here on it may have done the reset."""
        with self._step() as work:
            self._save(work, ResetState.UNKNOWN, "the NMP is being asked")
        self.own()  # the commit let go of the row

    @again_after_limit
    def give_up(self, detail: str) -> None:
        """Open the tag again, because the NMP did nothing, and commit."""
        with self._step() as work:
            work.execute(sql("reopen_tag"), {"tag": self._tag})
            self._save(work, ResetState.REFUSED, detail)

    def leave_unknown(self, answer: _Answer) -> None:
        """Commit why nobody knows whether the NMP did it; the tag stays closed."""
        with self._step() as work:
            self._save(work, ResetState.UNKNOWN, f"the NMP gave no usable answer: {answer.error}")

    @again_after_limit
    def finish(self, answer: _Answer, run_id: str, campaigns: Sequence[Campaign]) -> ResetDone:
        """Take the links back in the ledger and open the tag, in one transaction with the NMP's count."""
        with self._step() as work:
            return self._take_back(work, answer, run_id, campaigns)

    def _take_back(self, work: Connection, answer: _Answer, run_id: str, campaigns: Sequence[Campaign]) -> ResetDone:
        flags = work.cursor(row_factory=scalar_row)
        flags.execute(sql("lock_tag"), {"tag": self._tag})
        taken = {
            "tag": self._tag,
            "run_id": run_id,
            "resetting_since": self._begun.resetting_since,
            "requeued_campaigns": [campaign.name for campaign in campaigns if campaign.requeue],
        }
        requeued: list[bool] = flags.execute(sql("take_back"), taken).fetchall()
        were_spares: list[bool] = flags.execute(sql("end_passports"), {"tag": self._tag}).fetchall()
        work.execute(sql("next_epoch"), {"tag": self._tag})
        done = ResetDone(
            nmp_count=answer.count,
            orders_reset=len(requeued),
            orders_requeued=sum(requeued),
            spares_ended=sum(were_spares),
        )
        self._save(work, ResetState.DONE, self._about_count(answer), done)
        return done

    def _about_count(self, answer: _Answer) -> str:
        """Say what the NMP's count may lack, and why it is unreadable if it is."""
        if self._begun.asked_before:
            lack = "an earlier try may have asked the NMP already, so its count may lack what that one cancelled"
        elif answer.lost:
            lost = f"{answer.lost} earlier answers of the NMP were lost"
            lack = f"{lost}, so its count may lack what those calls cancelled"
        else:
            lack = "the NMP's first answer"
        return f"{answer.error}; {lack}" if answer.error else lack

    def _save(self, work: Connection, state: ResetState, detail: str, done: ResetDone | None = None) -> None:
        """Write what became of the reset."""
        values = {
            "reset_id": self._begun.reset_id,
            "state": state.value,
            "nmp_count": done.nmp_count if done else None,
            "orders_reset": done.orders_reset if done else None,
            "spares_ended": done.spares_ended if done else None,
            "detail": detail,
        }
        work.execute(sql("finish"), values)
