import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.business_day import day_bounds
from include.campaigns import Campaign, Campaigns, OnUnknown
from include.orders import CheckedOrders, ExtractionError, RejectReason, check, extract, typed
from include.settings import Settings
from local.source_table import SourceOrder, append

PARIS = ZoneInfo("Europe/Paris")
SAO_PAULO = ZoneInfo("America/Sao_Paulo")
SQL = (Path(__file__).parents[2] / "include" / "brand" / "extract_orders.sql").read_text()
STATUSES = Settings().order_statuses
DAY = date(2026, 11, 22)

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def orders_db(database: str) -> Iterator[Connection]:
    with psycopg.connect(database) as conn:
        yield conn


def order(order_id: str | None, paid_at: str | None, product: str | None = "Tote", status: str = "paid") -> SourceOrder:
    return SourceOrder(order_id, "c-1", product, status, "2026-11-20 09:00:00", paid_at)


def keys(conn: Connection, *days: date, tz: ZoneInfo = PARIS, sql: str = SQL) -> list[str | None]:
    frame = extract(conn, sql, days=[day_bounds(day, tz) for day in days], statuses=STATUSES, timezone=tz)
    return [None if pd.isna(key) else key for key in frame["order_key"]]


def test_a_day_holds_what_was_paid_from_midnight_to_midnight_in_the_shops_zone(orders_db: Connection) -> None:
    append(
        orders_db,
        [
            order("last-of-the-day-before", "2026-11-21T22:59:59.999Z"),
            order("first", "2026-11-21T23:00:00Z"),
            order("last", "2026-11-22T23:59:59.999999+01:00"),
            order("first-of-the-next-day", "2026-11-23T00:00:00+01:00"),
        ],
    )
    assert keys(orders_db, DAY) == ["first", "last"]
    assert keys(orders_db, date(2026, 11, 21)) == ["last-of-the-day-before"]
    assert keys(orders_db, date(2026, 11, 23)) == ["first-of-the-next-day"]


def test_days_of_23_and_25_hours_are_whole(orders_db: Connection) -> None:
    append(
        orders_db,
        [
            order("spring-first", "2026-03-28T23:00:00Z"),
            order("spring-last", "2026-03-29T21:59:59Z"),
            order("spring-next", "2026-03-29T22:00:00Z"),
            order("autumn-first", "2026-10-24T22:00:00Z"),
            order("autumn-last", "2026-10-25T22:59:59Z"),
            order("autumn-next", "2026-10-25T23:00:00Z"),
            # In São Paulo the 15th of October 2017 began at 01:00; the 17th of February 2018 had 23:00 twice.
            order("brazil-before", "2017-10-15T02:59:59Z"),
            order("brazil-first", "2017-10-15T03:00:00Z"),
            order("brazil-last", "2017-10-16T01:59:59Z"),
            order("brazil-long-first", "2018-02-17T02:00:00Z"),
            order("brazil-long-last", "2018-02-18T02:59:59Z"),
        ],
    )
    assert keys(orders_db, date(2026, 3, 29)) == ["spring-first", "spring-last"]
    assert keys(orders_db, date(2026, 10, 25)) == ["autumn-first", "autumn-last"]
    assert keys(orders_db, date(2017, 10, 15), tz=SAO_PAULO) == ["brazil-first", "brazil-last"]
    assert keys(orders_db, date(2018, 2, 17), tz=SAO_PAULO) == ["brazil-long-first", "brazil-long-last"]


def test_one_query_reads_a_set_of_days_and_no_day_reads_nothing(orders_db: Connection) -> None:
    append(orders_db, [order(f"o{n}", f"2026-11-{n}T12:00:00Z") for n in range(10, 23)])
    assert keys(orders_db, DAY, date(2026, 11, 10), date(2026, 11, 15)) == ["o10", "o15", "o22"]
    assert keys(orders_db) == []


