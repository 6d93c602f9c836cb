"""From the shop's orders to a planned run: what is taken in, what is named, and two runs at about the same time."""

import logging
import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include import intake
from include.business_day import bounds_of
from include.campaigns import Campaign, Campaigns, UnknownCampaignError
from include.extraction import COLUMNS, check, typed
from include.intake import plan_day
from include.ledger import registering
from include.ledger.registering import Registered
from include.ledger.states import ReservationState
from include.orders import CheckedOrder, ExtractionError, RejectReason
from include.settings import Settings
from local.source_table import SourceOrder, append
from tests.builders.world import DAY, World, empty, order, plan, world
from tests.databases import Database

R = ReservationState
UTC_ZONE = ZoneInfo("UTC")
GIFT = Campaigns((Campaign(name="gift", tag="gift", products="*", stale_after=timedelta(days=30)),))
BAGS = Campaigns((Campaign(name="bags", tag="bags", products=("Tote",), stale_after=timedelta(days=30)),))


@pytest.fixture
def here(emptied_warehouse: str) -> Iterator[World]:
    with world(emptied_warehouse) as made:
        yield made


def checked(*rows: dict[str, object], cuts: Sequence[int] = (), listed: Campaigns = GIFT) -> Iterator[CheckedOrder]:
    """Checks rows as one extraction that is read in chunks, cut before these rows."""
    usual = {"order_id": None, "customer_ref": "c-1", "product": "Tote", "ordered_at": None, "paid_at": f"{DAY}T10:00Z"}
    ends = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for start, end in pairwise(ends):
        frame = pd.DataFrame([usual | row for row in rows[start:end]], columns=list(COLUMNS), dtype=object)
        yield from check(typed(frame, UTC_ZONE), listed, UTC_ZONE, 14, first_row=start + 1)


def register(here: World, rows: Iterator[CheckedOrder]) -> Registered:
    return here.runs.register(rows, run_id="run", days_read=bounds_of([DAY], UTC_ZONE), pool_sizes={})


def taken(here: World) -> list[tuple[object, ...]]:
    return here.rows.execute(
        "select order_key, product, paid_at from passport_ops.reservation order by order_key"
    ).fetchall()


KEY = "".join(sha256(bytes([part])).hexdigest() for part in range(100))
"""Far too long, and hard to compress."""


def named(here: World) -> list[tuple[object, ...]]:
    return here.rows.execute(
        "select row_key, reason, order_key, business_day, detail from passport_ops.rejected_row order by 1, 2"
    ).fetchall()


SEVERAL = (
    {"order_key": "a", "order_id": "1", "product": "third", "paid_at": f"{DAY}T12:00Z"},
    {"order_key": "a", "order_id": "2", "product": "second", "paid_at": f"{DAY}T11:00Z"},
    {"order_key": "a", "order_id": "3", "product": None, "paid_at": f"{DAY}T11:00Z"},
    {"order_key": "a", "order_id": "4", "product": "first", "paid_at": f"{DAY}T12:00+01:00"},
    {"order_key": "a", "order_id": "5", "product": "broken", "paid_at": "soon"},
    {"order_key": "b"},
)


@pytest.mark.parametrize("cuts", [(), (4,), (1, 2, 3, 4, 5)], ids=["one chunk", "two chunks", "a chunk to each row"])
def test_of_several_rows_with_one_key_the_first_by_paid_at_then_product_is_taken(here: World, cuts: list[int]) -> None:
    registered = register(here, checked(*SEVERAL, cuts=cuts))
    assert [(key, product) for key, product, _ in taken(here)] == [("a", "first"), ("b", "Tote")]
    repeated = "an earlier row has the key 'a' too; give each order one row"
    unreadable = "its paid_at is not a time; write it like 2026-11-23T09:30:00+01:00"
    assert named(here) == [
        ("order_id 1, paid at 2026-11-22T12:00:00+00:00", "duplicate_key", "a", DAY, repeated),
        ("order_id 2, paid at 2026-11-22T11:00:00+00:00", "duplicate_key", "a", DAY, repeated),
        ("order_id 3, paid at 2026-11-22T11:00:00+00:00", "duplicate_key", "a", DAY, repeated),
        ("order_id 5", "unparsable_time", "a", None, unreadable),
    ]
    assert (registered.orders, registered.rejected) == ({DAY: 2}, 4)
    assert [row.reason for row in registered.first_rejected] == ["duplicate_key"] * 3 + ["unparsable_time"]


