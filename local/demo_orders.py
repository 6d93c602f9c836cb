"""The project's own demo orders: a small shop's last fourteen days, with the bad rows that real days have.

A day's orders depend on the day alone, so that a later call adds days and never changes one.
"""

import random
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from include.business_day import ONE_DAY
from include.sql_files import sql_of
from local.source_table import SourceOrder, append, create

sql = sql_of(__package__)

DEMO_DAYS = 14
STALE_DAYS = 92
"""How long ago the stale demo orders were paid: a month whose tag gets no more of them."""
STALE_ORDERS = 8
SEED = 2026

# Every product of the shipped campaigns, and two that only the catch-all takes.
PRODUCTS = {
    "Aria Tote": 9,
    "Aria Mini": 7,
    "Meridian Automatic": 6,
    "Meridian Chronograph": 3,
    "Glacier Runner": 8,
    "Silk Scarf": 4,
    "Travel Perfume": 3,
}
STATUSES = {"delivered": 55, "shipped": 20, "processing": 15, "invoiced": 4, "canceled": 4, "unavailable": 2}
STALE_PRODUCT = "Meridian Automatic"


def demo_orders(today: date, tz: ZoneInfo, seed: int = SEED) -> list[SourceOrder]:
    """Make the orders paid on the fourteen days before ``today`` in ``tz``: 25 to 60 a day, always the same ones.

    Every day has a missing key, a duplicate, an unreadable time, a missing product or none of these, in turn, and
    some orders that are canceled, unavailable or not paid.
    """
    return [order for day in _demo_days(today) for order in _orders_of(day, tz, seed)]


def load_demo(conn: psycopg.Connection[Any], today: date, tz: ZoneInfo) -> int:
    """Add those of the fourteen days before ``today`` that the source table lacks; give the number of rows added."""
    with conn.transaction():
        loaded = _loaded_days(conn, "demo")
        return append(
            conn, (order for day in _demo_days(today) if day not in loaded for order in _orders_of(day, tz, SEED))
        )


def stale_demo_orders(today: date, tz: ZoneInfo) -> list[SourceOrder]:
    """Make the orders of eight watches paid 92 days before ``today`` in ``tz``, all under the tag of that month."""
    return _stale_orders_of(today - timedelta(days=STALE_DAYS), tz)


def load_stale_demo(conn: psycopg.Connection[Any], today: date, tz: ZoneInfo) -> date:
    """Add the stale demo orders unless an earlier call did; give their business day."""
    with conn.transaction():
        if loaded := _loaded_days(conn, "stale"):
            return min(loaded)
        append(conn, stale_demo_orders(today, tz))
        return today - timedelta(days=STALE_DAYS)


def _demo_days(today: date) -> list[date]:
    return [today - days * ONE_DAY for days in range(DEMO_DAYS, 0, -1)]


def _loaded_days(conn: psycopg.Connection[Any], kind: str) -> set[date]:
    create(conn)
    rows = conn.execute(sql("select_demo_days"), {"pattern": f"{kind}-%"}).fetchall()
    return {day for (day,) in rows}


def _orders_of(day: date, tz: ZoneInfo, seed: int) -> Iterator[SourceOrder]:
    chance = random.Random(f"{seed} {day}")  # noqa: S311 (a demo, not a secret)
    orders = [_order(f"demo-{day}-{number:03}", day, tz, chance) for number in range(1, chance.randint(25, 58) + 1)]
    yield from orders
    good = next(order for order in orders if order.status == "delivered")
    match day.toordinal() % 5:
        case 0:
            yield good._replace(order_id=None)
        case 1:
            yield good._replace(product="Silk Scarf", paid_at=f"{day} 23:30:00")
        case 2:
            yield good._replace(order_id=f"demo-{day}-901", paid_at=f"{day} 25:61")
        case 3:
            yield good._replace(order_id=f"demo-{day}-902", product=None)
        case _:
            pass
    yield good._replace(order_id=f"demo-{day}-903", status="created", paid_at=None)


def _order(order_id: str, day: date, tz: ZoneInfo, chance: random.Random) -> SourceOrder:
    # Between 08:00 and 22:59, most of them around the early evening.
    paid_at = datetime.combine(day, time(8), tzinfo=tz) + timedelta(minutes=int(chance.triangular(0, 15 * 60, 11 * 60)))
    ordered_at = paid_at - timedelta(minutes=chance.choice([1, 2, 3, 5, 8, 240, 700]))
    return SourceOrder(
        order_id=order_id,
        customer_id=f"customer-{chance.randint(1, 4000):04}",
        product=chance.choices(list(PRODUCTS), list(PRODUCTS.values()))[0],
        status=chance.choices(list(STATUSES), list(STATUSES.values()))[0],
        ordered_at=ordered_at.isoformat(),
        paid_at=paid_at.isoformat(),
    )


def _stale_orders_of(day: date, tz: ZoneInfo) -> list[SourceOrder]:
    chance = random.Random(f"stale {day}")  # noqa: S311 (a demo, not a secret)
    return [
        _order(f"stale-{day}-{number:03}", day, tz, chance)._replace(product=STALE_PRODUCT, status="delivered")
        for number in range(1, STALE_ORDERS + 1)
    ]
