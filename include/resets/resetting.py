"""Resets: taking back what nobody claimed, one tag at a time, and only where that hurts nobody.

Follows "The life of a reservation" of the design (a reset is a row lock) and the NMP's page reset-reserved-nfts:
resetAll is by tag, gives a count and nothing else, has no idempotency key, and links that were out may go on working.

A reset stands in the database at each of its steps, so that whoever runs it again goes on where a killed one stopped:
the tag is closed and the intent committed; the last lease of a call ends; the reset is marked as unknown and the NMP is
asked; then, in one transaction, the orders lose their links, the passports end, the epoch rises and the tag opens. A
closed tag is never skipped. What cannot be helped: a request that the NMP carries out long after its caller gave up.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

import psycopg
from psycopg.rows import dict_row, kwargs_row

from include.campaigns import Campaign, ResetPolicy
from include.ledger.states import TagState
from include.nmp.errors import NmpError, NmpUnreadableError
from include.sql_files import sql_of
from include.warehouse.database import Connect, open_session, safe_errors
from include.warehouse.publishing import LoadResult, load_links

sql = sql_of(__package__)
log = logging.getLogger(__name__)

Connection = psycopg.Connection[Any]

CALLS_PER_TRY = 3
"""How often one try asks the NMP while its answers get lost; a second resetAll cancels what is still reserved."""


class ResetError(Exception):
    """A reset that did not finish; the message names the tag, what stands now and what to do."""


class ResetState(StrEnum):
    """What became of a reset; ``passport_ops.tag_reset.state``."""

    INTENDED = "intended"  # the tag is closed, the NMP was not asked yet
    DONE = "done"
    UNKNOWN = "unknown"  # the NMP is being asked, or its answer was lost; the tag stays closed
    REFUSED = "refused"  # the NMP did nothing, or was not asked


class Verdict(StrEnum):
    """What a plan says of a tag."""

    RESET = "reset"  # wholly stale, and its campaigns want it
    RESUME = "resume"  # a reset of it was begun and did not finish
    DRY_RUN = "dry run"  # wholly stale, but only shown
    BLOCKED = "blocked"  # something stands against it


@dataclass(frozen=True)
class TagStock:
    """What a reset of one tag would meet, by the database's clock at ``asked_at``; all times are time zone aware.

    ``live`` counts reserved, unclaimed links, ``younger`` those of them that are not stale yet. ``free_at`` is when the
    youngest, ``youngest_order_key``'s, will be; with ``stale_after`` None where there is no live link.
    """

    tag: str
    state: TagState
    epoch: int
    claims_synced_at: datetime | None
    stale_after: timedelta | None
    live: int
    younger: int
    free_at: datetime | None
    youngest_order_key: str | None
    campaigns: Sequence[str]
    spares: int
    asked_at: datetime


@dataclass(frozen=True)
class TagPlan:
    """What is to become of a tag, and why, in words."""

    tag: str
    verdict: Verdict
    why: str
    stock: TagStock

    @property
    def is_wanted(self) -> bool:
        """Whether ``reset_tag`` is to be run for it."""
        return self.verdict in (Verdict.RESET, Verdict.RESUME)

    def __str__(self) -> str:
        """Say it as one line of a log."""
        return f"{self.tag}: {self.verdict.value}; {self.why}"


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
    """A reset that was not begun, or given up before the NMP was asked, because of ``why``."""

    why: str

    def __str__(self) -> str:
        """Say it as one line of a log."""
        return f"not reset: {self.why}"


class Resetter(Protocol):
    """What a reset needs of the NMP; ``include.nmp.client.NmpClient`` is one."""

    def reset_all(self, tag: str) -> int:
        """Reset a tag and give the NMP's count; raises ``include.nmp.errors.NmpError``."""
        ...


@dataclass(frozen=True)
class _Begun:
    """A reset whose intent is committed; ``asked`` where an earlier try may have asked the NMP already."""

    reset_id: int
    resetting_since: datetime
    asked: bool


# -- the plan ----------------------------------------------------------------------------------------------------------


