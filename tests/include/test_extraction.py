from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from time import process_time
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.business_day import day_bounds
from include.campaigns import Campaign, Campaigns, OnUnknown
from include.extraction import COLUMNS, check, extract, read_orders, typed
from include.orders import CheckedOrder, ExtractionError, RejectReason
from include.settings import Settings
from local.postgres import EmbeddedPostgres
from local.source_table import SourceOrder, append

PARIS = ZoneInfo("Europe/Paris")
SAO_PAULO = ZoneInfo("America/Sao_Paulo")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
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


def read(
    conn: Connection,
    *days: date,
    tz: ZoneInfo = PARIS,
    sql: str = SQL,
    listed: Campaigns | None = None,
    chunk_rows: int = 20_000,
) -> list[CheckedOrder]:
    return list(
        read_orders(
            conn,
            sql,
            listed or campaigns(campaign("all")),
            days=[day_bounds(day, tz) for day in days or (DAY,)],
            statuses=STATUSES,
            timezone=tz,
            carry_days=14,
            chunk_rows=chunk_rows,
        )
    )


def keys(conn: Connection, *days: date, tz: ZoneInfo = PARIS) -> list[str | None]:
    return [row.order_key for row in read(conn, *days, tz=tz)]


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
    assert list(extract(orders_db, SQL, days=[], statuses=STATUSES, timezone=PARIS)) == []


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
    (found,) = read(orders_db, DAY)
    assert (found.order_key, found.order_id, found.customer_ref, found.product) == ("17", "17", "5", "Tote")
    assert found.ordered_at == datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
    assert found.paid_at == datetime(2026, 11, 21, 23, 0, tzinfo=UTC)


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


def test_values_that_the_driver_cannot_load_are_named_not_fatal(orders_db: Connection) -> None:
    times = {
        "timestamptz": ["infinity", "-infinity", "0044-03-15 12:00:00 BC", "10000-01-01", "294276-12-31"],
        "timestamp": ["infinity", "-infinity", "0044-03-15 12:00:00 BC", "10000-01-01"],
        "date": ["infinity", "-infinity", "0044-03-15 BC", "10000-01-01"],
        "time": ["24:00"],
        "timetz": ["24:00+01"],
        "interval": ["infinity", "178000000 years"],
        "numeric": ["NaN", "infinity"],
        "timestamptz[]": ["{infinity}"],
        "tstzrange": ["[infinity,)"],
        "bytea": ["\\x00ff"],
        "jsonb": ["[1]"],
    }
    for kind, texts in times.items():
        for text in texts:
            sql = f"""
                select 'odd' as order_key, null as order_id, null as customer_ref, 'Tote' as product,
                       null as ordered_at, '{text}'::{kind} as paid_at
                union all select 'good', null, null, 'Tote', null, null
            """
            orders_db.rollback()
            assert [row.reason for row in read(orders_db, sql=sql)] == [RejectReason.UNPARSABLE_TIME] * 2, (kind, text)


def test_a_text_that_is_no_text_is_named_not_fatal(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.uri("postgres"), autocommit=True) as conn:
        conn.execute("create database odd_bytes encoding 'SQL_ASCII' locale 'C' template template0")
    try:
        with psycopg.connect(postgres.uri("odd_bytes")) as conn:
            sql = f"""
                select key as order_key, key as order_id, null as customer_ref, 'Tote' as product, null as ordered_at,
                       '{DAY}' as paid_at
                from (values (E'caf\\xe9'), (E'caf\\xc3\\xa9')) as rows (key)
            """
            assert [(row.order_key, row.reason) for row in read(conn, sql=sql)] == [
                (None, RejectReason.INVALID_VALUE),
                ("café", None),
            ]
    finally:
        with psycopg.connect(postgres.uri("postgres"), autocommit=True) as conn:
            conn.execute("drop database odd_bytes")


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
    reasons = {row.order_key: row.reason for row in read(orders_db)}
    assert reasons == dict.fromkeys(UNREADABLE, RejectReason.UNPARSABLE_TIME) | {"good": None}


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
    assert [row.reason for row in read(orders_db)] == [None]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_no_text_for_a_time_breaks_the_reading_of_a_frame(text: str) -> None:
    frame = typed(raw({"order_key": "a", "paid_at": text}, {"order_key": "b", "paid_at": "2026-11-22T10:00:00"}), PARIS)
    assert frame["paid_at"].iloc[1] == pd.Timestamp("2026-11-22T09:00Z")


def test_the_callers_session_is_as_it_was(orders_db: Connection) -> None:
    append(orders_db, [])
    orders_db.execute("set timezone to 'Asia/Tokyo'")
    orders_db.commit()
    keys(orders_db, DAY)
    assert orders_db.execute("show timezone").fetchone() == ("Asia/Tokyo",)


