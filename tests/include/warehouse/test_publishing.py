import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from typing import Any

import psycopg
import pytest

from include.attention.deciding import Decision, carry_out
from include.attention.kinds import Action, AttentionKind
from include.ledger.states import SERVED, UNSERVED, ReservationState
from include.warehouse.database import SafeDatabaseError, open_session
from include.warehouse.publishing import DayState, LoadCheckError, LoadResult, PublishedDay, load_links
from local.postgres import EmbeddedPostgres
from tests.builders.world import DAY, world
from tests.databases import Database

FRIDAY = date(2026, 11, 20)
SATURDAY = date(2026, 11, 21)


class Rows:
    """Writes rows as the ledger does, and reads what was published; every statement is committed at once."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.connection: psycopg.Connection[Any] = open_session(uri, autocommit=True)
        # The set-up itself binds links; only what the product does may be looked for in the server's log.
        self.connection.execute("set log_statement = 'none'")
        self.do("insert into passport_ops.tag (tag, pool_size) values ('gift', 100)")

    def do(self, query: str, *values: Any) -> None:
        self.connection.execute(query.encode(), values)

    def all(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(query.encode(), values).fetchall()

    def order(self, key: str, state: str = "pending", day: date = FRIDAY, campaign: str = "autumn") -> None:
        self.read(day)
        self.do(
            """
            insert into passport_ops.reservation
            (order_key, order_id, customer_ref, product, campaign, tag, business_day, paid_at, stale_after, state,
             lease_until)
            values (%s, %s, 'c-1', 'watch', %s, 'gift', %s, '2026-11-20 12:00Z', '30 days', %s,
                    case when %s = 'calling' then now() end)
            """,
            *(key, key, campaign, day, state, state),
        )

    def reserve(self, key: str, certificate: str, link: str | None = None) -> str:
        """Give an order that waits a passport, as the ledger does."""
        link = link or f"https://test.arianee.net/{certificate},pass{certificate}"
        self.do(
            """
            with received as (
                insert into passport_ops.passport
                (certificate_id, link, link_sha256, tag, epoch, state, order_key, received_at)
                values (%s, %s, passport_ops.link_sha256(%s), 'gift', 0, 'assigned', %s, clock_timestamp())
                returning passport_id
            )
            update passport_ops.reservation
            set state = 'reserved', passport_id = received.passport_id, reserved_at = clock_timestamp(), reset_at = null
            from received where order_key = %s
            """,
            *(certificate, link, link, key, key),
        )
        return link

    def served(self, key: str, certificate: str, day: date = FRIDAY) -> str:
        self.order(key, day=day)
        return self.reserve(key, certificate)

    def claim(self, key: str) -> None:
        self.do("update passport_ops.reservation set state = 'claimed', claimed_at = now() where order_key = %s", key)
        self.do("update passport_ops.passport set state = 'claimed' where order_key = %s and state = 'assigned'", key)

    def reset(self, key: str, then: str = "reset") -> None:
        self.do(
            """
            update passport_ops.reservation
            set state = %s, passport_id = null, reset_at = '2026-12-24 00:00Z' where order_key = %s
            """,
            *(then, key),
        )
        self.do(
            """
            update passport_ops.passport set state = 'ended', end_reason = 'reset', link = null
            where order_key = %s and state = 'assigned'
            """,
            key,
        )

    def read(self, *days: date, at: str = "infinity") -> None:
        """Write that extractions of these days were registered, which began at this time."""
        for day in days:
            self.do(
                """
                insert into passport_ops.day (business_day, begins_at, ends_at, read_at, closed_at, closed_by)
                select *, case when read_at >= ends_at then read_at end, case when read_at >= ends_at then 'a run' end
                from (
                    select %s::date, %s::timestamp at time zone 'UTC',
                    (%s::date + 1)::timestamp at time zone 'UTC', %s::timestamptz
                ) as newly (business_day, begins_at, ends_at, read_at)
                on conflict do nothing
                """,
                *(day, day, day, at),
            )

    def links(self) -> list[tuple[Any, ...]]:
        return self.all("select order_key, state, certificate_id, link from passport.links order by order_key")

    def load(self, day: date = FRIDAY, run_id: str = "run-1") -> tuple[int, int]:
        self.read(day)
        result = load_links(self.uri, closes=[day], run_id=run_id)
        return result.published_now, result.updated

    def await_blocked(self) -> None:
        """Return once a load of this database waits for somebody's lock."""
        blocked = "select from pg_stat_activity where application_name = %s and cardinality(pg_blocking_pids(pid)) > 0"
        for _ in range(2000):
            if self.all(blocked, "passport-links load"):
                return
            threading.Event().wait(0.005)
        pytest.fail("the load never waited")


@pytest.fixture
def rows(warehouse: str) -> Iterator[Rows]:
    rows = Rows(warehouse)
    yield rows
    rows.connection.close()


@pytest.fixture
def in_background() -> Iterator[Callable[..., "Future[Any]"]]:
    with ThreadPoolExecutor() as pool:
        yield pool.submit


# --- what is published ---------------------------------------------------------------------------------------------


