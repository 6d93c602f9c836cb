"""From the shop's orders to a planned run: two runs that read one day at about the same time."""

from collections.abc import Iterator
from typing import Any

import pytest

from include import intake
from include.campaigns import Campaign, Campaigns
from include.intake import Extraction
from include.ledger.states import ReservationState
from include.orders import CheckedOrders
from include.settings import Settings
from tests.include.planned import World, order, plan, world

R = ReservationState


@pytest.fixture
def here(emptied_warehouse: str) -> Iterator[World]:
    with world(emptied_warehouse) as made:
        yield made


def test_an_order_found_by_a_newer_extraction_is_not_cancelled_by_an_older_one(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaigns = Campaigns((Campaign(name="gift", tag="gift", products="*", stale_after="30d"),))
    shop = [order("A1")]

    def read(_: str, days: Any, *__: Any) -> Extraction:
        return Extraction(list(days), CheckedOrders(list(shop), [], []))

    def read_slowly(*arguments: Any) -> Extraction:
        seen = read(*arguments)
        shop.append(order("B2"))  # the shop writes it, and another run finds it
        monkeypatch.setattr(intake, "read_orders", read)
        intake.plan_day(here.worker("worker 2"), "", campaigns, Settings(), plan("newer"))
        assert here.state("B2") is R.PENDING
        return seen

    monkeypatch.setattr(intake, "read_orders", read_slowly)
    intake.plan_day(here.ledger, "", campaigns, Settings(), plan("older"))
    assert here.state("B2") is R.PENDING


def test_an_order_that_is_gone_is_still_cancelled(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    campaigns = Campaigns((Campaign(name="gift", tag="gift", products="*", stale_after="30d"),))
    shop = [order("A1"), order("B2")]
    monkeypatch.setattr(
        intake, "read_orders", lambda _, days, *__: Extraction(list(days), CheckedOrders(list(shop), [], []))
    )
    intake.plan_day(here.ledger, "", campaigns, Settings(), plan("run"))
    del shop[1]
    intake.plan_day(here.ledger, "", campaigns, Settings(), plan("run"))
    assert here.state("B2") is R.CANCELLED