def what_blocks(stock: TagStock, campaigns: Iterable[Campaign], synced_since: datetime) -> str | None:
    """Say what stands against a reset of the tag, whoever wants it; None where nothing does.

    That is: claims older than ``synced_since`` (the start of this run's sync, by the database's clock), a live link
    younger than the tag's ``stale_after``, a campaign whose policy is ``never``, or nothing to take back.
    """
    if stock.claims_synced_at is None or stock.claims_synced_at < synced_since:
        return "its claims were not read in this run: clear sync_claims"
    if not stock.live or stock.free_at is None:
        return "it has no unclaimed link to take back"
    if stock.free_at > stock.asked_at:
        younger = f"{stock.younger} of its {_links(stock.live)} are" if stock.younger != 1 else "a link is"
        return (
            f"{younger} younger than {_duration(stock.stale_after)}, the youngest order {stock.youngest_order_key}'s; "
            f"free at {stock.free_at:%Y-%m-%d %H:%M %Z}"
        )
    policies = {campaign.name: campaign.reset for campaign in campaigns}
    never = [name for name in stock.campaigns if policies.get(name) is ResetPolicy.NEVER]
    return f"campaign {never[0]!r} says reset: never" if never else None


def plan(
    stocks: Iterable[TagStock],
    campaigns: Sequence[Campaign],
    *,
    synced_since: datetime,
    dry_run: bool | None = None,
    sandbox: bool = False,
) -> list[TagPlan]:
    """Decide for each tag whether it is reset.

    ``dry_run`` True changes nothing; None and False reset a wholly stale tag where every campaign with a link under it
    says ``reset: when_stale``, or where the NMP is the ``sandbox``. A campaign without a policy is only shown, whatever
    the Trigger form says: outside the sandbox a reset is asked for in the campaign file, where it is reviewed.
    """
    return [_plan(stock, campaigns, synced_since, dry_run=dry_run is True, sandbox=sandbox) for stock in stocks]


def _plan(
    stock: TagStock, campaigns: Sequence[Campaign], synced_since: datetime, *, dry_run: bool, sandbox: bool
) -> TagPlan:
    if stock.state is TagState.RESETTING:
        if dry_run:
            return TagPlan(stock.tag, Verdict.BLOCKED, "an unfinished reset: run without dry_run to finish it", stock)
        return TagPlan(stock.tag, Verdict.RESUME, "an earlier reset of it did not finish", stock)
    blocked = what_blocks(stock, campaigns, synced_since)
    if blocked:
        return TagPlan(stock.tag, Verdict.BLOCKED, blocked, stock)
    stale = f"{_links(stock.live)} unclaimed for {_duration(stock.stale_after)}, and {stock.spares} spares"
    if dry_run:
        return TagPlan(stock.tag, Verdict.DRY_RUN, f"{stale}; dry_run is true", stock)
    policies = {campaign.name: campaign.reset for campaign in campaigns}
    unset = [name for name in stock.campaigns if policies.get(name) is not ResetPolicy.WHEN_STALE]
    if unset and not sandbox:
        why = f"{stale}; campaign {unset[0]!r} sets no reset policy: write reset: when_stale into the campaign file"
        return TagPlan(stock.tag, Verdict.DRY_RUN, why, stock)
    return TagPlan(stock.tag, Verdict.RESET, stale, stock)


def read_stocks(
    connection: Connection, campaigns: Iterable[Campaign], tags: Sequence[str] | None = None
) -> list[TagStock]:
    """What resets would meet, one per tag with unclaimed links or under reset; ``tags`` restricts them, None is all.

    A campaign's ``stale_after`` is the longer of what the file says now and what was stored with the order, so that
    raising it protects the links that are out.
    """
    listed = list(campaigns)
    parameters = {
        "campaigns": [campaign.name for campaign in listed],
        "stale_afters": [campaign.stale_after for campaign in listed],
        "tags": None if tags is None else list(tags),
    }
    with connection.cursor(row_factory=kwargs_row(_stock)) as cursor:
        cursor.execute(sql("stocks"), parameters)
        return cursor.fetchall()


def _stock(*, state: str, **columns: Any) -> TagStock:
    return TagStock(state=TagState(state), **columns)


def plan_resets(
    connect: Connect,
    campaigns: Sequence[Campaign],
    *,
    run_id: str,
    synced_since: datetime,
    tags: Sequence[str] = (),
    dry_run: bool | None = None,
    sandbox: bool = False,
) -> list[TagPlan]:
    """Plan the resets of a run and note what a dry run would have reset; see ``plan``.

    ``tags`` restricts the plan; none given means all. Raises ``ResetError`` for a tag that the ledger does not know,
    ``include.warehouse.database.SafeDatabaseError`` when the database does not do its part.
    """
    with safe_errors("The resets could not be planned"), open_session(connect) as connection, connection.transaction():
        if unknown := connection.execute(sql("unknown_tags"), {"tags": list(tags)}).fetchall():
            message = f"no order ever named the tag {unknown[0][0]!r}: correct the param tags (case counts)"
            raise ResetError(message)
        stocks = read_stocks(connection, campaigns, tags or None)
        plans = plan(stocks, campaigns, synced_since=synced_since, dry_run=dry_run, sandbox=sandbox)
        _save_dry_runs(connection, [made for made in plans if made.verdict is Verdict.DRY_RUN], run_id)
    return plans