def test_a_load_publishes_every_order_that_has_a_link_of_whatever_day(rows: Rows) -> None:
    rows.served("o-1", "11")
    rows.served("o-2", "12", SATURDAY)
    rows.order("o-3")
    assert rows.load() == (2, 0)
    assert rows.all(
        """
        select order_key, order_id, customer_ref, product, campaign, tag, business_day, certificate_id, link, state,
               run_id, reserved_at is not null, published_at is not null, updated_at = published_at,
               claimed_at, reset_at, distributed_at
        from passport.links order by order_key
        """
    ) == [
        (
            *("o-1", "o-1", "c-1", "watch", "autumn", "gift", FRIDAY, "11", "https://test.arianee.net/11,pass11"),
            *("reserved", "run-1", True, True, True, None, None, None),
        ),
        (
            *("o-2", "o-2", "c-1", "watch", "autumn", "gift", SATURDAY, "12", "https://test.arianee.net/12,pass12"),
            *("reserved", "run-1", True, True, True, None, None, None),
        ),
    ]


def test_a_repeated_load_changes_nothing(rows: Rows) -> None:
    rows.served("o-1", "11")
    rows.order("o-2")
    rows.load()
    everything = "select l::text from passport.links l union all select d::text from passport.days d"
    before = rows.all(everything)
    # A row that was written again as it was is no change either.
    rows.do("update passport_ops.reservation set updated_at = clock_timestamp()")
    assert rows.load(run_id="run-2") == (0, 0)
    assert rows.all(everything) == before


def test_a_claim_is_published_and_keeps_when_it_was_distributed(rows: Rows) -> None:
    link = rows.served("o-1", "11")
    rows.load()
    rows.do("update passport.links set distributed_at = '2026-11-22 10:00Z', published_at = '2026-11-21 10:00Z'")
    rows.claim("o-1")
    assert rows.load(run_id="run-2") == (0, 1)
    assert rows.links() == [("o-1", "claimed", "11", link)]
    assert rows.all(
        """
        select distributed_at = '2026-11-22 10:00Z', published_at = '2026-11-21 10:00Z', claimed_at is not null, run_id,
               updated_at > published_at
        from passport.links
        """
    ) == [(True, True, True, "run-2", True)]


def test_a_reset_takes_the_link_away_and_keeps_the_row(rows: Rows) -> None:
    rows.served("o-1", "11")
    rows.load()
    rows.reset("o-1")
    assert rows.load() == (0, 1)
    assert rows.links() == [("o-1", "reset", "11", None)]
    assert rows.all("select reset_at = '2026-12-24 00:00Z' from passport.links") == [(True,)]


def test_an_order_that_lost_its_link_before_any_load_is_published_as_reset(rows: Rows) -> None:
    rows.served("o-1", "11")
    rows.reset("o-1")
    result = load_links(rows.uri, closes=[FRIDAY], run_id="run-1")
    assert (result.published_now, result.days) == (1, [PublishedDay(FRIDAY, "complete", 1, 1, 0, {})])
    assert rows.links() == [("o-1", "reset", None, None)]


@pytest.mark.parametrize("then", ["pending", "held"])
def test_an_order_that_lost_its_link_and_waits_again_has_no_link_and_lacks_one(rows: Rows, then: str) -> None:
    rows.served("o-1", "11")
    rows.load()
    rows.reset("o-1", then=then)
    result = load_links(rows.uri, closes=[FRIDAY], run_id="run-2")
    assert (result.published_now, result.updated) == (0, 1)
    assert result.days == [PublishedDay(FRIDAY, "lacking", 1, 0, 1, {then: 1})]
    assert rows.links() == [("o-1", "reset", "11", None)]


@pytest.mark.parametrize("certificate", ["12", "11"], ids=["another", "the same"])
@pytest.mark.parametrize("loaded_between", [True, False])
def test_an_order_reserved_anew_gets_its_new_link_undistributed(
    rows: Rows, certificate: str, loaded_between: bool
) -> None:
    rows.served("o-1", "11")
    rows.load()
    rows.do("update passport.links set distributed_at = now(), published_at = '2026-11-21 10:00Z'")
    rows.reset("o-1", then="pending")
    if loaded_between:
        rows.load()
    link = rows.reserve("o-1", certificate, f"https://test.arianee.net/{certificate},anew")
    assert rows.load() == (0, 1)
    assert rows.links() == [("o-1", "reserved", certificate, link)]
    assert rows.all("select distributed_at, reset_at, published_at > '2026-11-21 10:00Z' from passport.links") == [
        (None, None, True)
    ]


def test_two_orders_may_exchange_their_certificates_within_one_load(rows: Rows) -> None:
    rows.served("o-1", "11")
    rows.served("o-2", "12")
    rows.load()
    rows.reset("o-1", then="pending")
    rows.reset("o-2", then="pending")
    second = rows.reserve("o-1", "12")
    first = rows.reserve("o-2", "11")
    assert rows.load() == (0, 2)
    assert rows.links() == [("o-1", "reserved", "12", second), ("o-2", "reserved", "11", first)]