def test_only_orders_of_an_allowed_status_that_are_paid_are_read(orders_db: Connection) -> None:
    statuses = [
        "approved",
        "created",
        "delivered",
        "invoiced",
        "processing",
        "shipped",
        "canceled",
        "unavailable",
        "Paid",
    ]
    append(orders_db, [order(status, f"{DAY}T12:00:00Z", status=status) for status in statuses])
    append(orders_db, [order("not-paid", None), order("blank-paid", "  ")])
    assert keys(orders_db, DAY) == ["approved", "delivered", "invoiced", "processing", "shipped"]


def test_the_order_is_by_paid_at_then_product_then_key(orders_db: Connection) -> None:
    noon, later = f"{DAY}T12:00:00Z", f"{DAY}T12:00:01Z"
    append(
        orders_db,
        [
            order("a", later, "A"),
            order("d", noon, None),
            order("c", noon, "b"),
            order("C", noon, "b"),
            order("b", noon, "B"),
            order("e", "soon"),
        ],
    )
    assert keys(orders_db, DAY) == ["b", "C", "c", "d", "a", "e"]


@pytest.mark.parametrize("kind", ["text", "timestamp", "timestamptz"])
def test_times_may_be_text_timestamp_or_timestamptz(orders_db: Connection, kind: str) -> None:
    orders_db.execute("set timezone to 'Asia/Tokyo'")
    orders_db.execute("set datestyle to 'SQL, DMY'")
    orders_db.execute(
        f"""create table orders (
          order_id bigint, customer_id int, product varchar(20), status text, ordered_at {kind}, paid_at {kind}
        )""".encode()
    )
    zone = " Europe/Paris" if kind == "timestamptz" else ""
    orders_db.execute(
        f"""insert into orders values
          (17, 5, 'Tote', 'paid', '2026-11-21 23:00{zone}', '2026-11-22 00:00{zone}'),
          (18, null, null, 'paid', null, '2026-11-21 23:59:59{zone}')""".encode()
    )
    frame = extract(orders_db, SQL, days=[day_bounds(DAY, PARIS)], statuses=STATUSES, timezone=PARIS)
    assert frame.to_dict("records") == [
        {
            "order_key": "17",
            "order_id": "17",
            "customer_ref": "5",
            "product": "Tote",
            "ordered_at": pd.Timestamp("2026-11-21T22:00Z"),
            "paid_at": pd.Timestamp("2026-11-21T23:00Z"),
        }
    ]


def test_infinite_times_of_a_typed_column_are_reported_not_fatal(orders_db: Connection) -> None:
    orders_db.execute(
        b"""create table orders (
          order_id text, customer_id text, product text, status text, ordered_at timestamptz, paid_at timestamptz)"""
    )
    orders_db.execute(
        f"""insert into orders values
          ('never', 'c', 'Tote', 'paid', 'infinity', 'infinity'),
          ('ancient', 'c', 'Tote', 'paid', null, '0044-03-15 12:00:00 BC'),
          ('good', 'c', 'Tote', 'paid', '-infinity', '{DAY} 12:00:00+01')""".encode()
    )
    assert keys(orders_db, DAY) == ["good", "ancient", "never"]


UNREADABLE = [
    "infinity",
    "now",
    "today",
    "epoch",
    "soon",
    "2026-11-22 25:61",
    "2026-02-30T10:00:00Z",
    "22/11/2026 10:00",
    "11/12/2026",
    "20261122",
    "1763800000",
    "2026-11-22 10:00 BC",
    "12026-11-22 10:00",
    "2026-11-22T10:00:00+99:00",
    "2026-11-22T10:00:00 Mars/Olympus",
]


