import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from include.claims.syncing import ClaimsError, ClaimsOfTag, apply_claims, sync_claims
from include.ledger.states import ReservationState
from include.nmp.answers import LinkRules, read_answer
from include.nmp.client import NmpClient
from include.nmp.connection import NmpConnection
from include.warehouse.database import SafeDatabaseError
from sandbox.server import SandboxServer
from tests.builders.ledger_rows import DAY, LedgerRows
from tests.builders.world import World, world

R = ReservationState
NOTHING = {"claimed": 0, "uncertain": 0, "after_reset": 0, "second": 0, "held": 0, "spares": 0, "elsewhere": 0}


@pytest.fixture
def rows(warehouse: str) -> Iterator[LedgerRows]:
    rows = LedgerRows(warehouse)
    yield rows
    rows.connection.close()


def claims(rows: LedgerRows, tag: str, *certificates: str, read_before: timedelta = timedelta(0)) -> ClaimsOfTag:
    """Apply a list of claimed certificates that was received ``read_before`` now."""
    (seen_at,) = rows.one("select clock_timestamp() - %s", read_before)
    return apply_claims(rows.connection, tag, certificates, seen_at=seen_at, run_id="sync")


def changed(tag: str, **counts: int) -> ClaimsOfTag:
    return ClaimsOfTag(**{"tag": tag, **NOTHING, **counts})


def order(rows: LedgerRows, key: str) -> tuple[Any, ...]:
    """State, whether it has a passport, whether a claim time, whether the claim is uncertain."""
    return rows.one(
        """
        select state, passport_id is not null, claimed_at is not null, claim_uncertain
        from passport_ops.reservation where order_key = %s
        """,
        key,
    )


def taken_back(rows: LedgerRows, key: str, tag: str, certificate: str, *, state: str = "reset") -> None:
    """Add an order whose link a reset took back yesterday."""
    rows.order(key, tag, state)
    rows.passport(tag, certificate, state="ended", order_key=key, age=2 * DAY, end_reason="reset")


def test_a_claimed_link_is_its_orders_and_stays_so_when_synced_again(rows: LedgerRows) -> None:
    rows.link("A1", "gift", "101")
    rows.link("A2", "gift", "102")
    assert claims(rows, "gift", "101") == changed("gift", claimed=1)
    assert (order(rows, "A1"), order(rows, "A2")) == (
        ("claimed", True, True, False),
        ("reserved", True, False, False),
    )
    first = rows.one("select claimed_at, updated_at from passport_ops.reservation where order_key = 'A1'")
    assert claims(rows, "gift", "101") == changed("gift")
    assert rows.one("select claimed_at, updated_at from passport_ops.reservation where order_key = 'A1'") == first
    assert rows.passports("101") == [("claimed", "A1", None, False)]


def test_a_claimed_spare_ends(rows: LedgerRows) -> None:
    rows.passport("gift", "201")
    assert claims(rows, "gift", "201") == changed("gift", spares=1)
    assert rows.passports("201") == [("ended", None, "claimed_spare", True)]


def test_certificates_the_ledger_never_received_are_counted_per_tag(rows: LedgerRows) -> None:
    rows.link("A1", "gift", "101")
    assert claims(rows, "gift", "101", "901", "902").elsewhere == 2
    assert rows.one("select claimed_elsewhere, claims_synced_at is not null from passport_ops.tag") == (2, True)


def test_a_claim_first_seen_before_the_certificate_came_again_is_the_earlier_orders(rows: LedgerRows) -> None:
    taken_back(rows, "A1", "gift", "101")
    assert claims(rows, "gift", "101") == changed("gift", after_reset=1)
    assert order(rows, "A1") == ("claimed", True, True, False)
    assert rows.passports("101") == [("claimed", "A1", None, True)]


@pytest.mark.parametrize("state", ["pending", "out_of_stock", "unknown", "held", "cancelled", "closed"])
def test_so_it_is_where_that_order_was_requeued_but_has_no_new_link_yet(rows: LedgerRows, state: str) -> None:
    taken_back(rows, "A1", "gift", "101", state=state)
    assert claims(rows, "gift", "101") == changed("gift", after_reset=1)
    assert order(rows, "A1") == ("claimed", True, True, False)


