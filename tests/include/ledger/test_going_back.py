"""A ledger that goes back in time: every caller that knew more of it stops before its next call."""

import uuid

import pytest

from include.ledger.calls import CallLedger
from include.ledger.going_back import Memory, WentBackError
from include.ledger.granting import Caller
from include.ledger.states import ReservationState
from include.nmp.answers import RawAnswer
from local.postgres import EmbeddedPostgres
from tests.builders.backup import backup_of
from tests.builders.world import RAW, World, a_link, world

R = ReservationState


def count(here: World) -> int:
    return int(here.one("select grants from passport_ops.gate"))


def went_back(here: World) -> bool:
    return bool(here.one("select went_back_at is not null from passport_ops.gate"))


@pytest.fixture(autouse=True)
def _nothing_was_noticed_before(emptied_warehouse: str) -> None:
    with world(emptied_warehouse) as here:
        here.written.do("update passport_ops.gate set went_back_at = null, remembered = null")


def test_every_intent_and_every_spare_is_counted(here: World) -> None:
    before = count(here)
    run = here.planned("A1", "B2", "C3")
    assert len(here.grant(run, "A1", "B2").intents) == 2
    assert count(here) == before + 2
    here.grant(run, "A1")  # refused: it is under way
    assert count(here) == before + 2
    here.written.passport("gift", "77")
    assert here.refused(run, "C3").state is R.RESERVED
    assert count(here) == before + 3


def test_the_next_grant_of_who_knew_more_stops_and_so_does_everybody_else(
    postgres: EmbeddedPostgres, emptied_warehouse: str
) -> None:
    with world(emptied_warehouse) as here:
        run = here.planned("A1", "B2")
    with backup_of(postgres, emptied_warehouse) as backup, world(emptied_warehouse) as here:
        here.served(run, "A1")
        before = count(here)
        backup.put_back()
        here.ledger.close()  # its connection is gone
        with world(emptied_warehouse) as restored:
            with pytest.raises(WentBackError, match=f"{before - 1} grants, and {before} were seen.*make recover SINCE"):
                here.ledger.grant(run, ["B2"], slots=8)
            assert went_back(restored)
            assert restored.one("select remembered from passport_ops.gate") == before
            with pytest.raises(WentBackError, match=f"{before} were seen"):  # a worker that never knew more
                restored.grant(run, "B2")
            assert restored.one("select count(*) from passport_ops.attempt") == 0


def test_a_lost_call_is_noticed_although_others_have_counted_on_since(
    postgres: EmbeddedPostgres, emptied_warehouse: str
) -> None:
    with world(emptied_warehouse) as here:
        run = here.planned("A1", "B2", "C3", "D4")
    with backup_of(postgres, emptied_warehouse) as backup, world(emptied_warehouse) as here:
        here.served(run, "A1")
        backup.put_back()
        here.ledger.close()  # its connection is gone
        with world(emptied_warehouse) as restored:
            assert len(restored.grant(run, "B2", "C3").intents) == 2  # it cannot know
            with pytest.raises(WentBackError, match="lost a call that was committed"):
                here.ledger.grant(run, ["D4"], slots=8)
            with pytest.raises(WentBackError):
                restored.grant(run, "D4")


def test_an_answer_that_was_lost_is_noticed_and_its_call_not_freed_as_never_sent(
    postgres: EmbeddedPostgres, emptied_warehouse: str
) -> None:
    with world(emptied_warehouse) as here:
        run = here.planned("A1", "B2")
        intent = here.intend(run, "A1")
        with backup_of(postgres, emptied_warehouse) as backup:
            here.ledger.close()  # the backup ended its connection
            here.ledger.keep_answers({intent.attempt_id: RAW})
            here.ledger.settle({intent.attempt_id: a_link("77")})
            backup.put_back()
            here.ledger.close()  # its connection is gone
            with pytest.raises(WentBackError, match="lost a call"):
                here.ledger.disown([])
        with world(emptied_warehouse) as restored:
            assert restored.state("A1") is R.CALLING


def test_another_ledger_is_not_a_restored_one(here: World) -> None:
    run = here.planned("A1", "B2")
    here.intend(run, "A1")
    here.written.do("update passport_ops.gate set warehouse_id = gen_random_uuid(), grants = 0")
    assert here.intend(run, "B2").order_key == "B2"


def test_what_airflow_remembers_counts_before_the_first_grant(here: World) -> None:
    run = here.planned("A1")
    warehouse_id = here.one("select warehouse_id from passport_ops.gate")
    knows = CallLedger(here.uri, Caller("w", 60, 8), Memory(warehouse_id, count(here) + 5))
    other = CallLedger(here.uri, Caller("w", 60, 8), Memory(uuid.uuid4(), count(here) + 5))
    with knows, other:
        assert len(other.grant(run, ["A1"], slots=1).intents) == 1
        with pytest.raises(WentBackError):
            knows.grant(run, ["A1"], slots=1)


def test_an_answer_never_reaches_the_row_of_another_order_whose_call_has_its_number(
    postgres: EmbeddedPostgres, emptied_warehouse: str
) -> None:
    with world(emptied_warehouse) as here:
        run = here.planned("A1", "B2")
    with backup_of(postgres, emptied_warehouse) as backup, world(emptied_warehouse) as here:
        lost = here.intend(run, "A1")
        backup.put_back()
        here.ledger.close()  # its connection is gone
        with world(emptied_warehouse) as restored:
            other = restored.intend(run, "B2")
            assert other.attempt_id == lost.attempt_id
            here.ledger.keep_answers({lost.attempt_id: RawAnswer(200, b"of A1")})
            restored.ledger.keep_answers({other.attempt_id: RawAnswer(200, b"of B2")})
            assert restored.answers_left() == 2
            assert here.ledger.settle({lost.attempt_id: a_link("771")}) == []
            assert (restored.state("A1"), restored.state("B2")) == (R.PENDING, R.CALLING)
            assert restored.answers_left() == 1
            [settled] = restored.ledger.settle({other.attempt_id: a_link("772")})
            assert (settled.order_key, settled.state) == ("B2", R.RESERVED)
            assert restored.passports() == [("771", "ended", "A1"), ("772", "assigned", "B2")]
            assert restored.one("select end_reason from passport_ops.passport where certificate_id = '771'") == (
                "no_intent"
            )
            assert restored.one("select link is null from passport_ops.passport where certificate_id = '771'")
            assert restored.answers_left() == 0