def test_a_passport_that_was_reset_goes_to_another_order_in_the_same_load(rows: Rows) -> None:
    rows.served("o-2", "11")
    rows.load()
    rows.reset("o-2")
    link = rows.served("o-1", "11")
    assert rows.load() == (1, 1)
    assert rows.links() == [("o-1", "reserved", "11", link), ("o-2", "reset", "11", None)]


def test_a_claim_after_a_reset_is_published_without_a_link(rows: Rows) -> None:
    rows.served("o-1", "11")
    rows.load()
    rows.reset("o-1")
    rows.load()
    rows.do("update passport_ops.passport set state = 'claimed', end_reason = null")
    rows.do("update passport_ops.reservation set state = 'claimed', passport_id = 1, claimed_at = now()")
    result = load_links(rows.uri, closes=[FRIDAY], run_id="run-3")
    assert (result.published_now, result.updated, result.refused) == (0, 1, [])
    assert rows.links() == [("o-1", "claimed", "11", None)]


@pytest.mark.parametrize(
    "link",
    [
        "http://test.arianee.net/12,secret",
        "https://test.arianee.net/12",
        "https://test.arianee.net/12,",
        "https://test.arianee.net/13,secret",
        "https://test.arianee.net/,secret",
        "https:///12,secret",
        "https://test.arianee.net/12,sec ret",
        "https://test.arianee.net/12,secret#part",
        "https://test.arianee.net/12,secret\nx",
        "",
    ],
)
def test_an_ill_formed_link_is_refused_by_name_and_stops_nobody_else(
    rows: Rows, link: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows.served("o-1", "11")
    rows.order("o-2")
    rows.do(
        """
        insert into passport_ops.passport (certificate_id, link, tag, epoch, state, order_key, received_at)
        values ('12', %s, 'gift', 0, 'assigned', 'o-2', now())
        """,
        link,
    )
    rows.do(
        """
        update passport_ops.reservation set state = 'reserved', reserved_at = now(), passport_id = 2
        where order_key = 'o-2'
        """
    )
    for number in (1, 2):
        result = load_links(rows.uri, closes=[FRIDAY], run_id="run-1")
        assert result.refused == ["o-2"]
        assert result.days == [PublishedDay(FRIDAY, "lacking", 2, 1, 1, {"reserved": 1}, changed=number == 1)]
        assert [row[0] for row in rows.links()] == ["o-1"]
        assert rows.all("select kind, order_key, reason from passport.needs_attention") == [
            ("not_published", "o-2", "its passport has no well-formed link to its certificate")
        ]
    assert caplog.messages == ["1 orders have no well-formed link and were not published: o-2"] * 2
    rows.do("update passport_ops.passport set link = 'https://test.arianee.net/12,mended' where certificate_id = '12'")
    assert rows.load() == (1, 0)
    assert rows.all("select kind from passport.needs_attention") == []


@pytest.mark.parametrize(
    "link",
    [
        "https://test.arianee.net/11,v6lsj4vhg5dx",
        "https://test.arianee.net/requestOwnership/11,123456789012",
        "https://passports.brand.example:8443/11,abc,aria1",
        "HTTPS://test.arianee.net/11,abc,aria1,0xabc?utm_source=mail&x=1",
    ],
)
def test_every_documented_form_of_a_link_is_published(rows: Rows, link: str) -> None:
    rows.order("o-1")
    rows.reserve("o-1", "11", link)
    assert rows.load() == (1, 0)
    assert rows.links() == [("o-1", "reserved", "11", link)]


# --- days ----------------------------------------------------------------------------------------------------------


def test_a_day_says_whether_it_is_complete_and_what_it_lacks(rows: Rows) -> None:
    rows.served("o-1", "11")
    rows.served("o-2", "12")
    rows.claim("o-2")
    for number, state in enumerate(["pending", "out_of_stock", "out_of_stock", "held", "cancelled", "closed"]):
        rows.order(f"w-{number}", state)
    result = load_links(rows.uri, closes=[FRIDAY], run_id="run-1")
    assert result.days == [PublishedDay(FRIDAY, "lacking", 6, 2, 4, {"pending": 1, "out_of_stock": 2, "held": 1})]
    assert rows.all(
        "select business_day, complete, orders, published, lacking, lacking_by_state, run_id from passport.days"
    ) == [(FRIDAY, False, 6, 2, 4, {"pending": 1, "out_of_stock": 2, "held": 1}, "run-1")]


def test_a_day_without_orders_is_complete(rows: Rows) -> None:
    rows.read(FRIDAY)
    result = load_links(rows.uri, closes=[FRIDAY], run_id="run-1")
    assert result.days == [PublishedDay(FRIDAY, "complete", 0, 0, 0, {})]


def test_a_published_day_is_counted_again_when_another_days_run_serves_or_finds_its_orders(rows: Rows) -> None:
    rows.order("o-1", "out_of_stock")
    rows.load(FRIDAY)
    rows.reserve("o-1", "11")
    rows.read(SATURDAY)
    result = load_links(rows.uri, closes=[SATURDAY], run_id="run-2")
    assert result.days == [
        PublishedDay(FRIDAY, "complete", 1, 1, 0, {}),
        PublishedDay(SATURDAY, "complete", 0, 0, 0, {}),
    ]
    rows.order("late", "pending")
    result = load_links(rows.uri, closes=[SATURDAY], run_id="run-3")
    assert result.days[0] == PublishedDay(FRIDAY, "lacking", 2, 1, 1, {"pending": 1})
    rows.do("update passport_ops.reservation set state = 'cancelled' where order_key = 'late'")
    result = load_links(rows.uri, closes=[SATURDAY], run_id="run-4")
    assert result.days[0] == PublishedDay(FRIDAY, "complete", 1, 1, 0, {})
    assert rows.all("select business_day, run_id from passport.days order by 1") == [
        (FRIDAY, "run-4"),
        (SATURDAY, "run-2"),
    ]


def test_a_load_without_a_day_of_its_own_publishes_what_changed_and_counts_no_other_day(rows: Rows) -> None:
    assert load_links(rows.uri, run_id="reset") == LoadResult(0, 0, [], [])
    rows.served("o-1", "11")
    rows.load(SATURDAY)
    rows.claim("o-1")
    result = load_links(rows.uri, run_id="reset")
    assert (result.updated, result.days) == (1, [PublishedDay(FRIDAY, "complete", 1, 1, 0, {}, changed=False)])
    assert rows.all("select business_day from passport.days order by 1") == [(FRIDAY,), (SATURDAY,)]


@pytest.mark.parametrize("state", [state for state in ReservationState if state not in SERVED])
def test_a_complete_day_is_counted_again_while_an_order_of_it_waits_for_a_link(
    rows: Rows, state: ReservationState
) -> None:
    rows.load(FRIDAY)
    rows.order("late", state)
    counted = [day.business_day for day in load_links(rows.uri, run_id="reset").days]
    assert counted == ([FRIDAY] if state in UNSERVED else [])


def test_a_day_of_which_no_extraction_was_registered_is_unread_whatever_it_counts(rows: Rows) -> None:
    result = load_links(rows.uri, closes=[FRIDAY], run_id="run-1")
    assert result.days == [PublishedDay(FRIDAY, "unread", 0, 0, 0, {})]
    assert result.has_news is False
    assert rows.all("select business_day, state, complete from passport.days") == [(FRIDAY, "unread", False)]
    rows.read(FRIDAY)
    result = load_links(rows.uri, run_id="run-2")
    assert (result.days, result.has_news) == ([PublishedDay(FRIDAY, "complete", 0, 0, 0, {})], True)
    assert load_links(rows.uri, closes=[FRIDAY], run_id="run-3").has_news is False


def test_a_link_of_an_unread_day_is_news_but_the_day_is_not_complete(rows: Rows) -> None:
    rows.read(FRIDAY, at="2026-11-20 12:00Z")
    rows.served("o-1", "11")
    result = load_links(rows.uri, closes=[FRIDAY], run_id="run-1")
    assert (result.days, result.has_news) == ([PublishedDay(FRIDAY, "unread", 1, 1, 0, {})], True)


def test_a_day_that_has_not_ended_is_open(rows: Rows) -> None:
    last = date(2999, 12, 30)
    rows.read(last, at="2999-12-30 12:00Z")
    rows.order("o-1", day=last)
    result = load_links(rows.uri, closes=[last], run_id="run-1")
    assert (result.days, result.has_news) == ([PublishedDay(last, "open", 1, 0, 1, {"pending": 1})], False)
    assert attention(rows) == []
    rows.reserve("o-1", "11")
    result = load_links(rows.uri, closes=[last], run_id="run-2")
    assert (result.days, result.has_news) == ([PublishedDay(last, "open", 1, 1, 0, {})], True)


@pytest.mark.parametrize(
    ("closes", "ended", "later", "state"),
    [
        ([], "1 second", False, "open"),
        ([FRIDAY], "1 second", False, "unread"),
        ([], "1 second", True, "unread"),
        ([], "61 minutes", False, "unread"),
    ],
    ids=["of an earlier run", "of the run that closes it", "when a run of a later day began", "an hour later"],
)
def test_a_load_calls_a_day_unread_when_the_run_that_closes_it_is_no_longer_due(
    rows: Rows, closes: list[date], ended: str, later: bool, state: str
) -> None:
    rows.do(
        """
        insert into passport_ops.day (business_day, begins_at, ends_at, scheduled)
        values (%s, now() - interval '25 hours', now() - %s::interval, true)
        """,
        *(FRIDAY, ended),
    )
    if later:
        rows.do(
            """
            insert into passport_ops.day (business_day, begins_at, ends_at, scheduled)
            values (%s, now(), now() + interval '1 day', true)
            """,
            SATURDAY,
        )
    load_links(rows.uri, closes=closes, run_id="run-1")
    assert rows.all("select state from passport.days where business_day = %s", FRIDAY) == [(state,)]


def test_days_that_were_not_read_need_attention_one_row_for_each_gap(rows: Rows) -> None:
    days = [date(2016, 11, number) for number in (10, 11, 12, 20)]
    rows.do(
        """
        insert into passport_ops.day (business_day, begins_at, ends_at)
        select day, day, day + 1 from unnest(%s::date[]) as day
        """,
        days,
    )
    load_links(rows.uri, run_id="run-1")
    shown = rows.all("select kind, reason, what_to_do from passport.needs_attention order by reason")
    assert [row[:2] for row in shown] == [
        ("day_not_read", "2016-11-20 was not read since its end"),
        ("day_not_read", "3 days were not read since their end: 2016-11-10 to 2016-11-12"),
    ]
    assert "backfill reserve_passport_links from 2016-11-10 to 2016-11-12" in shown[1][2]
    rows.do(
        """
        update passport_ops.day set closed_at = '2016-11-22 00:00Z', closed_by = 'run-2'
        where business_day <> '2016-11-11'
        """
    )
    load_links(rows.uri, run_id="run-2")
    assert rows.all("select subject, reason from passport.needs_attention") == [
        ("2016-11-11", "2016-11-11 was not read since its end")
    ]
    assert rows.all("select kind, subject, why from passport.attention_history order by subject") == [
        ("day_not_read", f"2016-11-{number}", "the run run-2 read it") for number in (10, 12, 20)
    ]


# --- all or nothing ------------------------------------------------------------------------------------------------


def test_a_day_lacks_an_order_whose_new_link_could_not_be_published(emptied_warehouse: str) -> None:
    with world(emptied_warehouse) as here:
        run = here.planned("A1")
        here.served(run, "A1", "101")
        load_links(here.uri, closes=[DAY], run_id="run")
        here.reset(to="pending")
        here.served(run, "A1", "102")
        here.rows.execute("update passport_ops.passport set link = 'http://nonsense' where certificate_id = '102'")
        result = load_links(here.uri, closes=[DAY], run_id="run")
        assert result.refused == ["A1"]
        (day,) = result.days
        assert (day.state == DayState.COMPLETE, day.published, day.lacking_by_state) == (False, 0, {"reserved": 1})


def test_a_second_load_waits_for_the_first_and_sees_what_it_left(rows: Rows, in_background: Callable[..., Any]) -> None:
    rows.served("o-1", "11")
    with open_session(rows.uri) as first:
        first.execute("lock table passport.days in share row exclusive mode")
        second = in_background(rows.load)
        rows.await_blocked()
        rows.served("o-2", "12")
        first.commit()
        assert second.result(timeout=30) == (2, 0)


def test_loads_at_once_publish_every_order_once(rows: Rows, in_background: Callable[..., Any]) -> None:
    for number in range(50):
        rows.served(f"o-{number}", str(1000 + number))
    loads = [in_background(rows.load) for _ in range(6)]
    assert sorted(load.result(timeout=60) for load in loads) == [*[(0, 0)] * 5, (50, 0)]


def test_readers_see_nothing_of_a_load_under_way_and_a_sender_that_writes_meanwhile_loses_nothing(
    rows: Rows, in_background: Callable[..., Any]
) -> None:
    rows.served("o-2", "12")
    rows.load()
    rows.served("o-1", "11")
    rows.claim("o-2")
    with open_session(rows.uri) as sender:
        sender.execute("update passport.links set distributed_at = '2026-11-22 10:00Z' where order_key = 'o-2'")
        # The load inserts o-1, then waits for the sender's row.
        load = in_background(rows.load)
        rows.await_blocked()
        assert [row[:2] for row in rows.links()] == [("o-2", "reserved")]
        assert rows.all("select orders, published from passport.days") == [(1, 1)]
        sender.commit()
        assert load.result(timeout=30) == (1, 1)
    assert rows.all("select order_key, state, distributed_at is not null from passport.links order by 1") == [
        ("o-1", "reserved", False),
        ("o-2", "claimed", True),
    ]
    assert rows.all("select orders, published from passport.days") == [(2, 2)]


def test_a_reservation_is_never_kept_waiting_by_a_load(rows: Rows, in_background: Callable[..., Any]) -> None:
    rows.served("o-1", "11")
    rows.load()
    rows.claim("o-1")
    with open_session(rows.uri) as sender:
        sender.execute("update passport.links set distributed_at = now()")
        load = in_background(rows.load)
        rows.await_blocked()
        rows.do("set lock_timeout = '1s'")
        rows.served("o-2", "12")
        rows.do("update passport_ops.reservation set reason = 'written while the load waits' where order_key = 'o-1'")
        sender.commit()
        load.result(timeout=30)
    rows.load()
    assert [row[:2] for row in rows.links()] == [("o-1", "claimed"), ("o-2", "reserved")]


def break_inserts(rows: Rows, body: str, condition: str = "true") -> None:
    rows.do(f"create function public.broken() returns trigger language plpgsql as $$ begin {body} end $$")
    rows.do(
        "create trigger broken before insert on passport.links for each row "
        f"when ({condition}) execute function public.broken()"
    )


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("return null;", "1 not published as the ledger has them (o-1)"),
        ("new.state := 'claimed'; return new;", "1 not published as the ledger has them (o-1)"),
        (
            "new.certificate_id := '99'; return new;",
            "1 not published as the ledger has them (o-1); 1 published with a link that is not well-formed (o-1)",
        ),
    ],
)
def test_a_load_that_is_not_right_is_taken_back_whole(rows: Rows, body: str, fault: str) -> None:
    rows.served("o-1", "11")
    rows.served("o-2", "12")
    break_inserts(rows, body, "new.order_key = 'o-1'")
    with pytest.raises(LoadCheckError) as caught:
        rows.load()
    assert str(caught.value) == f"The load of passport.links was rolled back and changed nothing. Orders {fault}"
    assert rows.links() == []
    assert rows.all("select * from passport.days") == []
    rows.do("drop trigger broken on passport.links")
    assert rows.load() == (2, 0)


