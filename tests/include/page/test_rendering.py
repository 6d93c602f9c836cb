"""How the page is rendered: every figure also in words, nothing that a row says can become markup."""

import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from include.attention.kinds import ACTIONS, AttentionKind
from include.ledger.states import ReservationState
from include.page.reading import Asked, Attention, Content, Day, Found, Order
from include.page.rendering import KINDS, STATES, page_html, segments, state_counts, trouble_html
from tests.docs.pages import PROJECT

DAY = date(2026, 11, 17)
EVIL = '<script>alert("x")</script>'
EMPTY = Content(days=[], older=False, funnel=[], campaigns=[], tags=[], attention=[], found=None)


def order(**fields: object) -> Order:
    return Order(
        **{
            "order_key": "o1",
            "order_id": "o1",
            "product": None,
            "campaign": "gift",
            "tag": "gift-11",
            "business_day": DAY,
            "certificate_id": None,
            "state": "pending",
            "reason": None,
            "ordered_at": None,
            "reserved_at": None,
            "published_at": None,
            "distributed_at": None,
            "claimed_at": None,
            "reset_at": None,
            "updated_at": datetime(2026, 11, 17, 23, 30, tzinfo=UTC),
            "run_id": None,
            **fields,
        }  # type: ignore[arg-type]
    )


def content_with(**parts: object) -> Content:
    return Content(**{**EMPTY.__dict__, **parts})  # type: ignore[arg-type]


def test_every_state_of_the_ledger_has_a_name_and_a_meaning() -> None:
    assert set(STATES) == set(ReservationState)


def test_every_kind_of_attention_has_a_name_a_decision_and_a_line_in_the_view() -> None:
    views = (PROJECT / "include/warehouse/migrations/sql/views.sql").read_text(encoding="utf-8")
    view = views.partition("view passport.needs_attention as")[2].partition("comment on view")[0]
    shown = set(re.findall(r"'(\w+)' as kind", view)) | {"pending", "out_of_stock"}  # whose kind is their state
    assert set(KINDS) == shown == set(AttentionKind) == set(ACTIONS)
    said = views.partition("column passport.needs_attention.kind is")[2].partition(";")[0]
    assert [kind for kind in sorted(KINDS) if kind not in said] == []


def test_a_bar_is_filled_without_a_gap() -> None:
    day = Day(DAY, None, orders=3, published=1, by_state=dict.fromkeys(list(ReservationState)[:3], 1))

    parts = list(segments(day))

    assert [(part.start, part.width) for part in parts] == [(0, 333), (333, 333), (666, 334)]


def test_a_bar_is_said_in_words_too() -> None:
    counts = {ReservationState.RESERVED: 1037, ReservationState.OUT_OF_STOCK: 2}

    assert state_counts(counts) == "1,037 reserved, 2 out of stock"


@pytest.mark.parametrize(
    ("state", "shown"), [("complete", None), ("lacking", None), ("open", ">open<"), ("unread", ">not read<")]
)
def test_a_day_that_is_open_or_was_not_read_says_so(state: str, shown: str | None) -> None:
    day = Day(DAY, datetime(2026, 11, 18, tzinfo=UTC), state)

    html = page_html(content_with(days=[day]), Asked(), ZoneInfo("UTC"))

    assert [mark for mark in (">open<", ">not read<") if mark in html] == ([shown] if shown else [])
    assert ("not read since its end: see what needs attention" in html) is (state == "unread")


def test_an_empty_page_says_what_to_do_first() -> None:
    html = page_html(EMPTY, Asked(), ZoneInfo("UTC"))

    assert "No order has been served yet" in html
    assert "reserve_passport_links" in html


def test_times_are_in_the_shop_s_zone() -> None:
    found = Found([order()], [])

    html = page_html(content_with(found=found), Asked(order="o1"), ZoneInfo("America/Sao_Paulo"))

    assert '<time datetime="2026-11-17T23:30:00+00:00">2026-11-17 20:30</time>' in html


@pytest.mark.parametrize(
    "field", ["order_key", "order_id", "product", "campaign", "tag", "certificate_id", "reason", "run_id"]
)
def test_nothing_of_an_order_becomes_markup(field: str) -> None:
    found = Found([order(**{field: EVIL})], [])

    html = page_html(content_with(found=found), Asked(order=EVIL, campaign=EVIL), ZoneInfo("UTC"), notice=EVIL)

    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("field", ["kind", "order_key", "tag", "row_key", "run_id", "reason", "what_to_do"])
def test_nothing_that_needs_attention_becomes_markup(field: str) -> None:
    row = Attention(
        **{  # type: ignore[arg-type]
            **dict.fromkeys(("order_key", "tag", "row_key", "run_id", "since", "reason")),
            "kind": "held",
            "what_to_do": "",
            "of_kind": 7,
            field: EVIL,
        }
    )

    html = page_html(content_with(attention=[row]), Asked(), ZoneInfo("UTC"))

    assert "<script" not in html
    assert "cript&gt;" in html


def test_a_kind_that_has_no_name_yet_is_shown_as_it_is() -> None:
    row = Attention("brand_new", None, "t", None, None, None, "why", "do it", 1)

    assert "brand_new" not in KINDS
    assert "brand_new" in page_html(content_with(attention=[row]), Asked(), ZoneInfo("UTC"))


def test_a_part_that_was_too_slow_is_said_not_hidden() -> None:
    html = page_html(content_with(tags=None, days=None, funnel=None, attention=None), Asked(), ZoneInfo("UTC"))

    for view in ("passport.days", "passport.daily_funnel", "passport.tag_stock", "passport.needs_attention"):
        assert f"read <code>{view}</code>" in html


def test_an_unknown_order_is_told_how_orders_come_in() -> None:
    html = page_html(content_with(found=Found([], [])), Asked(order="o9"), ZoneInfo("UTC"))

    assert "No order has this key or id." in html


def test_a_reserved_order_that_waits_for_the_load_says_so() -> None:
    html = page_html(content_with(found=Found([order(state="reserved")], [])), Asked(order="o1"), ZoneInfo("UTC"))

    assert "The next load publishes it." in html


def test_trouble_is_one_sentence_in_the_same_look() -> None:
    html = trouble_html("The warehouse cannot be read", f"No connection {EVIL}")

    assert "page.css" in html
    assert "<script" not in html
