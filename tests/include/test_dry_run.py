"""A dry run: it says what the run would ask for, and no row moves."""

import logging
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest

from include import intake
from include.campaigns import Campaign, Campaigns, UnknownCampaignError
from include.intake import dry_run, plan_day
from include.ledger.dry_run import TagNeed
from include.orders import CheckedOrder, RejectReason
from include.settings import Settings
from tests.builders.world import World, order, plan, world

FIRST, SECOND, THIRD = (date(2016, 11, day) for day in (21, 22, 23))
MONTH = timedelta(days=30)
CAMPAIGNS = Campaigns(
    (
        Campaign(name="gift", tag="gift", products=("Tote",), stale_after=MONTH, pool_size=100),
        Campaign(name="watch", tag="watch", products="*", stale_after=MONTH),
    )
)


class Shop:
    """A shop whose orders are given here, and its runs."""

    def __init__(self, here: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here = here
        self.orders: list[CheckedOrder] = []
        monkeypatch.setattr(intake, "read_orders", self._read_orders)

    def _read_orders(self, _: Any, days: list[date], *__: object) -> Iterator[CheckedOrder]:
        yield from (row for row in self.orders if row.business_day in days)

    def plan(self, **fields: Any) -> Any:
        return plan(**{"run_id": "the run", "days": (SECOND,), **fields})

    def dry_run(self, **fields: Any) -> dict[str, int]:
        """How many orders a run would ask for, by tag."""
        with self.here.planner() as ledger:
            found = dry_run(ledger, "", CAMPAIGNS, Settings(lookback_days=1), self.plan(**fields))
        return {need.tag: need.orders for need in found.needs}

    def run(self, **fields: Any) -> dict[str, int]:
        """How many orders the run gets, by tag."""
        with self.here.planner() as ledger:
            made = self.plan(**fields)
            plan_day(ledger, "", CAMPAIGNS, Settings(lookback_days=1), made)
        rows = self.here.rows.execute(
            """
            select known.tag from passport_ops.run_order as asked
            join passport_ops.reservation as known using (order_key)
            where asked.run_id = %s
            """,
            [made.run_id],
        )
        return dict(Counter(tag for (tag,) in rows))


@pytest.fixture
def shop(emptied_warehouse: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with world(emptied_warehouse) as here:
        yield Shop(here, monkeypatch)


def everything(here: World) -> dict[str, list[Any]]:
    """Every row of every table of the ledger and of what is published."""
    tables = here.rows.execute(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('passport', 'passport_ops')"
    ).fetchall()
    return {
        table: here.rows.execute(f"select * from {table} as kept order by kept::text").fetchall() for (table,) in tables
    }


def a_ledger_with_everything(shop: Shop) -> None:
    """Orders in every state, which a next reading returns changed, returns as they are, or returns no more."""
    written = shop.here.written
    for state in ("pending", "out_of_stock", "unknown", "held", "cancelled", "closed", "calling"):
        for fate in ("stays", "goes", "moves", "is rejected"):
            written.order(f"{state} {fate}", "gift", state)
    written.link("reserved", "gift")
    written.order("of a day that is not read", "watch", "pending")
    written.do("update passport_ops.reservation set business_day = %s", SECOND)
    written.do(
        "update passport_ops.reservation set business_day = %s where order_key = 'of a day that is not read'",
        FIRST - timedelta(days=9),
    )
    states = ("pending", "out_of_stock", "unknown", "held", "cancelled", "closed", "calling")
    shop.orders = [
        *(order(f"{state} stays", day=SECOND) for state in states),
        *(order(f"{state} moves", day=FIRST, tag="watch", campaign="watch") for state in states),
        *(
            order(f"{state} is rejected", day=SECOND, reason=RejectReason.NO_CAMPAIGN, detail="none")
            for state in states
        ),
        order("reserved", day=SECOND),
        order("new", day=SECOND),
        order("new", day=SECOND, product="twice"),
        order("new watch", day=SECOND, tag="watch", campaign="watch"),
        order("late", day=FIRST),
        order("too late", day=FIRST, carry_until=FIRST),
        order("of the next day", day=THIRD),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"scheduled": True},
        {"campaigns": ("watch",)},
        {"days": (THIRD,), "scheduled": True},
        {"days": (FIRST, SECOND)},
    ],
    ids=str,
)
def test_it_says_what_the_run_would_ask_for_and_no_row_moves(shop: Shop, fields: dict[str, Any]) -> None:
    a_ledger_with_everything(shop)
    before = everything(shop.here)
    said = shop.dry_run(**fields)
    assert everything(shop.here) == before
    assert said == shop.run(**fields)
    assert sum(said.values()) > 0


def test_a_second_dry_run_says_the_same(shop: Shop) -> None:
    shop.orders = [order("A1", day=SECOND)]
    assert shop.dry_run() == shop.dry_run() == {"gift": 1}


def test_what_is_left_of_a_pool_is_said_as_far_as_it_is_known() -> None:
    assert TagNeed("gift", 5, 3).lacking == 2
    assert TagNeed("gift", 5, 9).lacking == 0
    assert TagNeed("gift", 5, None).lacking is None


def test_the_log_has_a_table_of_the_tags_and_what_a_limit_would_leave(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.here.written.tag("used", pool_size=2)
    shop.here.written.passport("used", state="spare")
    shop.here.written.passport("used", state="ended")
    shop.here.written.link("served", "used")
    shop.orders = [
        *(order(f"new {n}", day=SECOND) for n in range(3)),
        *(order(f"watch {n}", day=SECOND, tag="watch", campaign="watch") for n in range(2)),
        *(order(f"used {n}", day=SECOND, tag="used") for n in range(4)),
    ]
    with caplog.at_level(logging.INFO):
        shop.dry_run(max_new_links=5)
    assert caplog.messages[-2:] == [
        "dry run: nothing is called, and nothing changes in the ledger\n"
        "tag    orders without a link  passports left  too few\n"
        "gift                       3             100        0\n"
        "used                       4               1        3\n"
        "watch                      2         unknown         \n"
        "9 orders without a link in all",
        "max_new_links (5) would leave 4 orders waiting",
    ]


def test_an_unknown_campaign_is_an_error_before_anything_is_read(shop: Shop) -> None:
    with pytest.raises(UnknownCampaignError):
        shop.dry_run(campaigns=("gifts",))