def test_no_two_live_orders_share_a_certificate_or_a_link(rows: Rows) -> None:
    for column, value, index in [
        ("certificate_id", "11", "links_certificate"),
        ("link", "https://test.arianee.net/11,pass11", "links_link"),
    ]:
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            rows.do(
                f"""
                insert into passport.links (order_key, state, {column})
                values ('a', 'reserved', %s), ('b', 'claimed', %s)
                """,
                *(value, value),
            )
        assert caught.value.diag.constraint_name == index
        assert "pass11" not in str(caught.value)


# --- secrets -------------------------------------------------------------------------------------------------------


def test_the_servers_log_never_holds_a_link_not_even_of_a_load_that_fails(
    rows: Rows, postgres: EmbeddedPostgres
) -> None:
    name = rows.uri.rpartition("/")[2]
    for setting in [
        "log_statement = 'all'",
        "log_min_error_statement = 'debug5'",
        "log_error_verbosity = 'verbose'",
        "log_parameter_max_length = -1",
        "log_parameter_max_length_on_error = -1",
        "log_min_duration_statement = 0",
        "debug_print_parse = on",
        "debug_print_plan = on",
    ]:
        rows.do(f"alter database {name} set {setting}")
    for key, certificate in [("o-1", "771001"), ("o-2", "771002")]:
        rows.order(key)
        rows.reserve(key, certificate, f"https://canary.example/{certificate},canarypassphrase")
    break_inserts(rows, "new.certificate_id := 'same'; return new;")
    with pytest.raises(SafeDatabaseError) as caught:
        rows.load(run_id="run-canary-fails")
    assert str(caught.value) == (
        "The load of passport.links changed nothing: SQLSTATE 23505 UniqueViolation, constraint links_certificate"
    )
    rows.do("drop trigger broken on passport.links")
    rows.load(run_id="run-canary-works")
    rows.reset("o-1", then="pending")
    rows.reserve("o-1", "771003", "https://canary.example/771003,canarypassphrase")
    rows.claim("o-2")
    rows.load(run_id="run-canary-again")
    log = postgres.log.read_text(errors="replace")
    for expected in ["run-canary-fails", "run-canary-works", "run-canary-again", "links_certificate", "JOINEXPR"]:
        assert expected in log
    assert "canary.example" not in log
    assert "canarypassphrase" not in log