def test_sql_that_lacks_a_column_or_fails_is_one_clear_error(orders_db: Connection) -> None:
    with pytest.raises(ExtractionError) as raised:
        read(orders_db, sql="select 'a' as order_key, 'a' as order_id, null as product, null as product")
    assert str(raised.value) == (
        "the extraction SQL must return order_key, order_id, customer_ref, product, ordered_at, paid_at, each once; "
        "correct customer_ref, product, ordered_at, paid_at"
    )
    with pytest.raises(ExtractionError) as raised:
        keys(orders_db, DAY)
    assert str(raised.value) == ('the extraction SQL failed (42P01: relation "orders" does not exist); correct it')
    with pytest.raises(ExtractionError, match="the extraction SQL failed"):
        read(orders_db, sql="select %(shop)s")


def test_the_sql_may_end_with_a_semicolon_or_a_comment_and_changes_nothing_in_the_shop(orders_db: Connection) -> None:
    append(orders_db, [order("a", f"{DAY}T12:00:00Z")])
    assert [row.order_key for row in read(orders_db, sql=f"{SQL.rstrip()};\n-- 100 %% of them")] == ["a"]
    deleting = "with gone as (delete from orders returning *) select * from gone"
    with pytest.raises(ExtractionError, match="the extraction SQL failed"):
        read(orders_db, sql=deleting)
    assert keys(orders_db, DAY) == ["a"]


def test_a_shop_may_return_one_row_per_item_and_times_of_any_type(orders_db: Connection) -> None:
    sql = """
        select order_id || '-' || line as order_key, order_id, null as customer_ref, product, line,
               date '2026-11-21' as ordered_at, timestamp '2026-11-22 00:30' as paid_at
        from (values (7, 1, 'Tote'), (7, 2, 'Mini')) as items (order_id, line, product)
        where %(timezone)s = 'Europe/Paris'
    """
    found = read(orders_db, sql=sql)
    assert [(o.order_key, o.order_id, o.product, o.customer_ref) for o in found] == [
        ("7-1", "7", "Tote", None),
        ("7-2", "7", "Mini", None),
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
    return pd.DataFrame([whole | row for row in rows], columns=list(COLUMNS), dtype=object)


def checked(listed: Campaigns, *rows: dict[str, object], tz: ZoneInfo = PARIS) -> list[CheckedOrder]:
    return list(check(typed(raw(*rows), tz), listed, tz, carry_days=14))


def reasons(*found: CheckedOrder) -> list[tuple[str | None, RejectReason | None]]:
    return [(row.order_key, row.reason) for row in found]


def test_an_order_carries_all_that_a_reservation_needs() -> None:
    listed = campaigns(
        campaign("bags", ["Tote"], tag="bags-{yyyy}-{mm}", ends_on="2026-11-30", on_unknown="hold", stale_after="7d")
    )
    row = {"order_key": "k", "order_id": "o", "ordered_at": "2026-11-22T10:30:00", "paid_at": "2026-11-22T23:30:00"}
    (found,) = checked(listed, row)
    assert found == CheckedOrder(
        row_number=1,
        order_key="k",
        order_id="o",
        customer_ref="c-1",
        product="Tote",
        ordered_at=datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
        paid_at=datetime(2026, 11, 22, 22, 30, tzinfo=UTC),
        business_day=DAY,
        campaign="bags",
        tag="bags-2026-11",
        on_unknown=OnUnknown.HOLD,
        stale_after=timedelta(days=7),
        carry_until=date(2026, 12, 14),
    )
    assert (type(found.paid_at), type(found.business_day)) == (datetime, date)


NAN = float("nan")


def without_offset(year: int, month: int, day: int, hour: int, minute: int = 0) -> datetime:
    return datetime.combine(date(year, month, day), time(hour, minute))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("00123", "00123"),
        ("1e5", "1e5"),
        (17, "17"),
        (17.0, "17.0"),
        (Decimal("1.50"), "1.50"),
        (True, "True"),
        (date(2026, 11, 22), "2026-11-22"),
        ("NA", "NA"),
        (" k ", "k"),
        ("\u00a0k\x1f", "k"),
        ("", None),
        (" \t", None),
        *((missing, None) for missing in (None, NAN, pd.NA, pd.NaT, Decimal("NaN"))),
    ],
)
def test_texts_stay_as_they_look_without_blanks_around_them(given: object, read: str | None) -> None:
    frame = typed(raw(dict.fromkeys(["order_key", "order_id", "customer_ref", "product"], given)), PARIS)
    assert frame.iloc[0, :4].tolist() == [read] * 4