def test_of_rows_alike_in_time_and_product_the_first_one_read_is_taken(here: World) -> None:
    register(here, checked(*({"order_key": "a", "order_id": name} for name in "zyx"), cuts=(1,)))
    assert here.one("select order_id from passport_ops.reservation") == "z"


def test_products_are_compared_letter_by_letter_whatever_the_language(here: World) -> None:
    products = ("tote", "Tote", "\uffff", "\U0001f45c", "éclair", None, "Zip")
    found = []
    for place in range(len(products)):
        key = f"a{place}"
        register(here, checked(*({"order_key": key, "product": product} for product in products[place:])))
        found.append(here.one("select product from passport_ops.reservation where order_key = %s", key))
    assert found == ["Tote", "Tote", "Zip", "Zip", "Zip", "Zip", "Zip"]


def test_a_row_that_no_campaign_takes_makes_the_later_ones_duplicates(here: World) -> None:
    rows = [{"order_key": "a", "product": "Watch"}, {"order_key": "a", "product": "Tote", "paid_at": f"{DAY}T11:00Z"}]
    register(here, checked(*rows, cuts=(1,), listed=BAGS))
    assert taken(here) == []
    assert [(row_key[-25:], reason) for row_key, reason, *_ in named(here)] == [
        ("2026-11-22T10:00:00+00:00", "no_campaign"),
        ("2026-11-22T11:00:00+00:00", "duplicate_key"),
    ]


def test_rows_with_one_key_that_is_too_long_are_each_named_for_it_whatever_their_id(here: World) -> None:
    rows = [{"order_key": KEY, "order_id": KEY}, {"order_key": KEY}, {"order_key": "good"}]
    registered = register(here, checked(*rows))
    assert [(reason, key) for _, reason, key, *_ in named(here)] == [("value_too_long", None)] * 2
    assert (registered.orders, registered.rejected) == ({DAY: 1}, 2)


def test_a_row_is_found_by_its_order_id_or_its_place_and_when_it_was_paid(here: World) -> None:
    rows = [
        {"order_key": "good"},
        {"order_key": None},
        {"order_key": " ", "order_id": "o-9", "paid_at": f"{DAY}T10:00:00.000007Z"},
        {"order_key": "late", "paid_at": "soon"},
        {"order_key": "", "paid_at": None},
    ]
    register(here, checked(*rows, cuts=(2,)))
    assert [row[:4] for row in named(here)] == [
        ("order_id o-9, paid at 2026-11-22T10:00:00.000007+00:00", "missing_key", None, DAY),
        ("row 1 without an order_id", "unparsable_time", "late", None),
        ("row 1 without an order_id, paid at 2026-11-22T10:00:00+00:00", "missing_key", None, DAY),
        ("row 2 without an order_id", "missing_key", None, None),
    ]


def test_an_order_without_an_id_of_its_own_has_its_key_as_id(here: World) -> None:
    register(here, checked({"order_key": "k"}))
    assert here.one("select order_id from passport_ops.reservation") == "k"


def test_no_row_that_is_named_names_the_customer(here: World) -> None:
    rows = [{"order_key": None}, {"order_key": "a", "paid_at": "soon"}, {"order_key": "b", "product": "Watch"}]
    register(here, checked(*rows, rows[2], listed=BAGS))
    assert len(named(here)) == 4
    assert "c-1" not in str(named(here))