# --- views ---------------------------------------------------------------------------------------------------------


def test_link_status_knows_every_order_without_its_link(rows: Rows) -> None:
    rows.served("o-1", "11")
    rows.load()
    rows.served("o-2", "12")
    rows.order("o-3", "held")
    rows.do("update passport_ops.reservation set reason = 'a call''s outcome is unknown' where order_key = 'o-3'")
    rows.reset("o-1")
    rows.load()
    rows.served("o-4", "14")
    columns = [row[0] for row in rows.all(COLUMNS, "link_status")]
    published = [row[0] for row in rows.all(COLUMNS, "links")]
    assert columns == [*published[:8], "state", "reason", *published[10:]]
    assert rows.all(
        """
        select order_key, state, reason, certificate_id, reset_at is not null, published_at is not null
        from passport.link_status order by order_key
        """
    ) == [
        ("o-1", "reset", None, "11", True, True),
        ("o-2", "reserved", None, "12", False, True),
        ("o-3", "held", "a call's outcome is unknown", None, False, False),
        ("o-4", "reserved", None, "14", False, False),
    ]


COLUMNS = """
    select attname from pg_attribute
    where attrelid = ('passport.' || %s)::regclass and attnum > 0 order by attnum
"""


def test_the_daily_funnel_counts_every_state_once(rows: Rows) -> None:
    for number in range(4):
        rows.served(f"s-{number}", str(100 + number))
    rows.claim("s-0")
    rows.load()
    rows.reset("s-1")
    rows.do("update passport.links set distributed_at = now() where order_key = 's-0'")
    rows.served("unpublished", "99")
    waiting = ["pending", "calling", "out_of_stock", "out_of_stock", "unknown", "held", "cancelled", "closed"]
    for number, state in enumerate(waiting):
        rows.order(f"w-{number}", state)
    rows.order("other", campaign="winter")
    assert rows.all(
        """
        select campaign, orders, pending, calling, out_of_stock, unknown, held, reserved, claimed, reset, cancelled,
               closed, published, distributed, share_claimed::float
        from passport.daily_funnel where business_day = %s order by campaign
        """,
        FRIDAY,
    ) == [
        ("autumn", 11, 1, 1, 2, 1, 1, 3, 1, 1, 1, 1, 4, 1, 0.2),
        ("winter", 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None),
    ]