def _save_dry_runs(connection: Connection, plans: Sequence[TagPlan], run_id: str) -> None:
    parameters = {
        "run_id": run_id,
        "tags": [made.tag for made in plans],
        "epochs": [made.stock.epoch for made in plans],
        "orders": [made.stock.live for made in plans],
        "spares": [made.stock.spares for made in plans],
        "details": [made.why for made in plans],
    }
    connection.execute(sql("save_dry_run"), parameters)


# -- one reset ---------------------------------------------------------------------------------------------------------


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

    Whether it is wholly stale is decided again twice, while nobody can be granted an intent for it: when it is closed,
    and after its last call ended, whose link may be a fresh one. ``pause_seconds`` lie between two looks at the leases
    and between two requests. Raises ``ResetError`` when the NMP refuses (the tag is open again), when its answers get
    lost (the tag stays closed until a later try gets one) or when another process is at it;
    ``include.warehouse.database.SafeDatabaseError`` when the database does not do its part. Each may be tried again.
    """
    with (
        safe_errors(f"The reset of tag {tag!r} stopped"),
        open_session(connect, autocommit=True, application_name="passport-links reset") as work,
        open_session(connect, application_name="passport-links reset") as owner,
    ):
        begun = _begin(work, tag, run_id, campaigns, synced_since)
        if isinstance(begun, ResetBlocked):
            return begun
        _own(owner, tag, begun)
        _wait_for_calls(work, tag, pause_seconds)
        if not begun.asked:
            if blocked := _blocked(work, tag, campaigns, synced_since):
                _give_up(owner, tag, begun, f"not begun: {blocked}")
                return ResetBlocked(blocked)
            # Committed, because from here on the NMP may have done it; the lock goes with the commit, so take it again.
            _settle(owner, begun, ResetState.UNKNOWN, detail="the NMP is being asked")
            _own(owner, tag, begun)
        count, detail = _ask(owner, nmp, tag, begun, pause_seconds)
        return _finish(owner, tag, begun, campaigns, run_id=run_id, count=count, detail=detail)


def _begin(
    work: Connection, tag: str, run_id: str, campaigns: Sequence[Campaign], synced_since: datetime
) -> _Begun | ResetBlocked:
    """Close the tag and commit the intent, or find the one that an earlier try committed."""
    with work.transaction(), work.cursor(row_factory=dict_row) as cursor:
        locked = cursor.execute(sql("lock_tag"), {"tag": tag}).fetchone()
        if locked is None:
            return ResetBlocked("no order ever named this tag")
        if locked["state"] == TagState.OPEN:
            if blocked := _blocked(work, tag, campaigns, synced_since):
                return ResetBlocked(blocked)
            locked = _one(cursor.execute(sql("close_tag"), {"tag": tag}))
        intent = {"tag": tag, "run_id": run_id, "epoch": locked["epoch"]}
        under_way = cursor.execute(sql("under_way"), intent).fetchone()
        reset = under_way or _one(cursor.execute(sql("intend"), intent))
        return _Begun(reset["reset_id"], locked["resetting_since"], asked=reset["state"] == ResetState.UNKNOWN)


def _blocked(work: Connection, tag: str, campaigns: Sequence[Campaign], synced_since: datetime) -> str | None:
    stocks = read_stocks(work, campaigns, [tag])
    if not stocks:
        return "it has no unclaimed link to take back"
    return what_blocks(stocks[0], campaigns, synced_since)


def _own(owner: Connection, tag: str, begun: _Begun) -> None:
    """Lock the reset until the end of this transaction, so that two processes never carry out one."""
    try:
        unfinished = owner.execute(sql("own"), {"reset_id": begun.reset_id}).fetchone()
    except psycopg.errors.LockNotAvailable:
        unfinished = None
    if unfinished is None:
        message = f"another process is resetting tag {tag!r}, or has just done so: wait for it, then clear this task"
        raise ResetError(message)


def _wait_for_calls(work: Connection, tag: str, pause_seconds: float) -> None:
    """Wait until no call for the tag can be under way; no new one is granted, so this ends with the longest lease."""
    while True:
        work.execute(sql("lapse_calls"), {"tag": tag})
        found = work.execute(sql("seconds_to_wait"), {"tag": tag}).fetchone()
        seconds = found[0] if found else None
        if seconds is None:
            return
        log.info("Tag %s: a call is under way, its lease ends in %.0f s", tag, seconds)
        # A call may be answered long before its lease ends.
        time.sleep(min(max(seconds, 0.01), pause_seconds))


def _ask(owner: Connection, nmp: Resetter, tag: str, begun: _Begun, pause_seconds: float) -> tuple[int | None, str]:
    """Ask the NMP until it answers; give its count and what is to be known about it."""
    lost = 0
    while True:
        try:
            return nmp.reset_all(tag), _honest(begun, lost)
        except NmpUnreadableError as error:
            return None, f"{error}; {_honest(begun, lost)}"
        except NmpError as error:
            lost += error.possibly_done
            if not lost and not begun.asked:
                _give_up(owner, tag, begun, f"the NMP did nothing: {error}")
                message = f"tag {tag!r} was not reset and is open again: {error}"
                raise ResetError(message) from None
            if not error.possibly_done or lost == CALLS_PER_TRY:
                _settle(owner, begun, ResetState.UNKNOWN, detail=f"the NMP gave no usable answer: {error}")
                message = f"tag {tag!r} may or may not be reset, and stays closed until a try gets an answer: {error}"
                raise ResetError(message) from None
            log.warning("%s; asking again", error)
            time.sleep(pause_seconds)


def _honest(begun: _Begun, lost: int) -> str:
    """What the count may lack."""
    if begun.asked:
        return "an earlier try may have asked the NMP already, so its count may lack what that one cancelled"
    if lost:
        return f"{lost} earlier answers of the NMP were lost, so its count may lack what those calls cancelled"
    return "the NMP's first answer"


def _finish(
    owner: Connection,
    tag: str,
    begun: _Begun,
    campaigns: Sequence[Campaign],
    *,
    run_id: str,
    count: int | None,
    detail: str,
) -> ResetDone:
    """Take the links back in the ledger and open the tag, in one transaction with the NMP's count."""
    with owner.cursor(row_factory=dict_row) as cursor:
        cursor.execute(sql("lock_tag"), {"tag": tag})
        taken = cursor.execute(
            sql("take_back"),
            {
                "tag": tag,
                "run_id": run_id,
                "resetting_since": begun.resetting_since,
                "requeued_campaigns": [campaign.name for campaign in campaigns if campaign.requeue],
            },
        ).fetchall()
        ended = cursor.execute(sql("end_passports"), {"tag": tag}).fetchall()
        cursor.execute(sql("next_epoch"), {"tag": tag})
    done = ResetDone(
        nmp_count=count,
        orders_reset=len(taken),
        orders_requeued=sum(row["requeued"] for row in taken),
        spares_ended=sum(row["was_spare"] for row in ended),
    )
    _settle(owner, begun, ResetState.DONE, done=done, detail=detail)
    return done


