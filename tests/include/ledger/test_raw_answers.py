"""Raw answers: kept before they are read, erased afterwards, never in a log."""

from dataclasses import replace

import pytest

from include.attention.deciding import resolve
from include.attention.kinds import Action
from include.ledger.intents import Intent
from include.ledger.leases import lapse_calls_of_tag
from include.ledger.run_starts import RunStart
from include.ledger.states import ReservationState
from include.nmp.answers import CallFailure, RawAnswer
from include.outcomes import AttemptOutcome
from include.warehouse.database import SafeDatabaseError
from local.postgres import EmbeddedPostgres
from tests.builders.world import RAW, World, a_link, an_answer

A, R = AttemptOutcome, ReservationState


def test_an_answer_that_only_a_person_can_read_is_kept(here: World) -> None:
    run = here.planned("A1")
    here.answer(here.intend(run, "A1"), an_answer(A.UNREADABLE))
    assert here.answers_left() == 1


@pytest.mark.parametrize("outcome", [A.NOT_SENT, A.THROTTLED, A.REFUSED, A.OUT_OF_STOCK, A.REDIRECTED, A.UNKNOWN])
def test_an_answer_that_was_read_is_erased(here: World, outcome: AttemptOutcome) -> None:
    run = here.planned("A1")
    here.answer(here.intend(run, "A1"), an_answer(outcome))
    assert here.answers_left() == 0


def test_a_raw_answer_is_kept_as_it_came_until_it_is_read(here: World) -> None:
    run = here.planned("A1", "B2")
    link, lost = here.intend(run, "A1"), here.intend(run, "B2")
    answers = {
        link.attempt_id: RawAnswer(200, b"\x00\xff body", retry_after="3"),
        lost.attempt_id: RawAnswer(None, b"", failure=CallFailure.RESET, error="ConnectionResetError"),
    }
    here.ledger.keep_answers(answers)
    assert here.ledger.kept_answers([link.attempt_id, lost.attempt_id, 999]) == answers
    here.ledger.settle({link.attempt_id: a_link()})
    assert list(here.ledger.kept_answers([link.attempt_id, lost.attempt_id])) == [lost.attempt_id]


@pytest.mark.parametrize("header", ["soon\x00", "\xe9\xff", "5; \t'\\"])
def test_no_header_keeps_an_answer_from_being_kept(here: World, header: str) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RawAnswer(429, b"\x00", retry_after=header)})
    (kept,) = here.ledger.kept_answers([intent.attempt_id]).values()
    assert (kept.status, kept.body) == (429, b"\x00")


def test_the_servers_log_never_holds_an_answer_or_its_link(here: World, postgres: EmbeddedPostgres) -> None:
    run = here.planned("A1", "B2")
    link = "https://canary.example/771009,ledgercanary"
    reading = replace(a_link("771009"), link=link)
    for key in ("A1", "B2"):  # the second is a duplicate
        intent = here.intend(run, key)
        here.ledger.keep_answers({intent.attempt_id: RawAnswer(200, link.encode())})
        assert here.ledger.kept_answers([intent.attempt_id])[intent.attempt_id].body == link.encode()
        here.ledger.settle({intent.attempt_id: reading})
    log = postgres.log.read_text(errors="replace")
    assert "copy pg_temp.incoming_link" in log
    for secret in ("canary.example", "ledgercanary", link.encode().hex()):
        assert secret not in log


def test_nor_does_it_when_the_copy_of_an_answer_or_its_link_fails(here: World, postgres: EmbeddedPostgres) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    link = "https://canary.example/771010,copycanary"
    fails = "create function pg_temp.fails() returns trigger language plpgsql as $$ begin raise 'copy fails'; end $$"
    with here.ledger.transaction() as connection:
        connection.execute(fails)
        for table in ("incoming_answer", "incoming_link"):
            trigger = f"create trigger fails before insert on pg_temp.{table} for each row"
            connection.execute(f"{trigger} execute function pg_temp.fails()".encode())
    with pytest.raises(SafeDatabaseError):
        here.ledger.keep_answers({intent.attempt_id: RawAnswer(200, link.encode())})
    (settled,) = here.ledger.settle({intent.attempt_id: replace(a_link("771010"), link=link)})
    assert settled.outcome is A.UNREADABLE
    log = postgres.log.read_text(errors="replace")
    assert log.count("ERROR:  copy fails") >= 2
    for secret in ("canary.example/771010", "copycanary", link.encode().hex()):
        assert secret not in log


