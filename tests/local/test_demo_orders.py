from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest

from include.business_day import day_bounds
from include.campaigns import Campaigns
from include.extraction import read_orders
from include.orders import CheckedOrder, RejectReason
from include.settings import Settings
from local.demo_orders import demo_orders, load_demo, load_stale_demo, stale_demo_orders
from local.source_table import append

BRAND = Path(__file__).parents[2] / "include" / "brand"
PARIS = ZoneInfo("Europe/Paris")
TODAY = date(2026, 11, 23)
DAYS = [TODAY - timedelta(days=n) for n in range(14, 0, -1)]

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def orders_db(database: str) -> Iterator[Connection]:
    with psycopg.connect(database) as conn:
        yield conn


def table(conn: Connection) -> Counter[tuple[object, ...]]:
    return Counter(conn.execute("select * from orders").fetchall())


def rows(conn: Connection, *days: date, tz: ZoneInfo = PARIS) -> list[CheckedOrder]:
    return list(
        read_orders(
            conn,
            (BRAND / "extract_orders.sql").read_text(),
            Campaigns.load(BRAND / "campaigns.yaml"),
            days=[day_bounds(day, tz) for day in days],
            statuses=Settings().order_statuses,
            timezone=tz,
            carry_days=14,
        )
    )


def eligible(conn: Connection, *days: date, tz: ZoneInfo = PARIS) -> list[CheckedOrder]:
    return [row for row in rows(conn, *days, tz=tz) if row.reason is None]


def test_the_same_day_and_seed_give_the_same_orders() -> None:
    assert demo_orders(TODAY, PARIS) == demo_orders(TODAY, PARIS)
    assert demo_orders(TODAY, PARIS, seed=1) != demo_orders(TODAY, PARIS, seed=2)


def test_each_of_the_fourteen_days_has_orders_of_every_campaign(orders_db: Connection) -> None:
    load_demo(orders_db, TODAY, PARIS)
    per_day = {day: len(eligible(orders_db, day)) for day in DAYS}
    assert min(per_day.values()) >= 20
    assert max(per_day.values()) <= 60
    campaigns = {order.campaign for order in eligible(orders_db, *DAYS)}
    assert campaigns == {"watches", "handbags", "winter-sneakers", "demo-gift"}
    assert eligible(orders_db, TODAY, DAYS[0] - timedelta(days=1)) == []


def test_the_demo_has_every_kind_of_bad_row_and_statuses_that_are_not_served(orders_db: Connection) -> None:
    load_demo(orders_db, TODAY, PARIS)
    found = rows(orders_db, *DAYS)
    assert {row.reason for row in found} == {None, RejectReason.MISSING_KEY, RejectReason.UNPARSABLE_TIME}
    keys = [row.order_key for row in found if row.reason is None]
    assert len(set(keys)) < len(keys)
    assert any(row.product is None for row in found)
    statuses = {order.status for order in demo_orders(TODAY, PARIS)}
    assert statuses == {"delivered", "shipped", "processing", "invoiced", "canceled", "unavailable", "created"}


def test_loading_twice_adds_nothing_and_a_later_day_adds_only_its_days(orders_db: Connection) -> None:
    assert load_demo(orders_db, TODAY, PARIS) == len(demo_orders(TODAY, PARIS))
    first = table(orders_db)
    assert load_demo(orders_db, TODAY, PARIS) == 0
    later = TODAY + timedelta(days=2)
    added = load_demo(orders_db, later, PARIS)
    assert table(orders_db).total() == first.total() + added
    assert first <= table(orders_db)
    assert len(eligible(orders_db, TODAY, TODAY + timedelta(days=1))) >= 40


def test_the_demo_stands_beside_a_shops_own_rows(orders_db: Connection) -> None:
    own = demo_orders(TODAY, PARIS)[0]._replace(order_id="17")
    append(orders_db, [own])
    load_demo(orders_db, TODAY, PARIS)
    assert table(orders_db)[tuple(own)] == 1


def test_paid_times_lie_in_shop_hours_of_the_shops_zone_in_any_zone(orders_db: Connection) -> None:
    for name in ("America/Sao_Paulo", "Pacific/Kiritimati", "Europe/Paris"):
        zone = ZoneInfo(name)
        after_the_change = date(2026, 11, 2)  # the fourteen days before hold the end of summer time in Paris
        with orders_db.transaction(force_rollback=True):
            load_demo(orders_db, after_the_change, zone)
            days = [after_the_change - timedelta(days=n) for n in range(14, 0, -1)]
            hours = {order.paid_at.astimezone(zone).hour for order in eligible(orders_db, *days, tz=zone)}
        assert hours <= set(range(8, 24))
        assert len(hours) > 10


def test_the_stale_orders_are_eight_of_one_day_under_the_tag_of_an_earlier_month(orders_db: Connection) -> None:
    assert load_stale_demo(orders_db, TODAY, PARIS) == date(2026, 8, 23)
    orders = eligible(orders_db, date(2026, 8, 23))
    assert len(orders) == len(stale_demo_orders(TODAY, PARIS)) == 8
    assert {(order.campaign, order.tag) for order in orders} == {("watches", "demo-watches-2026-08")}


def test_the_stale_orders_are_loaded_once_for_ever(orders_db: Connection) -> None:
    load_stale_demo(orders_db, TODAY, PARIS)
    assert load_stale_demo(orders_db, TODAY + timedelta(days=40), PARIS) == date(2026, 8, 23)
    assert table(orders_db).total() == 8
    load_demo(orders_db, TODAY, PARIS)
    assert load_stale_demo(orders_db, TODAY, PARIS) == date(2026, 8, 23)