def test_an_unserved_order_whose_row_can_no_longer_be_taken_is_not_cancelled(here: World) -> None:
    register(here, checked({"order_key": "a"}, {"order_key": "b"}))
    register(here, checked({"order_key": "a", "paid_at": "soon"}))
    assert (here.state("a"), here.state("b")) == (R.PENDING, R.CANCELLED)


def test_a_tag_of_two_campaigns_has_the_larger_pool_and_one_that_is_not_said_changes_nothing(here: World) -> None:
    orders = [order("A1", campaign="one"), order("B2", campaign="two"), order("C3", campaign="three")]
    sizes = {"one": 100, "two": 500, "three": None}
    here.runs.register(orders, run_id="run", days_read=bounds_of([DAY], UTC_ZONE), pool_sizes=sizes)
    assert here.one("select pool_size from passport_ops.tag where tag = 'gift'") == 500
    here.runs.register(orders[2:], run_id="run", days_read={}, pool_sizes=sizes)
    assert here.one("select pool_size from passport_ops.tag where tag = 'gift'") == 500


# --- what a person sees of rows that are not taken -------------------------------------------------------------------

NEXT_DAY = DAY + timedelta(days=1)
NO_KEY = {"order_key": None, "order_id": "no-key"}
SOON = {"order_key": "late", "order_id": "soon", "paid_at": "soon"}


def read_again(here: World, *rows: dict[str, object], days: Sequence[date] = (DAY,), **options: Any) -> None:
    here.runs.register(checked(*rows), run_id="run", days_read=bounds_of(days, UTC_ZONE), pool_sizes={}, **options)


def lines(here: World) -> list[tuple[object, ...]]:
    return here.rows.execute(
        "select row_key, business_day, reason from passport.needs_attention where kind = 'rejected' order by 1"
    ).fetchall()


def test_rows_that_are_not_taken_are_one_line_for_each_day_and_reason(here: World) -> None:
    read_again(here, *({"order_key": None, "order_id": f"o{n}"} for n in range(7)), SOON, {"order_key": "good"})
    (no_key, soon) = lines(here)
    assert (no_key[0], no_key[1], soon[0], soon[1]) == (
        "2026-11-22 missing_key",
        DAY,
        "no day unparsable_time",
        None,
    )
    assert str(no_key[2]).startswith("7 rows are not taken: missing_key. The newest: order_id o")
    assert str(no_key[2]).count("order_id") == 5
    assert soon[2] == "1 row is not taken: unparsable_time. The newest: late"


def test_a_row_that_is_no_longer_returned_when_its_day_is_read_again_is_settled_and_stays_in_the_history(
    here: World,
) -> None:
    read_again(here, NO_KEY, SOON, {"order_key": None, "order_id": "other"})
    read_again(here, NO_KEY)
    assert [line[2] for line in lines(here)] == [
        "1 row is not taken: missing_key. The newest: order_id no-key, paid at 2026-11-22T10:00:00+00:00"
    ]
    read_again(here, {"order_key": "corrected", "order_id": "no-key"})
    assert lines(here) == []
    history = "select kind, subject, settled_by, why from passport.attention_history order by 2"
    why = "a later reading of the day returned no such row"
    assert here.rows.execute(history).fetchall() == [
        ("rejected", "2026-11-22 missing_key", "event", why),
        ("rejected", "no day unparsable_time", "event", why),
    ]
    assert here.one("select count(*) from passport.rejected where gone_at is not null") == 3
    read_again(here, NO_KEY)
    assert [line[0] for line in lines(here)] == ["2026-11-22 missing_key"]


def test_a_day_that_is_not_read_again_keeps_its_rows_however_old_they_are(here: World) -> None:
    read_again(here, NO_KEY)
    here.rows.execute("update passport_ops.rejected_row set seen_at = seen_at - interval '400 days'")
    here.rows.execute("update passport_ops.rejected_day set since = since - interval '400 days'")
    read_again(here, days=[NEXT_DAY])
    assert [line[0] for line in lines(here)] == ["2026-11-22 missing_key"]