def test_an_order_that_is_being_asked_for_is_left_to_the_next_sync(rows: LedgerRows) -> None:
    taken_back(rows, "A1", "gift", "101", state="calling")
    assert claims(rows, "gift", "101") == changed("gift")
    rows.do("update passport_ops.reservation set state = 'unknown', lease_until = null")
    assert claims(rows, "gift", "101") == changed("gift", after_reset=1)


def test_a_claim_first_seen_after_the_certificate_came_again_is_the_current_orders_and_uncertain(
    rows: LedgerRows,
) -> None:
    taken_back(rows, "A1", "gift", "101")
    rows.link("B1", "gift", "101")
    assert claims(rows, "gift", "101") == changed("gift", claimed=1, uncertain=1)
    assert (order(rows, "A1"), order(rows, "B1")) == (
        ("reset", False, False, False),
        ("claimed", True, True, True),
    )


def test_a_certificate_that_came_back_to_its_own_order_is_claimed_for_certain(rows: LedgerRows) -> None:
    taken_back(rows, "A1", "gift", "101", state="pending")
    rows.link("A1", "gift", "101")
    assert claims(rows, "gift", "101") == changed("gift", claimed=1)
    assert order(rows, "A1") == ("claimed", True, True, False)


def test_a_spare_that_a_reset_ended_makes_no_claim_uncertain(rows: LedgerRows) -> None:
    rows.passport("gift", "101", state="ended", end_reason="reset")
    rows.link("B1", "gift", "101")
    assert claims(rows, "gift", "101") == changed("gift", claimed=1)


def test_of_two_orders_that_lost_one_certificate_the_later_one_gets_the_claim_and_it_is_uncertain(
    rows: LedgerRows,
) -> None:
    taken_back(rows, "A1", "gift", "101")
    taken_back(rows, "B1", "gift", "101")
    assert claims(rows, "gift", "101") == changed("gift", after_reset=1, uncertain=1)
    assert (order(rows, "A1")[0], order(rows, "B1")) == ("reset", ("claimed", True, True, True))


def test_a_list_read_before_the_certificate_came_again_gives_it_to_the_earlier_order_and_holds_the_new_one(
    rows: LedgerRows,
) -> None:
    taken_back(rows, "A1", "gift", "101")
    rows.link("B1", "gift", "101", age=timedelta(0))
    found = claims(rows, "gift", "101", read_before=timedelta(minutes=1))
    assert found == changed("gift", after_reset=1, held=1)
    assert order(rows, "A1") == ("claimed", True, True, False)
    assert order(rows, "B1") == ("held", False, False, False)
    assert rows.one("select reason from passport_ops.reservation where order_key = 'B1'") == (
        "its certificate 101 was claimed by somebody else before it was handed out: release it for a new link",
    )
    assert rows.passports("101") == [("claimed", "A1", None, True), ("ended", "B1", "claimed_before", True)]


def test_a_link_claimed_beside_a_newer_one_is_noted_at_its_order(rows: LedgerRows) -> None:
    taken_back(rows, "A1", "gift", "101", state="pending")
    rows.link("A1", "gift", "102")
    assert claims(rows, "gift", "101") == changed("gift", second=1)
    assert claims(rows, "gift", "101") == changed("gift")
    assert order(rows, "A1") == ("reserved", True, False, False)
    assert rows.one("select reason from passport_ops.reservation") == (
        "an earlier link of this order, certificate 101, was claimed after it was taken back",
    )


def test_of_two_links_that_one_order_lost_and_both_claimed_one_is_its_own_and_the_other_noted(
    rows: LedgerRows,
) -> None:
    taken_back(rows, "A1", "gift", "101")
    rows.passport("gift", "102", state="ended", order_key="A1", end_reason="reset")
    assert claims(rows, "gift", "101", "102") == changed("gift", after_reset=1, second=1)
    assert rows.passports("102") == [("claimed", "A1", None, True)]
    assert rows.passports("101") == [("ended", "A1", "reset", True)]


