"""The connection to the ledger, and what the database itself refuses."""

import psycopg
import pytest

from include.ledger.states import ReservationState
from include.warehouse.database import SafeDatabaseError
from tests.builders.world import RAW, World, a_link

R = ReservationState


def test_a_ledger_makes_a_new_connection_after_it_lost_one(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.rows.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'passport-links ledger'"
    )
    with pytest.raises(SafeDatabaseError) as trouble:
        here.ledger.keep_answers({intent.attempt_id: RAW})
    assert trouble.value.transient
    assert here.answer(intent, a_link()).state is R.RESERVED


def test_the_database_itself_refuses_a_second_live_link(here: World) -> None:
    run = here.planned("A1", "B2")
    here.served(run, "A1", "77")
    insert = """
        insert into passport_ops.passport (certificate_id, link_sha256, tag, epoch, state, order_key)
        values (%s, %s, 'gift', 0, 'assigned', %s)
    """
    for values, constraint in (
        (("77", b"x", "B2"), "passport_live_certificate"),
        (("78", b"x", "A1"), "passport_live_order"),
    ):
        with pytest.raises(psycopg.errors.UniqueViolation) as refusal:
            here.rows.execute(insert, values)
        assert refusal.value.diag.constraint_name == constraint


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("update passport_ops.reservation set state = 'reserved' where order_key = 'B2'", "served_has_a_passport"),
        ("update passport_ops.reservation set passport_id = null where order_key = 'A1'", "served_has_a_passport"),
        ("update passport_ops.reservation set state = 'pending' where order_key = 'C3'", "calling_has_a_lease"),
        ("update passport_ops.reservation set state = 'calling' where order_key = 'B2'", "calling_has_a_lease"),
        (
            "update passport_ops.reservation set state = 'reserved', passport_id = "
            "(select passport_id from passport_ops.passport where state = 'spare') where order_key = 'B2'",
            "reservation_passport_id_order_key_fkey",
        ),
        (
            "insert into passport_ops.passport (certificate_id, link_sha256, state) "
            "select '79', link_sha256, 'spare' from passport_ops.passport where certificate_id = '77'",
            "passport_live_link",
        ),
        (
            "insert into passport_ops.passport (certificate_id, link_sha256, state, order_key) "
            "values ('78', 'x', 'assigned', 'B2')",
            "passport_live_certificate",
        ),
        (
            "insert into passport_ops.passport (certificate_id, link_sha256, state, order_key) "
            "select '80', 'y', 'claimed', order_key from passport_ops.passport where certificate_id = '77'",
            "passport_live_order",
        ),
        (
            "insert into passport_ops.attempt (order_key, tag, epoch, fence, run_id, run_started_at, caller, "
            "intended_at, lease_until) select order_key, tag, epoch, fence, run_id, run_started_at, 'another', "
            "intended_at, lease_until from passport_ops.attempt where order_key = 'C3'",
            "attempt_fence",
        ),
    ],
)
def test_the_database_itself_refuses_rows_that_would_break_a_promise(
    here: World, statement: str, constraint: str
) -> None:
    run = here.planned("A1", "B2", "C3")
    here.served(run, "A1", "77")
    here.intend(run, "C3")
    here.rows.execute(
        "insert into passport_ops.passport (certificate_id, link_sha256, tag, epoch, state) "
        "values ('78', 'z', 'gift', 0, 'spare')"
    )
    with pytest.raises(psycopg.errors.IntegrityError) as refusal:
        here.rows.execute(statement)
    assert refusal.value.diag.constraint_name == constraint
