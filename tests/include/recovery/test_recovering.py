"""The steps of a recovery, each on a ledger that a restore has left."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.ledger.states import ReservationState
from include.recovery import recovering
from include.recovery.hand_over import RecoveryError, read_hand_over
from include.warehouse.publishing import load_links
from local.postgres import EmbeddedPostgres
from tests.builders.world import World, order, world

R = ReservationState
SINCE = datetime(2026, 11, 22, 3, tzinfo=UTC)


@pytest.fixture
def here(warehouse: str) -> Iterator[World]:
    with world(warehouse) as made:
        yield made


def begin(here: World) -> recovering.Recovery:
    return recovering.begin(here.uri, since=SINCE, by="ana")


def file_of(folder: Path, *rows: tuple[str, str, str], name: str = "hand_over.csv") -> Path:
    path = folder / name
    path.write_text("order_key,certificate_id,link\n" + "".join(f"{','.join(map(quoted, row))}\n" for row in rows))
    return path


def quoted(value: str) -> str:
    return f'"{value}"'


def link(certificate: str) -> str:
    return f"https://test.arianee.net/{certificate},secret{certificate}"


def published(here: World) -> list[tuple[str, bool, str, bool]]:
    load_links(here.uri, run_id="run")
    return here.rows.execute(
        "select order_key, link is not null, state, distributed_at is not null from passport.links order by 1"
    ).fetchall()


def test_every_order_without_a_link_is_held_with_its_reason_and_what_is_known_of_the_ledger_counts_no_more(
    here: World,
) -> None:
    run = here.planned("CALLED", "EMPTY", "LOOSE", "OLD", "PENDING", "SERVED")
    here.served(run, "SERVED", "1")
    here.intend(run, "CALLED")
    for key, state in (("EMPTY", "out_of_stock"), ("LOOSE", "unknown")):
        here.written.do("update passport_ops.reservation set state = %s where order_key = %s", state, key)
    here.written.do("update passport_ops.reservation set state = 'held', reason = 'why' where order_key = 'OLD'")
    here.written.do("update passport_ops.gate set went_back_at = now(), remembered = grants + 7")
    before = here.one("select warehouse_id from passport_ops.gate")
    begun = begin(here)
    assert (begun.held, begun.kept_back, begun.lost_grants) == (5, 1, 7)
    assert {here.state(key) for key in ("CALLED", "EMPTY", "LOOSE", "OLD", "PENDING")} == {R.HELD}
    assert here.state("SERVED") is R.RESERVED
    assert here.reason("OLD") == "recovery 1: its link may have been issued after the backup; before: why"
    assert here.one("select outcome from passport_ops.attempt where order_key = 'CALLED'") == "unknown"
    assert here.one("select went_back_at is null and warehouse_id <> %s from passport_ops.gate", before)
    with pytest.raises(RecoveryError, match="recovery 1 is open since"):
        begin(here)
    with pytest.raises(RecoveryError, match="recovery 1 is open, and no tag is reset before it ends"):
        recovering.require_none_open(here.uri)
    assert here.rows.execute(
        "select kind from passport.needs_attention where kind in ('recovery', 'went_back')"
    ).fetchall() == [("recovery",)]


def test_a_number_of_a_call_is_not_given_again_after_a_recovery(here: World) -> None:
    run = here.planned("A1")
    first = here.intend(run, "A1")
    begin(here)
    here.register(order("NEW", paid_at=datetime.now(UTC)))
    assert here.intend(run, "NEW").attempt_id > first.attempt_id + 1_000_000


def test_the_time_of_a_backup_is_not_to_come(here: World) -> None:
    with pytest.raises(RecoveryError, match="is to come: give the time of the backup"):
        recovering.begin(here.uri, since=datetime.now(UTC) + timedelta(hours=1), by="ana")


@pytest.mark.parametrize("step", ["links", "resets", "withdrawals", "finish"])
def test_no_step_is_done_without_a_recovery(here: World, step: str) -> None:
    steps = {
        "links": lambda: recovering.give_links(here.uri, []),
        "resets": lambda: recovering.name_resets(here.uri, [], []),
        "withdrawals": lambda: recovering.name_withdrawals(here.uri, None),
        "finish": lambda: recovering.finish(here.uri, by="ana"),
    }
    with pytest.raises(RecoveryError, match="no recovery is open: begin one with make recover SINCE="):
        steps[step]()


def test_a_spare_is_given_to_nobody_after_a_restore(here: World) -> None:
    here.planned("A1")
    here.written.passport("gift", "77")
    begin(here)
    assert here.passports() == [("77", "ended", None)]
    assert here.one("select end_reason from passport_ops.passport") == "restored"


def test_links_are_adopted_without_a_call_and_count_as_sent(here: World, tmp_path: Path) -> None:
    here.planned("A1", "B2")
    begin(here)
    adopted = recovering.give_links(
        here.uri, [file_of(tmp_path, ("A1", "71", link("71")), ("LATER", "72", link("72")))]
    )
    assert (adopted.orders, adopted.faults) == (["A1"], [])
    assert published(here) == [("A1", True, "reserved", True)]
    assert here.one("select count(*) from passport_ops.attempt") == 0
    again = recovering.give_links(here.uri, [file_of(tmp_path, ("A1", "71", link("71")))])
    assert (again.orders, again.faults) == ([], [])
    here.register(order("A1"), order("B2"), order("LATER"), order("OTHER"))
    assert [here.state(key) for key in ("LATER", "B2", "OTHER")] == [R.RESERVED, R.HELD, R.HELD]
    assert published(here) == [("A1", True, "reserved", True), ("LATER", True, "reserved", True)]
    assert here.one("select count(*) from passport_ops.adopted_link") == 0


def test_a_row_that_cannot_be_right_is_named_without_its_link_and_the_others_are_adopted(
    here: World, tmp_path: Path
) -> None:
    run = here.planned("A1", "B2", "C3", "D4", "E5", "F6", "G7", "GONE", "SERVED")
    here.served(run, "SERVED", "60")
    here.written.do("update passport_ops.reservation set state = 'closed' where order_key = 'GONE'")
    begin(here)
    path = file_of(
        tmp_path,
        ("A1", "71", link("71")),
        ("A1", "71", link("71")),  # the same row twice is one
        ("B2", "72", link("99")),
        ("C3", "73", link("73")),
        ("C3", "74", link("74")),
        ("D4", "75", link("75")),
        ("E5", "75", link("75")),
        ("F6", "60", link("60")),
        ("SERVED", "61", link("61")),
        ("GONE", "76", link("76")),
        ("", "77", link("77")),
        ("G7", "78", "no link"),
    )
    adopted = recovering.give_links(here.uri, [path])
    assert adopted.orders == ["A1"]
    assert {(fault.order_key, fault.fault.partition(":")[0]) for fault in adopted.faults} == {
        ("B2", "its link is no link to its certificate"),
        ("C3", "the files have two links for this order"),
        ("D4", "the files give its certificate to two orders"),
        ("E5", "the files give its certificate to two orders"),
        ("F6", "the ledger has its certificate for order SERVED"),
        ("SERVED", "the ledger has another link for it"),
        ("GONE", "the ledger has it as closed, so it gets no link"),
        (None, "it has no order key"),
        ("G7", "its link is no link to its certificate"),
    }
    assert {fault.place for fault in adopted.faults if fault.order_key == "B2"} == {"hand_over.csv line 4"}
    assert "secret" not in str(adopted)
    with pytest.raises(RecoveryError, match="make recover LINKS="):  # the step counts as not done
        recovering.finish(here.uri, by="ana")


def test_a_file_that_is_no_hand_over_is_named_and_nothing_of_it_is_shown(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("order,link\nA1,secret\n")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"order_key,certificate_id,link\nA1,1,\xffsecret\n")
    for path, why in (
        (other, "has no column order_key, certificate_id: its first line must be order_key,certificate_id,link"),
        (binary, "is no CSV file in UTF-8"),
        (tmp_path / "none.csv", "cannot be read: No such file or directory; correct the path"),
    ):
        with pytest.raises(RecoveryError, match=why) as raised:
            list(read_hand_over(path))
        assert "secret" not in str(raised.value)


def test_a_tag_that_was_reset_since_loses_its_links_from_before_and_then_its_newer_ones_are_adopted(
    here: World, tmp_path: Path
) -> None:
    run = here.planned("A1", "B2", "KEPT")
    here.register(order("A1"), order("B2", campaign="again"), order("KEPT", tag="other"))
    for key, certificate in (("A1", "71"), ("B2", "72"), ("KEPT", "73")):
        here.served(run, key, certificate)
    assert [row[1] for row in published(here)] == [True, True, True]
    begin(here)
    assert published(here) == [(key, False, "reserved", False) for key in ("A1", "B2", "KEPT")]
    assert here.one("select reason from passport.link_status where order_key = 'A1'").startswith(
        "its link is kept back"
    )
    with pytest.raises(RecoveryError, match="no order ever named the tag 'Gift'"):
        recovering.name_resets(here.uri, ["Gift"], [])
    recovering.name_resets(here.uri, ["gift"], ["again"])
    assert [here.state(key) for key in ("A1", "B2", "KEPT")] == [R.RESET, R.HELD, R.RESERVED]
    assert here.one("select epoch from passport_ops.tag where tag = 'gift'") == 1
    adopted = recovering.give_links(here.uri, [file_of(tmp_path, ("B2", "71", link("71")))])  # after the reset
    assert (adopted.orders, adopted.faults) == (["B2"], [])
    recovering.name_withdrawals(here.uri, None)
    assert published(here) == [
        ("A1", False, "reset", False),
        ("B2", True, "reserved", True),
        ("KEPT", True, "reserved", False),
    ]


def test_a_link_that_was_withdrawn_since_is_its_orders_no_more(here: World, tmp_path: Path) -> None:
    run = here.planned("A1", "B2")
    here.served(run, "A1", "71")
    here.served(run, "B2", "72")
    published(here)
    begin(here)
    path = tmp_path / "withdrawn.csv"
    path.write_text("order_key\nA1\nNOBODY\n")
    with pytest.raises(RecoveryError, match=r"1 orders of .* have no link that is older than the backup: NOBODY"):
        recovering.name_withdrawals(here.uri, path)
    path.write_text("order_key\nA1\n")
    recovering.name_withdrawals(here.uri, path)
    assert published(here) == [("A1", False, "reset", False), ("B2", False, "reserved", False)]
    recovering.name_resets(here.uri, [], [])
    assert published(here) == [("A1", False, "reset", False), ("B2", True, "reserved", False)]
    assert here.one("select end_reason from passport_ops.passport where certificate_id = '71'") == "withdrawn"


def test_the_end_of_a_recovery_releases_what_it_held_and_leaves_the_rest_to_a_person(here: World) -> None:
    here.planned("A1", "CLOSED", "OLD")
    here.written.do("update passport_ops.reservation set state = 'held', reason = 'why' where order_key = 'OLD'")
    begin(here)
    recovering.give_links(here.uri, [])
    recovering.name_resets(here.uri, [], [])
    recovering.name_withdrawals(here.uri, None)
    here.written.do("update passport_ops.reservation set state = 'closed' where order_key = 'CLOSED'")
    assert recovering.finish(here.uri, by="ben") == 1
    assert [here.state(key) for key in ("A1", "CLOSED", "OLD")] == [R.PENDING, R.CLOSED, R.HELD]
    assert here.rows.execute("select tag, possibly_consumed from passport.tag_stock").fetchall() == [("gift", 3)]
    recovering.require_none_open(here.uri)
    here.register(order("A1"), order("NEW"))  # after the end nothing is held any more
    assert [here.state(key) for key in ("A1", "NEW")] == [R.PENDING, R.PENDING]


def test_an_order_that_a_person_released_is_not_held_again(here: World) -> None:
    here.planned("A1")
    begin(here)
    here.written.do("update passport_ops.reservation set state = 'pending' where order_key = 'A1'")
    here.register(order("A1"))
    assert here.state("A1") is R.PENDING


def test_the_servers_log_never_holds_a_link_of_a_hand_over(
    here: World, tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    here.planned("A1", "B2")
    begin(here)
    rows = (("A1", "71", link("71")), ("B2", "71", link("71")), ("LATER", "73", link("73")))
    recovering.give_links(here.uri, [file_of(tmp_path, *rows)])
    here.register(order("A1"), order("B2"), order("LATER"))
    log = postgres.log.read_text(encoding="utf-8", errors="replace")
    assert "incoming_hand_over" in log
    assert "secret71" not in log
    assert "secret73" not in log
