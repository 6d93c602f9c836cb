"""What the page reads: the published views only, as somebody who may see no link, and never for long."""

from datetime import date

import psycopg
import pytest

from include.ledger.states import ReservationState
from include.page import reading
from include.page.reading import Asked, Day, FunnelRow, read_content, summed
from include.sql_files import sql_of
from include.warehouse.database import SafeDatabaseError, open_session
from include.warehouse.publishing import load_links
from tests.builders.ledger_rows import LedgerRows
from tests.databases import Database

page_sql = sql_of("include.page")

MONDAY, TUESDAY, WEDNESDAY = date(2026, 11, 16), date(2026, 11, 17), date(2026, 11, 18)


@pytest.fixture
def rows(warehouse: str) -> LedgerRows:
    return LedgerRows(warehouse)


def on_day(rows: LedgerRows, day: date, *keys: str) -> None:
    rows.do("update passport_ops.reservation set business_day = %s where order_key = any(%s)", day, list(keys))


@pytest.fixture
def scene(rows: LedgerRows, warehouse: str) -> str:
    """Monday: three published. Tuesday: one published, one held, one out of stock, one cancelled."""
    for key in ("m1", "m2", "m3", "t1"):
        rows.link(key, "gift-11")
    rows.order("t2", "watch-11", "held", campaign="watches")
    rows.order("t3", "gift-11", "out_of_stock")
    rows.order("t4", "gift-11", "cancelled")
    on_day(rows, MONDAY, "m1", "m2", "m3")
    on_day(rows, TUESDAY, "t1", "t2", "t3", "t4")
    rows.read(MONDAY, TUESDAY)
    load_links(warehouse, closes=[MONDAY], run_id="run of monday")
    load_links(warehouse, closes=[TUESDAY], run_id="run of tuesday")
    return warehouse


def test_an_empty_warehouse_is_empty(warehouse: str) -> None:
    content = read_content(warehouse, Asked())

    assert content.is_empty
    assert content.found is None


def test_newest_days_come_first_with_their_figures_and_states(scene: str) -> None:
    days = read_content(scene, Asked()).days

    assert days is not None
    assert [(day.business_day, day.orders, day.published, day.lacking) for day in days] == [
        (TUESDAY, 3, 1, 2),
        (MONDAY, 3, 3, 0),
    ]
    assert days[0].by_state == {
        ReservationState.RESERVED: 1,
        ReservationState.OUT_OF_STOCK: 1,
        ReservationState.HELD: 1,
    }
    assert all(day.loaded_at for day in days)


def test_a_published_day_without_orders_is_shown(scene: str) -> None:
    load_links(scene, closes=[WEDNESDAY], run_id="run of wednesday")

    days = read_content(scene, Asked()).days

    assert days is not None
    assert (days[0].business_day, days[0].orders, days[0].published) == (WEDNESDAY, 0, 0)
    assert [day.state for day in days] == ["unread", "lacking", "complete"]


def test_one_day_can_be_asked_for_even_if_nothing_is_known_of_it(scene: str) -> None:
    known = read_content(scene, Asked(day=MONDAY)).days
    unknown = read_content(scene, Asked(day=WEDNESDAY)).days

    assert known is not None
    assert [(day.business_day, day.orders) for day in known] == [(MONDAY, 3)]
    assert unknown == [Day(WEDNESDAY, loaded_at=None)]


def test_a_campaign_shows_its_own_days_and_orders(scene: str) -> None:
    content = read_content(scene, Asked(campaign="watches"))

    assert content.days is not None
    assert [(day.business_day, day.orders, day.lacking) for day in content.days] == [(TUESDAY, 1, 1)]
    assert content.funnel is not None
    assert [row.campaign for row in content.funnel] == ["watches"]
    assert content.campaigns == ["gift", "watches"]


def test_seven_days_are_shown_and_the_older_ones_after_them(rows: LedgerRows, warehouse: str) -> None:
    for number in range(1, 10):
        rows.order(f"o{number}", "gift-11")
        on_day(rows, date(2026, 11, number), f"o{number}")

    newest = read_content(warehouse, Asked())
    assert newest.days is not None
    assert [day.business_day.day for day in newest.days] == [9, 8, 7, 6, 5, 4, 3]
    assert newest.older

    rest = read_content(warehouse, Asked(before=date(2026, 11, 3)))
    assert rest.days is not None
    assert [day.business_day.day for day in rest.days] == [2, 1]
    assert not rest.older


def test_attention_hides_orders_of_other_days_and_campaigns_but_never_tags(scene: str) -> None:
    def kinds(asked: Asked) -> list[tuple[str, str | None]]:
        return sorted((row.kind, row.order_key) for row in read_content(scene, asked).attention or [])

    assert kinds(Asked()) == [("held", "t2"), ("tag_empty", None)]
    assert kinds(Asked(day=MONDAY)) == [("tag_empty", None)]
    assert kinds(Asked(campaign="watches")) == [("held", "t2"), ("tag_empty", None)]
    assert kinds(Asked(campaign="gift")) == [("tag_empty", None)]


def test_attention_hides_lines_of_other_days(scene: str, rows: LedgerRows) -> None:
    rows.do(
        """
        insert into passport_ops.rejected_day (subject, business_day, reason, open_rows, first_keys, since) values
        ('2026-11-16 missing_key', '2026-11-16', 'missing_key', 3, array['order_id 7'], now()),
        ('no day unparsable_time', null, 'unparsable_time', 1, array['r1'], now())
        """
    )

    def subjects(asked: Asked) -> list[str | None]:
        return sorted(row.row_key or "" for row in read_content(scene, asked).attention or [] if row.kind == "rejected")

    assert subjects(Asked(day=MONDAY)) == ["2026-11-16 missing_key", "no day unparsable_time"]
    assert subjects(Asked(day=TUESDAY)) == ["no day unparsable_time"]