def test_a_row_whose_order_is_taken_on_another_day_is_settled(here: World) -> None:
    register(here, checked({"order_key": "a", "order_id": "1", "product": None}, listed=BAGS))
    assert len(lines(here)) == 1
    read_again(here, {"order_key": "a", "order_id": "1", "paid_at": f"{NEXT_DAY}T10:00Z"}, days=[NEXT_DAY])
    assert lines(here) == []


def test_an_older_reading_that_ends_later_neither_brings_a_row_back_nor_settles_one(here: World) -> None:
    read_again(here, NO_KEY)
    began_at = here.runs.now()
    read_again(here, {"order_key": None, "order_id": "newer"})  # the first was corrected, another is wrong
    read_again(here, NO_KEY, began_at=began_at)
    assert [line[2] for line in lines(here)] == [
        "1 row is not taken: missing_key. The newest: order_id newer, paid at 2026-11-22T10:00:00+00:00"
    ]


def test_a_reading_that_returns_the_same_rows_writes_none_of_them_again(here: World) -> None:
    read_again(here, NO_KEY, SOON)
    written = "select array_agg(xmin::text || ctid::text order by row_key) from passport_ops.rejected_row"
    before = here.one(written)
    read_again(here, NO_KEY, SOON)
    assert here.one(written) == before


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "order_key": st.sampled_from([None, " ", "a", "b", "c"]),
                "product": st.sampled_from([None, "Tote", "Watch"]),
                "paid_at": st.sampled_from([None, "soon", *(f"{DAY}T1{n}:00:00Z" for n in range(3))]),
            }
        ),
        max_size=12,
    ),
    cuts=st.lists(st.integers(1, 11), max_size=4),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_is_taken_or_named_once_however_the_extraction_is_cut(
    shared_warehouse: str, rows: list[dict[str, object]], cuts: list[int]
) -> None:
    outcomes = []
    for cut in ((), cuts):
        empty(shared_warehouse)
        with world(shared_warehouse) as here:
            registered = register(here, checked(*rows, cuts=cut, listed=BAGS))
            outcomes.append((registered, taken(here), named(here)))
    (registered, orders, _), cut_up = outcomes
    assert cut_up == outcomes[0]
    assert len(orders) + registered.rejected == len(rows)


