"""Plan resets: which tags lose their unclaimed links now, and what blocks the others.

A reset takes back every unclaimed link of a tag, so a tag is reset only when all its live links are stale.
``docs/lifecycle.md`` says what a reset does to orders, passports and tags.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from psycopg.rows import scalar_row

from include.campaigns import Campaign, ResetPolicy
from include.durations import in_words
from include.ledger.states import TagState
from include.sql_files import sql_of
from include.warehouse.database import Connect, Connection, open_session, read_rows, safe_errors
from include.warehouse.transactions import Kind, limited_transaction

sql = sql_of(__package__)

NOTHING_TO_TAKE_BACK = "it has no unclaimed link to take back"


class ResetError(Exception):
    """A reset that cannot be planned or did not finish; the message names the tag, its state and the next step."""


class ResetDecision(StrEnum):
    """What a plan decides for a tag."""

    RESET = "reset"  # all its live links are stale, and its campaigns want the reset
    RESUME = "resume"  # an earlier reset of it did not finish
    DRY_RUN = "dry run"  # all its live links are stale, but it is only shown
    BLOCKED = "blocked"


@dataclass(frozen=True)
class TagStock:
    """What a reset of one tag would take back, by the database's clock at ``asked_at``; all times have a time zone.

    ``live`` counts reserved, unclaimed links; ``younger`` counts those of them that are not stale yet. ``free_at`` is
    when the youngest link, of order ``youngest_order_key``, becomes stale. Without a live link ``free_at``,
    ``youngest_order_key`` and ``stale_after`` are None.
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
    """What is decided for a tag, and why, in words."""

    tag: str
    decision: ResetDecision
    why: str
    stock: TagStock

    @property
    def is_wanted(self) -> bool:
        """Whether ``reset_tag`` is to run for it."""
        return self.decision in (ResetDecision.RESET, ResetDecision.RESUME)

    def __str__(self) -> str:
        """Say it as one line of a log."""
        return f"{self.tag}: {self.decision.value}; {self.why}"


def what_blocks(stock: TagStock, campaigns: Iterable[Campaign], synced_since: datetime) -> str | None:
    """Say what blocks a reset of the tag, or return None.

    Blocked by: claims read before ``synced_since`` (the start of this run's sync, by the database's clock), a live link
    younger than the tag's ``stale_after``, a campaign with ``reset: never``, or no live link at all.
    """
    if stock.claims_synced_at is None or stock.claims_synced_at < synced_since:
        return "its claims were not read in this run: clear sync_claims"
    if not stock.live or stock.free_at is None:
        return NOTHING_TO_TAKE_BACK
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

    With ``dry_run`` True nothing is reset. With None or False a tag whose live links are all stale is reset when every
    campaign with a link under it says ``reset: when_stale``, or when the NMP is the ``sandbox``. A campaign without a
    policy is only shown, whatever the Trigger form says: outside the sandbox, only the campaign file, which is
    reviewed, asks for a reset.
    """
    return [_plan(stock, campaigns, synced_since, dry_run=dry_run is True, sandbox=sandbox) for stock in stocks]


def _plan(
    stock: TagStock, campaigns: Sequence[Campaign], synced_since: datetime, *, dry_run: bool, sandbox: bool
) -> TagPlan:
    def decided(decision: ResetDecision, why: str) -> TagPlan:
        return TagPlan(stock.tag, decision, why, stock)

    if stock.state is TagState.RESETTING:
        if dry_run:
            return decided(ResetDecision.BLOCKED, "an unfinished reset: run without dry_run to finish it")
        return decided(ResetDecision.RESUME, "an earlier reset of it did not finish")
    if blocked := what_blocks(stock, campaigns, synced_since):
        return decided(ResetDecision.BLOCKED, blocked)
    stale = f"{_links(stock.live)} unclaimed for {_duration(stock.stale_after)}, and {stock.spares} spares"
    if dry_run:
        return decided(ResetDecision.DRY_RUN, f"{stale}; dry_run is true")
    policies = {campaign.name: campaign.reset for campaign in campaigns}
    unset = [name for name in stock.campaigns if policies.get(name) is not ResetPolicy.WHEN_STALE]
    if unset and not sandbox:
        why = f"{stale}; campaign {unset[0]!r} sets no reset policy: write reset: when_stale into the campaign file"
        return decided(ResetDecision.DRY_RUN, why)
    return decided(ResetDecision.RESET, stale)


def read_stocks(
    connection: Connection, campaigns: Iterable[Campaign], tags: Sequence[str] | None = None
) -> list[TagStock]:
    """Read the stock of each tag that has unclaimed links or is being reset; ``tags`` restricts them, None is all.

    A campaign's ``stale_after`` is the longer of what the file says now and what was stored with the order. So a longer
    one in the file also protects the links that are out.
    """
    listed = list(campaigns)
    parameters = {
        "campaigns": [campaign.name for campaign in listed],
        "stale_afters": [campaign.stale_after for campaign in listed],
        "tags": None if tags is None else list(tags),
    }
    return read_rows(connection, _stock, sql("stocks"), parameters)


def _stock(*, state: str, **columns: Any) -> TagStock:
    return TagStock(state=TagState(state), **columns)


def what_blocks_now(
    connection: Connection, tag: str, campaigns: Iterable[Campaign], synced_since: datetime
) -> str | None:
    """Read one tag's stock and say what blocks its reset, or return None; see ``what_blocks``."""
    listed = list(campaigns)
    stocks = read_stocks(connection, listed, [tag])
    return what_blocks(stocks[0], listed, synced_since) if stocks else NOTHING_TO_TAKE_BACK


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
    """Plan the resets of a run and save what a dry run would have reset; see ``plan``.

    ``tags`` restricts the plan; an empty one means all. Raises ``ResetError`` for a tag that the ledger does not know,
    ``include.warehouse.database.SafeDatabaseError`` when the database fails.
    """
    with (
        safe_errors("The resets could not be planned"),
        open_session(connect, autocommit=True) as connection,
        limited_transaction(connection, Kind.LONG),
    ):
        names = connection.cursor(row_factory=scalar_row)
        unknown: str | None = names.execute(sql("unknown_tags"), {"tags": list(tags)}).fetchone()
        if unknown is not None:
            message = f"no order ever named the tag {unknown!r}: correct the param tags (case counts)"
            raise ResetError(message)
        stocks = read_stocks(connection, campaigns, tags or None)
        plans = plan(stocks, campaigns, synced_since=synced_since, dry_run=dry_run, sandbox=sandbox)
        _save_dry_runs(connection, [made for made in plans if made.decision is ResetDecision.DRY_RUN], run_id)
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


def _links(count: int) -> str:
    return "1 link" if count == 1 else f"{count} links"


def _duration(duration: timedelta | None) -> str:
    return "its stale_after" if duration is None else in_words(duration)