@pytest.mark.parametrize(
    ("given", "zone", "read"),
    [
        # with an offset, or a zone of its own
        (datetime(2026, 11, 22, 10, tzinfo=timezone(timedelta(hours=5, minutes=30))), PARIS, "2026-11-22T04:30Z"),
        (datetime(2026, 11, 22, 10, tzinfo=SAO_PAULO), PARIS, "2026-11-22T13:00Z"),
        (" 2026-11-22T10:00:00.123456-02:00 ", PARIS, "2026-11-22T12:00:00.123456Z"),
        ("2026-11-22 10:00:00+0530", PARIS, "2026-11-22T04:30Z"),
        # without one: the shop's
        (without_offset(2026, 11, 22, 10), PARIS, "2026-11-22T09:00Z"),
        ("2026-07-22T10:00", PARIS, "2026-07-22T08:00Z"),
        (date(2026, 11, 22), PARIS, "2026-11-21T23:00Z"),
        ("2026-11-22", PARIS, "2026-11-21T23:00Z"),
        ("20261122", PARIS, "2026-11-21T23:00Z"),
        # that the clock left out: with the offset from before it
        ("2026-03-29T02:30", PARIS, "2026-03-29T01:30Z"),
        ("2017-10-15T00:30", SAO_PAULO, "2017-10-15T03:30Z"),
        (date(2017, 10, 15), SAO_PAULO, "2017-10-15T03:00Z"),
        (without_offset(2026, 10, 4, 2, 15), LORD_HOWE, "2026-10-03T15:45Z"),
        # that the clock showed twice: the first, unless the driver says which
        ("2026-10-25T02:30", PARIS, "2026-10-25T00:30Z"),
        (without_offset(2026, 10, 25, 2, 30), PARIS, "2026-10-25T00:30Z"),
        (without_offset(2026, 10, 25, 2, 30).replace(fold=1), PARIS, "2026-10-25T01:30Z"),
        # from long ago
        ("0044-03-15T12:00Z", PARIS, "0044-03-15T12:00Z"),
        # what is no time, or lies where not every zone has a date
        *((text, PARIS, None) for text in ("soon", "", "2026-02-30", "2026-11-22T24:01", "NaT", "now", "1763800000")),
        *((value, PARIS, None) for value in (None, NAN, pd.NA, pd.NaT, 0, 17.5, True, time(10))),
        ("0001-01-01", PARIS, None),
        ("0001-01-01T23:59:59Z", SAO_PAULO, None),
        ("9999-12-31T23:00:00-12:00", PARIS, None),
        (without_offset(9999, 12, 31, 23, 59), PARIS, None),
    ],
)
def test_times_become_instants_in_utc(given: object, zone: ZoneInfo, read: str | None) -> None:
    (found,) = checked(campaigns(campaign("all")), {"order_key": "k", "ordered_at": given, "paid_at": given}, tz=zone)
    expected = None if read is None else datetime.fromisoformat(read)
    assert (found.ordered_at, found.paid_at) == (expected, expected)
    assert found.reason is (RejectReason.UNPARSABLE_TIME if read is None else None)


def test_a_row_without_a_key_is_named() -> None:
    found = checked(campaigns(campaign("all")), *({"order_key": key} for key in (None, "good", "", "\t")))
    assert reasons(*found) == [
        (None, RejectReason.MISSING_KEY),
        ("good", None),
        (None, RejectReason.MISSING_KEY),
        (None, RejectReason.MISSING_KEY),
    ]
    assert [row.row_number for row in found] == [1, 2, 3, 4]
    assert (found[0].business_day, found[0].campaign, found[0].tag) == (DAY, None, None)
    assert found[0].detail == "the row has no order key; give the order an id"


def test_a_key_of_more_than_500_characters_is_named_and_no_key_any_more() -> None:
    found = checked(
        campaigns(campaign("all")), *({"order_key": key} for key in ("é" * 500, "k" * 501, f" {'k' * 500} "))
    )
    assert [row.reason for row in found] == [None, RejectReason.VALUE_TOO_LONG, None]
    assert (found[1].order_key, found[1].business_day, found[1].campaign) == (None, DAY, None)
    assert found[1].detail == f"its order_key is longer than 500 characters: '{'k' * 50}'…; give it a shorter one"