def _give_up(owner: Connection, tag: str, begun: _Begun, detail: str) -> None:
    """Open the tag again: the NMP did nothing."""
    owner.execute(sql("reopen_tag"), {"tag": tag})
    _settle(owner, begun, ResetState.REFUSED, detail=detail)


def _settle(owner: Connection, begun: _Begun, state: ResetState, *, detail: str, done: ResetDone | None = None) -> None:
    """Write what became of the reset and commit, which also lets go of it."""
    owner.execute(
        sql("finish"),
        {
            "reset_id": begun.reset_id,
            "state": state.value,
            "nmp_count": done.nmp_count if done else None,
            "orders_reset": done.orders_reset if done else None,
            "spares_ended": done.spares_ended if done else None,
            "detail": detail,
        },
    )
    owner.commit()


# -- the published rows ------------------------------------------------------------------------------------------------


def publish_resets(connect: Connect, *, run_id: str) -> LoadResult | None:
    """Publish what claims and resets changed in the ledger.

    None where no run was ever planned, so that nothing can be published. Raises as ``load_links``.
    """
    with safe_errors("The last planned day could not be read"), open_session(connect) as connection:
        found = connection.execute(sql("last_planned_day")).fetchone()
    day = found[0] if found else None
    return load_links(connect, business_day=day, run_id=run_id) if isinstance(day, date) else None


def _one(cursor: psycopg.Cursor[dict[str, Any]]) -> dict[str, Any]:
    row = cursor.fetchone()
    if row is None:
        message = "the ledger's row is gone although it was locked"
        raise ResetError(message)
    return row


def _links(count: int) -> str:
    return "1 link" if count == 1 else f"{count} links"


def _duration(duration: timedelta | None) -> str:
    if duration is None:
        return "its stale_after"
    days = duration / timedelta(days=1)
    return f"{days:g} days" if days >= 1 else f"{duration.total_seconds():g} s"