def test_keeping_an_answer_twice_keeps_the_first(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RAW})
    here.ledger.keep_answers({intent.attempt_id: RawAnswer(500, b"other")})
    assert here.ledger.kept_answers([intent.attempt_id]) == {intent.attempt_id: RAW}


def test_an_answer_kept_again_after_it_was_settled_is_erased(here: World) -> None:
    """Its first keeping was committed unnoticed, somebody else read it, and its holder keeps it once more."""
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RAW})
    here.worker("worker 2").settle({intent.attempt_id: a_link("77")})
    here.ledger.keep_answers({intent.attempt_id: RAW})
    here.ledger.settle({intent.attempt_id: a_link("77")})
    assert here.answers_left() == 0


def test_an_unreadable_answer_that_is_settled_again_is_still_kept(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.answer(intent, an_answer(A.UNREADABLE))
    assert here.ledger.settle({intent.attempt_id: an_answer(A.UNREADABLE)}) == []
    assert here.answers_left() == 1


def test_a_committed_answer_of_a_dead_process_is_read_before_its_order_is_called_again(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RAW})
    other = here.worker("worker 2")
    assert other.unread_answers() == []
    here.end_leases()
    assert other.unread_answers() == [intent.attempt_id]
    grant = here.grant(run, "A1", by=other)
    assert (grant.intents, grant.unread) == ([], [intent.attempt_id])
    assert other.kept_answers(grant.unread) == {intent.attempt_id: RAW}
    (settled,) = other.settle({intent.attempt_id: a_link("1")})
    assert (settled.state, settled.late) == (R.RESERVED, False)
    assert (here.answers_left(), other.unread_answers()) == (0, [])


def test_an_answer_that_a_process_kept_after_its_call_lapsed_and_died_over_is_read_all_the_same(here: World) -> None:
    run = here.planned("A1")
    late = here.intend(run, "A1")
    here.end_leases()
    here.served(run, "A1", "1")
    here.ledger.keep_answers({late.attempt_id: RAW})
    other = here.worker("worker 2")
    assert other.unread_answers() == [late.attempt_id]
    (settled,) = other.settle({late.attempt_id: a_link("2")})
    assert (settled.outcome, here.answers_left(), other.unread_answers()) == (A.SPARE, 0, [])


def lapsed_with_an_unread_answer(here: World) -> tuple[RunStart, Intent]:
    """A process dies with its answer committed; a reset that comes to nothing finds the lease over."""
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RAW})
    here.end_leases()
    lapse_calls_of_tag(here.rows, "gift")
    assert here.state("A1") is R.UNKNOWN
    return run, intent


@pytest.mark.parametrize("released", [False, True], ids=["as the reset left it", "released by a person"])
def test_an_unread_answer_is_read_before_its_lapsed_order_is_called_again(here: World, released: bool) -> None:
    run, intent = lapsed_with_an_unread_answer(here)
    if released:
        resolve(here.rows, ["A1"], Action.RELEASE, "ask again")
    grant = here.grant(run, "A1", by=here.worker("worker 2"))
    assert (grant.intents, grant.unread) == ([], [intent.attempt_id])


def test_a_close_does_not_erase_an_answer_that_nobody_has_read(here: World) -> None:
    _, intent = lapsed_with_an_unread_answer(here)
    resolve(here.rows, ["A1"], Action.CLOSE, "no link for this one")
    left = here.ledger.unread_answers()
    assert left == [intent.attempt_id]
    assert list(here.ledger.kept_answers(left)) == left
    here.ledger.settle({intent.attempt_id: a_link("77")})
    assert here.passports() == [("77", "spare", None)]
    assert here.answers_left() == 0


def test_a_close_still_erases_an_unreadable_answer(here: World) -> None:
    run = here.planned("A1")
    here.answer(here.intend(run, "A1"), an_answer(A.UNREADABLE))
    assert here.answers_left() == 1
    resolve(here.rows, ["A1"], Action.CLOSE, "no link for this one")
    assert here.answers_left() == 0