def test_unreadable_times_are_reported_by_key_and_the_rest_goes_on(orders_db: Connection) -> None:
    append(orders_db, [order(text, text) for text in UNREADABLE])
    append(orders_db, [order("good", f"{DAY}T10:00:00Z"), order("canceled", "soon", status="canceled")])
    checked = served(orders_db, campaigns(campaign("all")))
    assert [found.order_key for found in checked.orders] == ["good"]
    assert {(row.order_key, row.reason) for row in checked.rejected} == {
        (text, RejectReason.UNPARSABLE_TIME) for text in UNREADABLE
    }


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22",
        "2026-11-22 10:00",
        " 2026-11-22T10:00:00 ",
        "2026-11-22t10:00:00.123456z",
        "2026-11-22 10:00:00 UTC",
        "2026-11-22 10:00:00.1+0530",
        "2026-11-22 10:00:00-02",
    ],
)
def test_iso_times_are_read(orders_db: Connection, text: str) -> None:
    append(orders_db, [order("a", text)])
    assert len(served(orders_db, campaigns(campaign("all"))).orders) == 1


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_no_text_for_a_time_breaks_the_reading_of_a_frame(text: str) -> None:
    frame = typed(raw({"order_key": "a", "paid_at": text}, {"order_key": "b", "paid_at": "2026-11-22T10:00:00"}), PARIS)
    assert frame["paid_at"].iloc[1] == pd.Timestamp("2026-11-22T09:00Z")


def test_the_ends_of_the_calendar_are_unreadable_not_fatal() -> None:
    rows = [{"order_key": "a", "paid_at": "0001-01-01"}, {"order_key": "b", "paid_at": "9999-12-31T23:00:00-12:00"}]
    assert typed(raw(*rows), PARIS)["paid_at"].isna().all()


def test_the_callers_session_is_as_it_was(orders_db: Connection) -> None:
    append(orders_db, [])
    orders_db.execute("set timezone to 'Asia/Tokyo'")
    orders_db.commit()
    keys(orders_db, DAY)
    assert orders_db.execute("show timezone").fetchone() == ("Asia/Tokyo",)


def test_sql_that_lacks_a_column_or_fails_is_one_clear_error(orders_db: Connection) -> None:
    with pytest.raises(ExtractionError) as raised:
        keys(orders_db, DAY, sql="select 'a' as order_key, 'a' as order_id, null as product, null as product")
    assert str(raised.value) == (
        "the extraction SQL must return order_key, order_id, customer_ref, product, ordered_at, paid_at, each once; "
        "correct customer_ref, product, ordered_at, paid_at"
    )
    with pytest.raises(ExtractionError) as raised:
        keys(orders_db, DAY)
    assert str(raised.value) == ('the extraction SQL failed (42P01: relation "orders" does not exist); correct it')
    with pytest.raises(ExtractionError, match="the extraction SQL failed"):
        keys(orders_db, DAY, sql="select %(shop)s")


def test_a_shop_may_return_one_row_per_item_and_times_of_any_type(orders_db: Connection) -> None:
    sql = """
        select order_id || '-' || line as order_key, order_id, null as customer_ref, product, line,
               date '2026-11-21' as ordered_at, timestamp '2026-11-22 00:30' as paid_at
        from (values (7, 1, 'Tote'), (7, 2, 'Mini')) as items (order_id, line, product)
        where %(timezone)s = 'Europe/Paris'
    """
    frame = extract(orders_db, sql, days=[day_bounds(DAY, PARIS)], statuses=STATUSES, timezone=PARIS)
    found = check(frame, campaigns(campaign("all")), PARIS, 14).orders
    assert [(o.order_key, o.order_id, o.product, o.customer_ref) for o in found] == [
        ("7-2", "7", "Mini", None),
        ("7-1", "7", "Tote", None),
    ]
    assert {(o.ordered_at, o.paid_at, o.business_day) for o in found} == {
        (datetime(2026, 11, 20, 23, 0, tzinfo=UTC), datetime(2026, 11, 21, 23, 30, tzinfo=UTC), DAY)
    }


# --- checks -----------------------------------------------------------------------------------------------------------


def campaign(name: str, products: object = "*", **fields: object) -> Campaign:
    return Campaign.model_validate({"name": name, "tag": name, "products": products, "stale_after": "30d", **fields})


def campaigns(*listed: Campaign) -> Campaigns:
    return Campaigns(listed)


def raw(*rows: dict[str, object]) -> pd.DataFrame:
    whole = {"order_id": None, "customer_ref": "c-1", "product": "Tote", "ordered_at": None}
    whole["paid_at"] = f"{DAY}T10:00:00Z"
    columns = ["order_key", "order_id", "customer_ref", "product", "ordered_at", "paid_at"]
    return pd.DataFrame([whole | row for row in rows], columns=columns, dtype=object)