def test_twenty_thousand_claims_of_a_tag_are_applied_within_seconds(rows: LedgerRows) -> None:
    rows.tag("big")
    rows.do(
        """
        insert into passport_ops.passport
        (certificate_id, link, link_sha256, tag, epoch, state, order_key, received_at)
        select n, 'l', sha256(n::text::bytea), 'big', 0, 'assigned', 'o' || n, now() from generate_series(1, 20000) as n
        """
    )
    rows.do(
        """
        insert into passport_ops.reservation
        (order_key, order_id, campaign, tag, business_day, paid_at, stale_after, state, passport_id, reserved_at)
        select order_key, order_key, 'gift', 'big', now(), now(), '30 days', 'reserved', passport_id, now()
        from passport_ops.passport
        """
    )
    begun = time.monotonic()
    found = claims(rows, "big", *(str(n) for n in range(1, 20_001)))
    assert found == changed("big", claimed=20_000)
    assert time.monotonic() - begun < 15


def test_a_sync_reads_every_tag_with_links_out_or_taken_back_and_no_other(rows: LedgerRows) -> None:
    with SandboxServer() as sandbox:
        sandbox.start(seed=7)
        control = sandbox.control()
        nmp = NmpClient(NmpConnection(sandbox.base_url, sandbox.api_key))
        control.create_pool("gift", 2)
        first, second = (read_answer(nmp.reserve("gift", deadline=time.monotonic() + 30), LinkRules()) for _ in "12")
        control.claim(first.link)
        control.claim(second.link)
        rows.link("A1", "gift", first.certificate_id)
        taken_back(rows, "B1", "old", "999")
        rows.link("A2", "gift")
        rows.order("C1", "waiting")

        synced = sync_claims(rows.uri, nmp, run_id="sync")

        assert synced.tags == [changed("gift", claimed=1, elsewhere=1), changed("old")]
        assert rows.all("select tag from passport_ops.tag where claims_synced_at >= %s order by tag", synced.since) == [
            ("gift",),
            ("old",),
        ]
        control.queue_fault("server_error_before", call="list", tag="gift")
        with pytest.raises(ClaimsError, match=r"the claims of 1 tags could not be read \(gift\)"):
            sync_claims(rows.uri, nmp, run_id="again")
        assert rows.all("select tag from passport_ops.tag order by claims_synced_at desc nulls last limit 1") == [
            ("old",)
        ]
        nmp.close()


# -- links that came while the list of claims was on its way -----------------------------------------------------------


@pytest.fixture
def here(emptied_warehouse: str) -> Iterator[World]:
    with world(emptied_warehouse) as made:
        yield made


def test_a_spare_that_was_listed_as_claimed_before_an_order_got_it_is_not_that_orders_claim(here: World) -> None:
    run = here.planned("A1", "B2")
    here.spare(run, "A1", "77")
    seen_at = here.one("select clock_timestamp()")  # the list is here; somebody has claimed 77
    here.grant(run, "B2")
    assert here.state("B2") is R.RESERVED
    apply_claims(here.rows, "gift", ["77"], seen_at=seen_at, run_id="sync")
    assert here.state("B2") is R.HELD


def test_a_link_given_while_the_claims_are_being_listed_was_claimed_before(here: World) -> None:
    run = here.planned("A1", "B2")
    here.served(run, "A1")

    class Nmp:
        def claimed_certificates(self, _: str) -> set[str]:
            here.served(run, "B2", "77")  # nobody was given this link yet, and the list has its certificate
            return {"77"}

    sync_claims(here.uri, Nmp(), run_id="sync")
    assert here.state("B2") is R.HELD


class Listed:
    """Stands for the NMP: one certificate is claimed."""

    def claimed_certificates(self, tag: str) -> set[str]:
        return {"101"} if tag == "gift" else set()


def test_a_sync_that_the_database_refuses_says_so_without_a_value(rows: LedgerRows) -> None:
    rows.link("A1", "gift", "101")
    rows.do("alter table passport_ops.reservation drop column claim_uncertain cascade")
    with pytest.raises(SafeDatabaseError, match="The claims could not be written: SQLSTATE 42703"):
        sync_claims(rows.uri, Listed(), run_id="sync")
    assert rows.passports("101") == [("assigned", "A1", None, False)]