def test_five_of_a_kind_are_shown_with_how_many_there_are(rows: LedgerRows, warehouse: str) -> None:
    for number in range(8):
        rows.order(f"h{number}", "gift-11", "held")

    attention = read_content(warehouse, Asked()).attention

    assert attention is not None
    assert [(row.kind, row.of_kind) for row in attention] == [("held", 8)] * 5


def test_an_order_is_found_by_its_key_or_by_its_id(scene: str, rows: LedgerRows) -> None:
    rows.do("update passport_ops.reservation set order_id = 'shop-7' where order_key in ('m1', 'm2')")

    def found(wanted: str) -> list[tuple[str, str]]:
        answer = read_content(scene, Asked(order=wanted)).found
        assert answer is not None
        return [(order.order_key, order.state) for order in answer.orders]

    assert found("t2") == [("t2", "held")]
    assert found("shop-7") == [("m1", "reserved"), ("m2", "reserved")]
    assert found("nobody's") == []


@pytest.mark.parametrize(("asked", "is_indexed"), [("order_key", True), ("order_id", False)])
def test_a_key_is_found_by_its_index(rows: LedgerRows, asked: str, is_indexed: bool) -> None:
    values = {"order_key": None, "order_id": None, "rows": 20, asked: "m1"}
    rows.do("set enable_seqscan = off")
    plan = "\n".join(line for (line,) in rows.connection.execute("explain " + page_sql("orders"), values))
    assert ("Index Cond: (order_key = 'm1'::text)" in plan) == is_indexed


def test_what_is_the_matter_with_an_order_is_found_with_it(scene: str, rows: LedgerRows) -> None:
    rows.do(
        """
        insert into passport_ops.rejected_row (row_key, reason, order_key, detail, run_id)
        values ('order_id r1', 'unparsable_time', 'r1', 'its paid_at is not a time', 'run')
        """
    )

    held, rejected = (read_content(scene, Asked(order=key)).found for key in ("t2", "r1"))

    assert held is not None
    assert [row.kind for row in held.attention] == ["held"]
    assert rejected is not None
    assert rejected.orders == []
    assert [(row.kind, row.reason) for row in rejected.attention] == [
        ("rejected", "unparsable_time: its paid_at is not a time")
    ]


def test_tags_that_run_out_come_first(scene: str, rows: LedgerRows) -> None:
    rows.tag("plenty", pool_size=1000)
    rows.tag("gift-11", pool_size=4)

    tags = read_content(scene, Asked()).tags

    assert tags is not None
    assert [(tag.tag, tag.remaining, tag.warning_level) for tag in tags] == [
        ("gift-11", 0, 0),
        ("plenty", 1000, None),
        ("watch-11", None, None),
    ]


def test_the_role_it_reads_as_may_see_no_link(scene: str) -> None:
    with open_session(scene) as connection:
        connection.execute(page_sql("as_analyst"))
        assert connection.execute("select current_user").fetchone() == ("passport_analyst",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select link from passport.links")


def test_a_login_that_may_not_become_the_analyst_reads_with_its_own_rights(scene: str, rows: LedgerRows) -> None:
    rows.do("drop role if exists page_reader")
    rows.do("create role page_reader login password 'reader'")
    rows.do("grant usage on schema passport to page_reader")
    rows.do("grant select on passport.days, passport.link_status, passport.daily_funnel to page_reader")
    rows.do("grant select on passport.tag_stock, passport.needs_attention to page_reader")
    uri = psycopg.conninfo.make_conninfo(scene, user="page_reader", password="reader")
    info = psycopg.conninfo.conninfo_to_dict(uri)
    reader = Database(f"postgresql://page_reader:reader@{info['host']}:{info['port']}/{info['dbname']}")

    try:
        assert len(read_content(reader, Asked()).days or []) == 2
    finally:
        rows.do("drop owned by page_reader")
        rows.do("drop role page_reader")


def test_a_part_that_takes_too_long_is_left_out_and_the_others_are_shown(
    scene: str, rows: LedgerRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SECONDS_OF_A_PART", 0.5)
    with rows.connection.transaction():
        # Only the tag stock and the list of what needs attention read this table.
        rows.connection.execute("lock table passport_ops.tag_reset in access exclusive mode")
        content = read_content(scene, Asked())

    assert content.tags is None
    assert content.attention is None
    assert content.days is not None
    assert len(content.days) == 2


def test_a_warehouse_that_was_not_migrated_is_trouble_with_its_code(database: str) -> None:
    with pytest.raises(SafeDatabaseError) as caught:
        read_content(database, Asked())

    assert caught.value.sqlstate in ("3F000", "42P01")


def test_days_are_summed_over_campaigns() -> None:
    nothing = dict.fromkeys(
        ("pending", "calling", "out_of_stock", "unknown", "reset", "cancelled", "closed", "distributed"), 0
    )
    funnel = [
        FunnelRow(MONDAY, "a", orders=3, reserved=2, held=1, claimed=0, published=2, share_claimed=None, **nothing),
        FunnelRow(MONDAY, "b", orders=2, reserved=1, held=0, claimed=1, published=1, share_claimed=None, **nothing),
    ]

    (day,) = summed([MONDAY], funnel, {})

    assert (day.orders, day.published, day.lacking) == (5, 3, 2)
    assert list(day.by_state.items()) == [
        (ReservationState.CLAIMED, 1),
        (ReservationState.RESERVED, 3),
        (ReservationState.HELD, 1),
    ]