def checked(listed: Campaigns, *rows: dict[str, object], tz: ZoneInfo = PARIS) -> CheckedOrders:
    return check(typed(raw(*rows), tz), listed, tz, carry_days=14)


def served(conn: Connection, listed: Campaigns) -> CheckedOrders:
    frame = extract(conn, SQL, days=[day_bounds(DAY, PARIS)], statuses=STATUSES, timezone=PARIS)
    return check(frame, listed, PARIS, carry_days=14)


def reasons(result: CheckedOrders) -> list[tuple[str | None, RejectReason]]:
    return [(row.order_key, row.reason) for row in result.rejected]


def test_an_order_carries_all_that_a_reservation_needs() -> None:
    listed = campaigns(
        campaign("bags", ["Tote"], tag="bags-{yyyy}-{mm}", ends_on="2026-11-30", on_unknown="hold", stale_after="7d")
    )
    row = {"order_key": "k", "order_id": "o", "ordered_at": "2026-11-22T10:30:00", "paid_at": "2026-11-22T23:30:00"}
    (found,) = checked(listed, row).orders
    assert found.order_key == "k"
    assert found.order_id == "o"
    assert found.customer_ref == "c-1"
    assert found.product == "Tote"
    assert found.ordered_at == datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
    assert found.paid_at == datetime(2026, 11, 22, 22, 30, tzinfo=UTC)
    assert type(found.paid_at) is datetime
    assert found.business_day == DAY
    assert type(found.business_day) is date
    assert (found.campaign, found.tag) == ("bags", "bags-2026-11")
    assert found.on_unknown is OnUnknown.HOLD
    assert found.stale_after == timedelta(days=7)
    assert found.carry_until == date(2026, 12, 14)


def test_keys_stay_text_whatever_they_look_like() -> None:
    listed = campaigns(campaign("all"))
    rows = [
        {"order_key": key, "paid_at": f"{DAY}T10:00:0{n}Z"} for n, key in enumerate(["00123", "1e5", 17, "NA", " k "])
    ]
    assert [found.order_key for found in checked(listed, *rows).orders] == ["00123", "1e5", "17", "NA", "k"]


def test_a_row_without_a_key_is_reported_by_its_place() -> None:
    rows = [{"order_key": key, "order_id": "o-9" if key == "\t" else None} for key in (None, "", "  ", "\t")]
    result = checked(campaigns(campaign("all")), {"order_key": "good"}, *rows)
    assert [found.order_key for found in result.orders] == ["good"]
    assert reasons(result) == [(None, RejectReason.MISSING_KEY)] * 4
    paid = "paid at 2026-11-22T10:00:00+00:00"
    assert [row.row for row in result.rejected] == [
        f"row 2 of the extraction, {paid}",
        f"row 3 of the extraction, {paid}",
        f"row 4 of the extraction, {paid}",
        f"order_id o-9, {paid}",
    ]
    assert {row.business_day for row in result.rejected} == {DAY}


def test_of_several_rows_with_one_key_the_first_by_paid_at_then_product_is_served() -> None:
    result = checked(
        campaigns(campaign("all")),
        {"order_key": "a", "product": "third", "paid_at": f"{DAY}T12:00:00Z"},
        {"order_key": "a", "product": "second", "paid_at": f"{DAY}T11:00:00Z"},
        {"order_key": "a", "product": None, "paid_at": f"{DAY}T11:00:00Z"},
        {"order_key": "a", "product": "first", "paid_at": f"{DAY}T12:00:00+01:00"},
        {"order_key": "a", "product": "broken", "paid_at": "soon"},
        {"order_key": "b"},
    )
    assert [(found.order_key, found.product) for found in result.orders] == [("b", "Tote"), ("a", "first")]
    assert reasons(result) == [("a", RejectReason.UNPARSABLE_TIME)] + [("a", RejectReason.DUPLICATE_KEY)] * 3
    assert result.rejected[1].detail == "an earlier row has the key 'a' too and is served; give each order one row"


