"""Which days a run reads, which of them count as read, and which run closes a day."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from include import intake
from include.business_day import bounds_of
from include.campaigns import Campaign, Campaigns
from include.intake import plan_day
from include.ledger.states import ReservationState
from include.orders import CheckedOrder, ExtractionError
from include.settings import Settings
from include.warehouse.publishing import load_links
from tests.builders.world import World, order, plan, world

UTC_ZONE = ZoneInfo("UTC")
GIFT = Campaigns((Campaign(name="gift", tag="gift", products="*", stale_after=timedelta(days=30)),))


def november(first: int, last: int | None = None) -> tuple[date, ...]:
    """Days of a November that is long over."""
    return tuple(date(2016, 11, number) for number in range(first, (last or first) + 1))


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2016, 11, day, hour, minute, tzinfo=UTC)


class Shop:
    """A shop with one order a day, and the runs that read it."""

    def __init__(self, here: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here = here
        self.read: list[Sequence[date]] = []
        self.fails = False
        self._patch = monkeypatch
        monkeypatch.setattr(intake, "read_orders", self._read_orders)

    def _read_orders(self, _: Any, days: Sequence[date], *__: object) -> Iterator[CheckedOrder]:
        self.read.append(tuple(days))
        if self.fails:
            message = "the extraction SQL failed"
            raise ExtractionError(message)
        for day in days:
            yield order(f"order of {day}", day=day, carry_until=day + timedelta(days=2))

    def run(
        self, *days: date, scheduled: bool = True, began_at: datetime | None = None, run_id: str = "", **settings: int
    ) -> list[str]:
        """Plan a run of these days; give the orders that it serves. Its extraction begins at ``began_at``, or now."""
        if began_at is not None:
            self._patch.setattr(self.here.runs, "now", lambda: began_at)
        run = plan(run_id or f"run of {days[-1]}", days=days, scheduled=scheduled)
        labels = plan_day(self.here.runs, "", GIFT, Settings(**settings), run).labels
        return [label.removeprefix("order of ") for label in labels]

    def whole(self) -> dict[str, bool]:
        rows = self.here.rows.execute("select business_day, whole from passport_ops.day order by 1")
        return {str(day): whole for day, whole in rows}

    def attention(self) -> list[str]:
        load_links(self.here.uri, run_id="load")
        query = "select reason from passport.needs_attention where kind = 'day_not_read' order by 1"
        return [reason for (reason,) in self.here.rows.execute(query)]


@pytest.fixture
def shop(emptied_warehouse: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with world(emptied_warehouse) as here:
        yield Shop(here, monkeypatch)


def in_text(days: Sequence[date]) -> list[str]:
    return [str(day) for day in days]


def test_the_days_between_two_runs_are_read_and_their_orders_served_although_none_is_carried_over(shop: Shop) -> None:
    shop.run(*november(10))
    assert shop.run(*november(20)) == in_text(november(11, 20))
    assert shop.read == [november(7, 10), november(11, 20)]
    assert set(shop.whole().values()) == {True}
    assert shop.here.runs.closed_days("run of 2016-11-20", november(20)) == list(november(11, 20))
    assert shop.attention() == []


def test_days_that_are_too_old_to_catch_up_stay_unread_and_need_attention_with_their_backfill(shop: Shop) -> None:
    shop.run(*november(1))
    shop.run(*november(30), catch_up_days=5, lookback_days=3)
    assert shop.read[1] == november(25, 30)
    assert shop.attention() == ["23 days were not read since their end: 2016-11-02 to 2016-11-24"]
    days = "select count(*), min(business_day), max(business_day) from passport.days where state = 'unread'"
    assert shop.here.rows.execute(days).fetchall() == [(23, date(2016, 11, 2), date(2016, 11, 24))]
    for day in november(2, 24):
        shop.run(day, scheduled=False)
    assert shop.attention() == []


def test_days_before_the_first_scheduled_run_are_never_read_unasked(shop: Shop) -> None:
    shop.run(*november(1), scheduled=False)
    shop.run(*november(20), lookback_days=0)
    shop.run(*november(21), lookback_days=0)
    assert shop.read == [november(1), november(20), november(20, 21)]
    assert list(shop.whole()) == ["2016-11-01", "2016-11-20", "2016-11-21"]
    assert shop.attention() == []


def test_a_day_whose_extraction_failed_is_unread_until_a_later_run_reads_it(shop: Shop) -> None:
    shop.fails = True
    with pytest.raises(ExtractionError):
        shop.run(*november(10))
    assert shop.whole() == {"2016-11-10": False}
    assert shop.attention() == ["2016-11-10 was not read since its end"]
    assert shop.here.runs.closed_days("run of 2016-11-10", november(10)) == []
    shop.fails = False
    assert shop.run(*november(11), lookback_days=0) == in_text(november(10, 11))
    assert shop.attention() == []


def test_a_day_served_in_parts_is_whole_when_it_is_read_after_its_end_and_closed_by_that_run(shop: Shop) -> None:
    noon = shop.run(*november(10), began_at=at(10, 12), run_id="noon", lookback_days=0)
    evening = shop.run(*november(10), began_at=at(10, 23, 45), run_id="evening", lookback_days=0)
    assert (noon, evening) == (["2016-11-10"], ["2016-11-10"])
    assert shop.whole() == {"2016-11-10": False}
    assert shop.here.runs.closed_days("evening", ()) == []
    shop.run(*november(10), began_at=at(11), run_id="closing", lookback_days=0)
    assert shop.whole() == {"2016-11-10": True}
    shop.run(*november(11), began_at=at(11, 0, 15), run_id="next", lookback_days=1)
    closed = {run: shop.here.runs.closed_days(run, ()) for run in ("noon", "evening", "closing", "next")}
    assert closed == {"noon": [], "evening": [], "closing": [*november(10)], "next": []}


def test_a_day_that_was_read_whole_stays_whole_whatever_is_registered_later(shop: Shop) -> None:
    shop.run(*november(10), began_at=at(11), run_id="closing")
    shop.run(*november(10), began_at=at(10, 12), run_id="slow")
    assert shop.whole()["2016-11-10"] is True
    assert shop.here.one("select read_at from passport_ops.day where business_day = '2016-11-10'") == at(11)
    assert shop.here.runs.closed_days("closing", ()) == [date(2016, 11, number) for number in range(7, 11)]


def test_a_run_of_a_week_serves_and_closes_its_seven_days(shop: Shop) -> None:
    week = november(14, 20)
    assert shop.run(*week, lookback_days=1) == in_text(november(13, 20))
    assert shop.read == [november(13, 20)]
    assert shop.here.one(
        "select count(*) from passport_ops.run where first_day = %s and last_day = %s", week[0], week[-1]
    )
    shop.run(*november(21, 27), lookback_days=0)
    assert shop.read[1] == november(19, 27)  # two of the week before have orders that are carried over


def test_a_run_by_hand_or_a_backfill_reads_its_own_day_and_nothing_else(shop: Shop) -> None:
    shop.run(*november(10))
    shop.run(*november(20), scheduled=False)
    assert shop.read[1] == november(20)
    assert list(shop.whole()) == in_text((*november(7, 10), *november(20)))
    shop.run(*november(21))
    assert shop.read[2] == november(11, 21)


def test_a_scheduled_run_that_is_cleared_later_adds_no_day_and_closes_the_same(shop: Shop) -> None:
    shop.run(*november(10), lookback_days=0)
    shop.run(*november(12), lookback_days=0)
    before = shop.whole()
    shop.run(*november(10), lookback_days=0)
    assert shop.whole() == before
    assert shop.here.runs.closed_days("run of 2016-11-10", november(10)) == list(november(10))
    assert shop.here.runs.closed_days("run of 2016-11-12", november(12)) == list(november(11, 12))


def test_two_runs_of_one_day_at_once_give_it_one_closing_run(shop: Shop) -> None:
    days = bounds_of(november(10), UTC_ZONE)
    for run_id in ("first", "second"):
        shop.here.runs.register([], run_id=run_id, days_read=days, pool_sizes={}, began_at=at(11))
    assert shop.here.one("select closed_by from passport_ops.day") == "first"


def test_orders_of_an_open_day_are_registered_as_they_come_and_cancelled_as_they_go(shop: Shop) -> None:
    shop.run(*november(10), began_at=at(10, 12), run_id="noon", lookback_days=0)
    shop.here.register(days=november(10))
    assert shop.here.state("order of 2016-11-10") is ReservationState.CANCELLED