ANYTHING = st.one_of(
    st.none(),
    st.text(st.characters(), max_size=30),  # lone surrogates and NUL among them
    st.sampled_from(["a", "b", KEY, "\0", "\udce9", "x" * 20_000, "infinity", f"{DAY}T10:00Z", float("nan"), 10**5000]),
    st.binary(max_size=5),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.booleans(),
    st.uuids(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


@given(
    rows=st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, ANYTHING)), max_size=12),
    zone=st.sampled_from(["UTC", "Europe/Paris", "Pacific/Kiritimati", "America/Sao_Paulo"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_row_is_taken_or_named_and_none_fails_the_others(
    shared_warehouse: str, rows: list[dict[str, object]], zone: str
) -> None:
    empty(shared_warehouse)
    good = {"order_key": "good", "order_id": None, "customer_ref": None, "product": "Tote", "ordered_at": None}
    tz = ZoneInfo(zone)
    with world(shared_warehouse) as here:
        frame = pd.DataFrame([*rows, {**good, "paid_at": f"{DAY}T10:00Z"}], columns=list(COLUMNS), dtype=object)
        registered = register(here, check(typed(frame, tz), GIFT, tz, 14))
        assert ("good",) in {row[:1] for row in taken(here)}
        assert len(taken(here)) + registered.rejected == len(rows) + 1
        assert {row.reason for row in registered.first_rejected} <= set(RejectReason)
        assert all(row.detail for row in registered.first_rejected)
        open_rows = here.one("select coalesce(sum(open_rows), 0)::integer from passport_ops.rejected_day")
        assert open_rows == here.one("select count(*) from passport.rejected where gone_at is null")


def test_a_reading_that_fails_halfway_takes_nothing_in(here: World) -> None:
    def failing() -> Iterator[CheckedOrder]:
        yield from (order("A1"), order("B2"))
        message = "the extraction SQL failed (22012: division by zero); correct it"
        raise ExtractionError(message)

    with pytest.raises(ExtractionError, match="division by zero"):
        register(here, failing())
    assert taken(here) == []
    here.register(order("C3"))
    assert here.state("C3") is R.PENDING


# --- a run's first task -----------------------------------------------------------------------------------------------


def test_a_run_takes_every_order_of_its_day_and_serves_those_of_its_campaigns(
    here: World, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    listed = Campaigns((*BAGS.listed, *GIFT.listed))
    with psycopg.connect(database) as shop:
        paid = f"{DAY}T10:00:00Z"
        products = ["Tote", "Watch", None]
        append(shop, [SourceOrder(f"o{n}", "c", each, "paid", None, paid) for n, each in enumerate(products)])
        append(shop, [SourceOrder(None, "c", "Tote", "paid", None, paid)] * 52)
    caplog.set_level(logging.INFO)
    planned = plan_day(here.runs, database, listed, Settings(), plan(campaigns=("gift",)))
    assert planned.labels == ["o1", "o2"]
    assert [here.state(key) for key in ("o0", "o1", "o2")] == [R.PENDING] * 3
    lines = [record.message for record in caplog.records]
    assert lines[0] == "2026-11-22: 3 eligible orders"
    assert lines[1] == (
        "not taken: row 1 without an order_id, paid at 2026-11-22T10:00:00+00:00: missing_key "
        "(the row has no order key; give the order an id)"
    )
    assert len(lines) == 1 + 50 + 2
    assert lines[-2:] == [
        "and 2 more rows not taken: see passport.needs_attention",
        "2 orders wait for a link, served by 2 tasks",
    ]


def test_an_unknown_campaign_is_an_error_before_anything_is_read(here: World) -> None:
    with pytest.raises(UnknownCampaignError, match="no campaign is named 'gifts'; the file has 'gift'"):
        plan_day(here.runs, "nowhere", GIFT, Settings(), plan(campaigns=("gifts",)))


def test_an_order_found_by_a_newer_extraction_is_not_cancelled_by_an_older_one(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = [order("A1"), order("C3")]

    def read(*_: object) -> Iterator[CheckedOrder]:
        yield from list(shop)

    def read_slowly(*_: object) -> Iterator[CheckedOrder]:
        first, *rest = shop
        yield first
        shop.append(order("B2"))  # the shop writes it, and another run finds it
        monkeypatch.setattr(intake, "read_orders", read)
        plan_day(here.planner(), "", GIFT, Settings(), plan("newer"))
        assert here.one("select state from passport_ops.reservation where order_key = 'B2'") == R.PENDING
        yield from rest

    monkeypatch.setattr(intake, "read_orders", read_slowly)
    plan_day(here.runs, "", GIFT, Settings(), plan("older"))
    assert here.state("B2") is R.PENDING


def test_an_order_that_is_gone_is_still_cancelled(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = [order("A1"), order("B2")]

    def read(*_: object) -> Iterator[CheckedOrder]:
        yield from list(shop)

    monkeypatch.setattr(intake, "read_orders", read)
    plan_day(here.runs, "", GIFT, Settings(), plan("run"))
    del shop[1]
    plan_day(here.runs, "", GIFT, Settings(), plan("run"))
    assert here.state("B2") is R.CANCELLED


def test_the_staging_table_has_the_fields_of_a_checked_order_in_their_order() -> None:
    sql = (Path(registering.__file__).parent / "sql" / "incoming_orders.sql").read_text(encoding="utf-8")
    assert re.findall(r"^    (\w+) ", sql, flags=re.MULTILINE) == list(CheckedOrder._fields)
