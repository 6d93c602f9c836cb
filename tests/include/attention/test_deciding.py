from collections.abc import Iterator
from datetime import timedelta

import pytest

from include.attention.deciding import Action, AttentionError, Decided, resolve
from include.ledger.states import ReservationState
from include.warehouse.database import SafeDatabaseError
from tests.builders.ledger_rows import LedgerRows

HELD, UNKNOWN, PENDING, CLOSED = (ReservationState(name) for name in ("held", "unknown", "pending", "closed"))
MINUTE = timedelta(minutes=1)


@pytest.fixture
def rows(warehouse: str) -> Iterator[LedgerRows]:
    rows = LedgerRows(warehouse)
    yield rows
    rows.connection.close()


def order(rows: LedgerRows, key: str = "A1") -> tuple[object, ...]:
    return rows.one("select state, fence, reason from passport_ops.reservation where order_key = %s", key)


def keep_answer(rows: LedgerRows, key: str) -> None:
    """Add an unreadable answer of a call for the order."""
    attempt_id = rows.attempt(key, "gift", fence=0, lease=-MINUTE, outcome="unreadable")
    rows.do("insert into passport_ops.answer (attempt_id, status, body) values (%s, 200, 'rubbish')", attempt_id)


@pytest.mark.parametrize("state", [HELD, UNKNOWN])
@pytest.mark.parametrize(("action", "target"), [(Action.RELEASE, PENDING), (Action.CLOSE, CLOSED)])
def test_a_held_or_unknown_order_goes_where_the_person_says(
    rows: LedgerRows, state: ReservationState, action: Action, target: ReservationState
) -> None:
    rows.order("A1", "gift", state)
    decided = resolve(rows.connection, " A1 ", action, " checked with the NMP ", "ada")
    assert decided == Decided("A1", state, target, again=False)
    assert order(rows) == (target, 1, f"{action}d by ada: checked with the NMP")
    assert rows.all(
        "select order_key, action, reason, from_state, to_state, decided_by from passport_ops.decision"
    ) == [("A1", action, "checked with the NMP", state, target, "ada")]


def test_a_kept_answer_stays_after_a_release_and_is_erased_by_a_close(rows: LedgerRows) -> None:
    for key in ("A1", "B1"):
        rows.order(key, "gift", HELD)
        keep_answer(rows, key)
    resolve(rows.connection, "A1", Action.RELEASE, "try again")
    resolve(rows.connection, "B1", Action.CLOSE, "no more")
    assert rows.all("select order_key from passport_ops.answer join passport_ops.attempt using (attempt_id)") == [
        ("A1",)
    ]


def test_the_same_decision_twice_is_one(rows: LedgerRows) -> None:
    rows.order("A1", "gift", HELD)
    resolve(rows.connection, "A1", Action.RELEASE, "try again")
    again = resolve(rows.connection, "A1", Action.RELEASE, "try again")
    assert again == Decided("A1", HELD, PENDING, again=True)
    assert rows.one("select count(*) from passport_ops.decision") == (1,)
    assert order(rows)[1] == 1


def test_an_order_that_needs_a_person_again_can_be_decided_again_in_the_same_words(rows: LedgerRows) -> None:
    rows.order("A1", "gift", HELD)
    resolve(rows.connection, "A1", Action.RELEASE, "try again")
    rows.do("update passport_ops.reservation set state = 'held'")
    assert not resolve(rows.connection, "A1", Action.RELEASE, "try again").again
    assert rows.one("select count(*) from passport_ops.decision") == (2,)


def test_a_call_whose_lease_runs_is_not_touched(rows: LedgerRows) -> None:
    rows.order("A1", "gift", "calling", lease=MINUTE)
    with pytest.raises(AttentionError, match=r"order 'A1' is calling, .* its call may be under way for \d+ s more"):
        resolve(rows.connection, "A1", Action.CLOSE, "no more")
    assert order(rows)[:2] == ("calling", 1)


def test_nor_is_one_whose_lease_ended_for_the_next_run_settles_it(rows: LedgerRows) -> None:
    rows.order("A1", "gift", "calling", lease=-MINUTE)
    with pytest.raises(AttentionError, match="its call's process died: clear the reserve task of its run"):
        resolve(rows.connection, "A1", Action.RELEASE, "try again")


@pytest.mark.parametrize(
    ("state", "what_to_do"),
    [
        ("pending", "it waits for its link already"),
        ("out_of_stock", "fill the pool of its tag"),
        ("cancelled", "correct the order in the shop"),
        ("closed", "a person has closed it"),
        ("reset", "let its campaign requeue"),
    ],
)
def test_other_states_are_refused_with_what_to_do(rows: LedgerRows, state: str, what_to_do: str) -> None:
    rows.order("A1", "gift", state)
    with pytest.raises(AttentionError, match=f"order 'A1' is {state}, .*{what_to_do}"):
        resolve(rows.connection, "A1", Action.RELEASE, "try again")
    assert (order(rows)[:2], rows.one("select count(*) from passport_ops.decision")) == ((state, 0), (0,))


def test_an_order_with_its_link_is_refused(rows: LedgerRows) -> None:
    rows.link("A1", "gift")
    with pytest.raises(AttentionError, match=r"order 'A1' is reserved, .* it has its link"):
        resolve(rows.connection, "A1", Action.CLOSE, "no more")


def test_an_unknown_key_and_an_empty_reason_are_refused(rows: LedgerRows) -> None:
    rows.order("A1", "gift", HELD)
    with pytest.raises(AttentionError, match="no order 'a1' is in the ledger"):
        resolve(rows.connection, "a1", Action.CLOSE, "no more")
    with pytest.raises(AttentionError, match="order 'A1' was not changed: give a reason"):
        resolve(rows.connection, "A1", Action.CLOSE, "  ")


def test_a_decision_that_the_database_refuses_says_so_without_a_value(rows: LedgerRows) -> None:
    rows.order("A1", "gift", HELD)
    rows.do("alter table passport_ops.decision drop column decided_by")
    with pytest.raises(SafeDatabaseError, match="The decision about order 'A1' could not be written: SQLSTATE 42703"):
        resolve(rows.connection, "A1", Action.RELEASE, "try again")
    assert order(rows)[:2] == (HELD, 0)