@pytest.mark.parametrize("name", ["order_key", "order_id", "customer_ref", "product"])
@pytest.mark.parametrize(
    ("value", "reason", "says"),
    [
        ("a\0b", RejectReason.INVALID_VALUE, "holds a NUL or bytes that are no text"),
        ("caf\udce9", RejectReason.INVALID_VALUE, "holds a NUL or bytes that are no text"),
        ("x" * 10_001, RejectReason.VALUE_TOO_LONG, "is longer than"),
        (b"17", RejectReason.INVALID_VALUE, "is of type bytes, or no number; cast it to text in the extraction SQL"),
        ({"id": 17}, RejectReason.INVALID_VALUE, "is of type dict, or no number"),
        ([17], RejectReason.INVALID_VALUE, "is of type list, or no number"),
        (timedelta(1), RejectReason.INVALID_VALUE, "is of type timedelta, or no number"),
        (float("inf"), RejectReason.INVALID_VALUE, "is of type float, or no number"),
        (Decimal("-Infinity"), RejectReason.INVALID_VALUE, "is of type Decimal, or no number"),
        (10**5000, RejectReason.INVALID_VALUE, "is of type int, or no number"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_the_ledger_would_refuse_is_named_and_the_rest_goes_on(
    name: str, value: object, reason: RejectReason, says: str
) -> None:
    found = checked(campaigns(campaign("all")), {"order_key": "odd", name: value}, {"order_key": "good"})
    assert [row.reason for row in found] == [reason, None]
    assert (found[0].detail or "").startswith(f"its {name} {says}")
    assert getattr(found[0], name) is None
    if name == "customer_ref":
        assert "'" not in (found[0].detail or "")


def test_a_missing_product_is_named_only_where_the_campaigns_need_one() -> None:
    rows = [{"order_key": "none", "product": " "}, {"order_key": "other", "product": "Watch"}]
    bags = campaign("bags", ["Tote"])
    found = checked(campaigns(bags), *rows)
    assert reasons(*found) == [("none", RejectReason.MISSING_PRODUCT), ("other", RejectReason.NO_CAMPAIGN)]
    assert [row.detail for row in found] == [
        "it has no product, which the campaigns of 2026-11-22 need; add it to the order",
        "no campaign takes the product 'Watch' on 2026-11-22; add one if it should",
    ]
    assert reasons(*checked(campaigns(bags, campaign("rest")), *rows)) == [("none", None), ("other", None)]
    over = campaign("bags", ["Tote"], ends_on="2026-11-21")
    assert reasons(*checked(campaigns(over), *rows)) == [
        ("none", RejectReason.NO_CAMPAIGN),
        ("other", RejectReason.NO_CAMPAIGN),
    ]


def test_the_campaign_is_found_by_the_business_day_not_the_day_in_utc() -> None:
    listed = campaigns(campaign("october", ends_on="2017-10-14"), campaign("later"))
    rows = [
        {"order_key": "before", "paid_at": "2017-10-15T02:59:59Z"},
        {"order_key": "after", "paid_at": "2017-10-15T03:00:00Z"},
    ]
    found = checked(listed, *rows, tz=SAO_PAULO)
    assert [(o.order_key, o.campaign, o.business_day) for o in found] == [
        ("before", "october", date(2017, 10, 14)),
        ("after", "later", date(2017, 10, 15)),
    ]


def test_an_order_may_lack_its_id_its_customer_and_the_time_it_was_placed() -> None:
    row = {"order_key": "k", "customer_ref": None, "ordered_at": "soon"}
    (found,) = checked(campaigns(campaign("all")), row)
    assert (found.order_id, found.customer_ref, found.ordered_at, found.reason) == (None, None, None, None)


def test_no_rows_are_no_orders() -> None:
    assert checked(campaigns(campaign("all"))) == []


def test_rows_are_counted_over_all_chunks(orders_db: Connection) -> None:
    append(orders_db, [order(f"o{n}", f"{DAY}T12:00:0{n}Z") for n in range(7)])
    whole = read(orders_db)
    assert [(row.row_number, row.order_key) for row in whole] == [(n + 1, f"o{n}") for n in range(7)]
    for chunk_rows in (1, 3, 7):
        assert read(orders_db, chunk_rows=chunk_rows) == whole


def test_a_chunk_is_given_before_the_next_is_read(orders_db: Connection) -> None:
    sql = """
        select n as order_key, 10 / (25 - n) as order_id, null as customer_ref, 'Tote' as product, null as ordered_at,
               '2026-11-22' as paid_at
        from generate_series(1, 30) as rows (n)
    """
    frames = extract(orders_db, sql, days=[], statuses=STATUSES, timezone=PARIS, chunk_rows=10)
    assert [len(next(frames)), len(next(frames))] == [10, 10]
    with pytest.raises(ExtractionError, match=r"the extraction SQL failed \(22012: division by zero\); correct it"):
        next(frames)


def test_100_000_orders_are_checked_in_seconds() -> None:
    frame = raw(*({"order_key": f"o{n}", "ordered_at": f"{DAY}T08:00:00"} for n in range(100_000)))
    listed = campaigns(campaign("bags", ["Tote"]), campaign("rest"))
    start = process_time()
    assert sum(1 for _ in check(typed(frame, PARIS), listed, PARIS, 14)) == 100_000
    assert process_time() - start < 5