def test_a_missing_product_is_reported_only_where_the_campaigns_need_one() -> None:
    rows = [{"order_key": "none", "product": " "}, {"order_key": "other", "product": "Watch"}]
    bags = campaign("bags", ["Tote"])
    assert reasons(checked(campaigns(bags), *rows)) == [
        ("other", RejectReason.NO_CAMPAIGN),
        ("none", RejectReason.MISSING_PRODUCT),
    ]
    assert reasons(checked(campaigns(bags, campaign("rest")), *rows)) == []
    over = campaign("bags", ["Tote"], ends_on="2026-11-21")
    assert reasons(checked(campaigns(over), *rows)) == [
        ("other", RejectReason.NO_CAMPAIGN),
        ("none", RejectReason.NO_CAMPAIGN),
    ]


def test_the_campaign_is_found_by_the_business_day_not_the_day_in_utc() -> None:
    listed = campaigns(campaign("october", ends_on="2017-10-14"), campaign("later"))
    rows = [
        {"order_key": "before", "paid_at": "2017-10-15T02:59:59Z"},
        {"order_key": "after", "paid_at": "2017-10-15T03:00:00Z"},
    ]
    found = checked(listed, *rows, tz=SAO_PAULO).orders
    assert [(o.order_key, o.campaign, o.business_day) for o in found] == [
        ("before", "october", date(2017, 10, 14)),
        ("after", "later", date(2017, 10, 15)),
    ]


def test_orders_of_a_campaign_that_the_run_leaves_out_wait_and_are_not_reported() -> None:
    listed = campaigns(campaign("bags", ["Tote"]), campaign("rest")).subset(["rest"])
    result = checked(listed, {"order_key": "tote"}, {"order_key": "watch", "product": "Watch"})
    assert [found.order_key for found in result.orders] == ["watch"]
    assert result.left_out == ["tote"]
    assert result.rejected == []


def test_an_order_may_lack_its_id_its_customer_and_the_time_it_was_placed() -> None:
    row = {"order_key": "k", "customer_ref": None, "ordered_at": "soon"}
    (found,) = checked(campaigns(campaign("all")), row).orders
    assert (found.order_id, found.customer_ref, found.ordered_at) == ("k", None, None)


def test_no_rows_are_no_orders() -> None:
    assert checked(campaigns(campaign("all"))) == CheckedOrders([], [], [])


def test_no_detail_names_the_customer() -> None:
    rows = [{"order_key": None}, {"order_key": "a", "paid_at": "soon"}, {"order_key": "b"}, {"order_key": "b"}]
    result = checked(campaigns(campaign("never", ends_on="2000-01-01")), *rows)
    assert len(result.rejected) == 4
    assert not any("c-1" in row.row + row.detail for row in result.rejected)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "order_key": st.sampled_from([None, " ", "a", "b", "c"]),
                "product": st.sampled_from([None, "Tote", "Watch"]),
                "paid_at": st.sampled_from([None, "soon", *(f"{DAY}T1{n}:00:00Z" for n in range(3))]),
            }
        ),
        max_size=12,
    )
)
def test_every_row_is_served_or_reported_once_and_no_key_is_served_twice(rows: list[dict[str, object]]) -> None:
    result = checked(campaigns(campaign("bags", ["Tote"])), *rows)
    assert len(result.orders) + len(result.rejected) == len(rows)
    served_keys = [found.order_key for found in result.orders]
    assert len(served_keys) == len(set(served_keys))
    assert [found.paid_at for found in result.orders] == sorted(found.paid_at for found in result.orders)


def test_a_day_of_100_000_orders_is_checked_in_seconds() -> None:
    frame = typed(raw(*({"order_key": f"o{n}", "ordered_at": f"{DAY}T08:00:00"} for n in range(100_000))), PARIS)
    listed = campaigns(campaign("bags", ["Tote"]), campaign("rest"))
    start = time.process_time()
    assert len(check(frame, listed, PARIS, 14).orders) == 100_000
    assert time.process_time() - start < 10