@pytest.mark.parametrize(
    ("pool_size", "used", "remaining", "warning_level"),
    [
        (100, 40, 60, None),
        (100, 50, 50, 50),
        (100, 75, 25, 25),
        (100, 89, 11, 25),
        (100, 90, 10, 10),
        (100, 100, 0, 0),
        (100, 103, 0, 0),
        (None, 5, None, None),
    ],
)
def test_tag_stock_warns_at_a_half_a_quarter_a_tenth_and_nothing(
    rows: Rows, pool_size: int | None, used: int, remaining: int | None, warning_level: int | None
) -> None:
    rows.do("update passport_ops.tag set pool_size = %s", pool_size)
    rows.do(
        """
        insert into passport_ops.passport (certificate_id, tag, epoch, state, order_key, received_at)
        select i::text, 'gift', 0, 'assigned', 'o-' || i, now() from generate_series(1, %s) as i
        """,
        used,
    )
    assert rows.all("select received, live, remaining, warning_level from passport.tag_stock") == [
        (used, used, remaining, warning_level)
    ]


def test_tag_stock_tells_apart_what_became_of_the_passports(rows: Rows) -> None:
    rows.served("o-1", "11")
    rows.served("o-2", "12")
    rows.claim("o-2")
    rows.served("o-3", "13")
    rows.reset("o-3")
    rows.do(
        """
        insert into passport_ops.passport (certificate_id, tag, epoch, state, end_reason, claimed_at, received_at)
        values
        ('14', 'gift', 0, 'spare', null, null, now()), ('15', 'gift', 0, 'ended', 'claimed_spare', now(), now()),
        ('11', 'gift', 0, 'ended', 'duplicate', null, now())
        """
    )
    rows.do("update passport_ops.tag set claimed_elsewhere = 7")
    rows.do(
        """
        insert into passport_ops.attempt
        (order_key, tag, epoch, fence, run_id, run_started_at, caller, intended_at, lease_until, outcome)
        select 'o-1', 'gift', 0, i, 'run', now(), 'test', now(), now(), (array['unknown', 'reserved'])[i]
        from generate_series(1, 2) as i
        """
    )
    # 100 minted, less o-1's, o-2's, the claimed spare and the seven claimed elsewhere; what was reset is back.
    assert rows.all(
        """
        select received, live, claimed, spares, ended, claimed_elsewhere, unknown_calls, remaining
        from passport.tag_stock
        """
    ) == [(6, 1, 1, 1, 3, 7, 1, 90)]


