"""A dry run: what a run would ask for and what is known to be in stock, without a row of the ledger that moves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from include.business_day import DayBounds
from include.ledger.registering import Registered, columns_of, stage, staged
from include.ledger.states import ASKED_BY_RUNS
from include.orders import CheckedOrder
from include.sql_files import sql_of
from include.warehouse.database import Connection, read_rows
from include.warehouse.transactions import Kind, limited_transaction

sql = sql_of(__package__)


@dataclass(frozen=True)
class TagNeed:
    """How many orders without a link a run would serve from a tag, and how many passports are left; None: unknown."""

    tag: str
    orders: int
    remaining: int | None

    @property
    def lacking(self) -> int | None:
        """How many of the orders would find the tag empty, as far as is known."""
        return None if self.remaining is None else max(0, self.orders - self.remaining)


@dataclass(frozen=True)
class DryRun:
    """What an extraction returned, and what its run would ask for, by tag."""

    returned: Registered
    needs: list[TagNeed]

    @property
    def orders(self) -> int:
        """How many orders without a link the run would serve."""
        return sum(need.orders for need in self.needs)

    @property
    def table(self) -> str:
        """The needs as lines of text, for a log."""
        width = max([len("tag"), *(len(need.tag) for need in self.needs)])
        lines = [f"{'tag':<{width}}  {'orders without a link':>21}  {'passports left':>14}  {'too few':>7}"]
        for need in self.needs:
            left, lacking = ("unknown", "") if need.remaining is None else (need.remaining, need.lacking)
            lines.append(f"{need.tag:<{width}}  {need.orders:>21}  {left:>14}  {lacking:>7}")
        return "\n".join([*lines, f"{self.orders} orders without a link in all"])


@dataclass(frozen=True)
class _Need:
    tag: str
    campaign: str
    orders: int
    is_known: bool
    remaining: int | None


def dry_run(
    connection: Connection,
    rows: Iterable[CheckedOrder],
    plan: Mapping[str, Any],
    *,
    days_read: DayBounds,
    pool_sizes: Mapping[str, int | None],
) -> DryRun:
    """Do what ``RunLedger.dry_run`` says on ``connection``; ``plan`` are the bound parameters of a plan."""
    stage(connection, rows)
    read = columns_of(days_read)
    parameters = {**plan, "days_read": read["days"], "ends_at": read["ends_at"], "asked_by_runs": ASKED_BY_RUNS}
    with limited_transaction(connection, Kind.LONG):
        needs = read_rows(connection, _Need, sql("needs_by_tag"), parameters)
        returned = staged(connection)
    return DryRun(
        returned,
        [
            TagNeed(need.tag, need.orders, need.remaining if need.is_known else pool_sizes.get(need.campaign))
            for need in needs
        ],
    )