EMPTIED = (
    "insert into passport_ops.resting_tag (run_id, run_started_at, tag) values ('a run', clock_timestamp(), 'gift')"
)


def test_tag_stock_believes_the_nmp_that_a_pool_is_empty_until_something_comes_from_it(rows: Rows) -> None:
    stock = "select remaining, warning_level from passport.tag_stock"
    rows.served("o-1", "11")
    rows.do(EMPTIED)
    assert rows.all(stock) == [(0, 0)]
    rows.served("o-2", "12")
    assert rows.all(stock) == [(98, None)]
    rows.do("update passport_ops.tag set pool_size = null")
    rows.do(EMPTIED)
    assert rows.all(stock) == [(0, 0)]


def attention(rows: Rows) -> Sequence[tuple[Any, ...]]:
    assert (
        rows.all("select from passport.needs_attention where since is null or reason is null or what_to_do is null")
        == []
    )
    return rows.all("select kind, order_key, tag, row_key, run_id from passport.needs_attention order by 1, 2, 3, 4, 5")


def acknowledge(rows: Rows, kind: str, *subjects: str) -> None:
    decision = Decision(Action.ACKNOWLEDGE, "asked the operator", subjects, AttentionKind(kind))
    with open_session(rows.uri) as connection:
        assert carry_out(connection, decision) == f"{kind}: {len(subjects)} acknowledged"


def test_a_healthy_warehouse_needs_no_attention(rows: Rows) -> None:
    rows.served("o-1", "11")
    rows.order("o-2")
    rows.order("o-3", "cancelled")
    rows.order("o-4", "closed")
    rows.load()
    assert attention(rows) == []


def test_orders_that_a_person_must_look_at_are_named(rows: Rows) -> None:
    for state in ["held", "unknown", "out_of_stock", "pending", "calling"]:
        rows.order(f"{state}-new", state)
        rows.order(f"{state}-old", state)
    rows.order("expired", "out_of_stock")
    rows.served("odd", "11")
    rows.do(
        """
        update passport_ops.reservation set first_seen_at = now() - interval '2 days',
        lease_until = case when state = 'calling' then now() - interval '1 hour' end
        where order_key like '%%-old'
        """
    )
    rows.do("update passport_ops.reservation set carry_until = current_date - 1 where order_key = 'expired'")
    rows.do("update passport_ops.reservation set claim_uncertain = true where order_key = 'odd'")
    rows.do(EMPTIED)
    assert attention(rows) == [
        ("claim_uncertain", "odd", "gift", None, None),
        ("held", "held-new", "gift", None, None),
        ("held", "held-old", "gift", None, None),
        ("never_answered", "calling-old", "gift", None, None),
        ("not_carried", "expired", "gift", None, None),
        ("out_of_stock", "out_of_stock-old", "gift", None, None),
        ("pending", "pending-old", "gift", None, None),
        ("tag_empty", None, "gift", None, None),
        ("unknown", "unknown-new", "gift", None, None),
        ("unknown", "unknown-old", "gift", None, None),
    ]
    acknowledge(rows, "claim_uncertain", "odd")
    assert "claim_uncertain" not in {kind for kind, *_ in attention(rows)}


def test_resets_that_never_ended_or_were_refused_are_named(rows: Rows) -> None:
    rows.do(
        """
        insert into passport_ops.tag (tag, state, resetting_since) values
        ('stuck', 'resetting', now() - interval '1 hour'), ('busy', 'resetting', now()), ('lost', 'open', null),
        ('refused', 'open', null), ('refused-then-done', 'open', null)
        """
    )
    rows.do(
        """
        insert into passport_ops.tag_reset (tag, run_id, epoch, dry_run, state, intended_at) values
        ('stuck', 'r', 0, false, 'unknown', now() - interval '1 hour'), ('busy', 'r', 0, false, 'unknown', now()),
        ('lost', 'r', 0, false, 'unknown', now() - interval '1 hour'), ('lost', 'r2', 0, true, 'done', now()),
        ('refused', 'r', 0, false, 'refused', now()),
        ('refused-then-done', 'r', 0, false, 'refused', now()), ('refused-then-done', 'r2', 0, false, 'done', now())
        """
    )
    assert attention(rows) == [
        ("reset", None, "lost", None, None),
        ("reset", None, "refused", None, None),
        ("resetting", None, "stuck", None, None),
    ]


def test_a_stopped_run_is_named_until_its_day_is_whole_or_it_ran_again(rows: Rows) -> None:
    rows.do(
        """
        insert into passport_ops.run
        (run_id, first_day, last_day, scheduled, sliced, tasks, orders, max_calls_per_order, max_unknown_per_run,
         max_duplicates_per_run)
        select 'run-' || day, '2026-11-20'::date + day, '2026-11-20'::date + day, true, false, 1, 1, 2, 20, 3
        from generate_series(0, 2) as day
        """
    )
    rows.do(
        """
        insert into passport_ops.run_attempt (run_id, run_started_at, stopped_at, stop_reason) values
        ('run-0', '2026-11-21 00:00Z', now(), 'the key may not reserve'),
        ('run-1', '2026-11-22 00:00Z', now(), 'the key may not reserve'), ('run-1', '2026-11-22 09:00Z', null, null),
        ('run-2', '2026-11-23 00:00Z', now(), 'the key may not reserve')
        """
    )
    rows.load(date(2026, 11, 22))
    assert attention(rows) == [("run_stopped", None, None, None, "run-0")]
    assert rows.all("select subject, settled_by, why from passport.attention_history order by 1") == [
        ("run-1", "event", "a later run of its business day"),
        ("run-2", "event", "its business day is complete"),
    ]
    acknowledge(rows, "run_stopped", "run-0")
    assert attention(rows) == []


def test_certificates_that_came_or_were_claimed_twice_are_named(rows: Rows) -> None:
    rows.served("first", "11")
    rows.order("second")
    rows.served("again", "12")
    rows.reset("again", then="pending")
    rows.reserve("again", "13")
    rows.do("update passport_ops.passport set claimed_at = now() where certificate_id = '12'")
    rows.do(
        """
        insert into passport_ops.attempt
        (order_key, tag, epoch, fence, run_id, run_started_at, caller, intended_at, lease_until, outcome)
        values ('second', 'gift', 0, 1, 'run', now(), 'test', now(), now(), 'duplicate')
        """
    )
    rows.do(
        """
        insert into passport_ops.passport (certificate_id, tag, epoch, state, end_reason, attempt_id, received_at)
        values ('11', 'gift', 0, 'ended', 'duplicate', 1, now())
        """
    )
    rows.do("update passport_ops.passport set received_at = received_at - interval '1 year'")
    rows.do("update passport_ops.passport set claimed_at = claimed_at - interval '1 year'")
    assert attention(rows) == [
        ("claimed_twice", "again", "gift", "certificate 12", None),
        ("duplicate", "second", "gift", "certificate 11", None),
    ]
    acknowledge(rows, "claimed_twice", "certificate 12")
    acknowledge(rows, "duplicate", "certificate 11")
    assert attention(rows) == []


def test_the_pipelines_role_is_enough_for_a_load(rows: Rows, postgres: EmbeddedPostgres) -> None:
    link = rows.served("o-1", "11")
    rows.do("create role loader login password 'loader' in role passport_pipeline")
    try:
        uri = Database(rows.uri.replace(f"postgres:{postgres.password}@", "loader:loader@"))
        assert load_links(uri, closes=[FRIDAY], run_id="run-1").published_now == 1
        assert rows.links() == [("o-1", "reserved", "11", link)]
    finally:
        rows.do("drop role loader")
