from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from include.attention.deciding import AttentionError, Decided, Decision, carry_out, resolve
from include.attention.kinds import Action, AttentionKind
from include.ledger.states import ReservationState
from include.warehouse.database import SafeDatabaseError, open_session
from tests.builders.ledger_rows import LedgerRows

HELD, UNKNOWN, PENDING, OUT_OF_STOCK, CLOSED = (
    ReservationState(name) for name in ("held", "unknown", "pending", "out_of_stock", "closed")
)
MINUTE = timedelta(minutes=1)
FRIDAY, SATURDAY = date(2026, 11, 20), date(2026, 11, 21)


@pytest.fixture
def rows(warehouse: str) -> Iterator[LedgerRows]:
    rows = LedgerRows(warehouse)
    yield rows
    rows.connection.close()


def order(rows: LedgerRows, key: str = "A1") -> tuple[object, ...]:
    return rows.one("select state, fence, reason from passport_ops.reservation where order_key = %s", key)


def states(rows: LedgerRows) -> dict[str, str]:
    return dict(rows.all("select order_key, state from passport_ops.reservation order by order_key"))


def decisions(rows: LedgerRows) -> int:
    return int(rows.one("select count(*) from passport_ops.decision")[0])


def keep_answer(rows: LedgerRows, key: str) -> None:
    """Add an unreadable answer of a call for the order."""
    attempt_id = rows.attempt(key, "gift", fence=0, lease=-MINUTE, outcome="unreadable")
    rows.do(
        """
        insert into passport_ops.answer (attempt_id, intent_id, status, body)
        select attempt_id, intent_id, 200, 'rubbish' from passport_ops.attempt where attempt_id = %s
        """,
        attempt_id,
    )


def decide(rows: LedgerRows, action: Action, *keys: str, reason: str = "looked up", **fields: object) -> str:
    """Carry a decision out on a session like a task's."""
    with open_session(rows.uri) as connection:
        return carry_out(connection, Decision(action, reason, keys, **fields))  # type: ignore[arg-type]


# --- one order -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "state", "target"),
    [
        (Action.RELEASE, HELD, PENDING),
        (Action.RELEASE, UNKNOWN, PENDING),
        (Action.CLOSE, HELD, CLOSED),
        (Action.CLOSE, UNKNOWN, CLOSED),
        (Action.CLOSE, PENDING, CLOSED),
        (Action.CLOSE, OUT_OF_STOCK, CLOSED),
    ],
)
def test_an_order_goes_where_the_person_says(
    rows: LedgerRows, action: Action, state: ReservationState, target: ReservationState
) -> None:
    rows.order("A1", "gift", state)
    rows.do("update passport_ops.reservation set reason = 'as it was'")
    resolved = resolve(rows.connection, [" A1 "], action, " checked with the NMP ", "ada")
    assert (resolved.decided, resolved.refused) == ([Decided("A1", state, target, again=False)], [])
    assert order(rows) == (target, 1, f"{action}d by ada: checked with the NMP")
    assert rows.all(
        "select order_key, action, reason, from_state, to_state, decided_by, about from passport_ops.decision"
    ) == [("A1", action, "checked with the NMP", state, target, "ada", "as it was")]
    assert rows.all("select kind, subject, settled_by, decided_by, why, reason from passport.attention_history") == [
        (state, "A1", action, "ada", "checked with the NMP", "as it was")
    ]


def test_one_order_is_decided_by_its_key_alone(rows: LedgerRows) -> None:
    rows.order("A1", "gift", HELD)
    assert decide(rows, Action.RELEASE, "A1") == "order 'A1': from held to pending"
    assert decide(rows, Action.RELEASE, "A1") == ("order 'A1': from held to pending (decided before, nothing changed)")
    assert (decisions(rows), order(rows)[1]) == (1, 1)


def test_a_kept_answer_stays_after_a_release_and_is_erased_by_a_close(rows: LedgerRows) -> None:
    for key in ("A1", "B1"):
        rows.order(key, "gift", HELD)
        keep_answer(rows, key)
    decide(rows, Action.RELEASE, "A1")
    decide(rows, Action.CLOSE, "B1")
    assert rows.all("select order_key from passport_ops.answer join passport_ops.attempt using (attempt_id)") == [
        ("A1",)
    ]


def test_an_order_that_needs_a_person_again_can_be_decided_again_in_the_same_words(rows: LedgerRows) -> None:
    rows.order("A1", "gift", HELD)
    decide(rows, Action.RELEASE, "A1")
    rows.do("update passport_ops.reservation set state = 'held'")
    assert decide(rows, Action.RELEASE, "A1") == "order 'A1': from held to pending"
    assert decisions(rows) == 2


def test_a_call_whose_lease_runs_is_not_touched(rows: LedgerRows) -> None:
    rows.order("A1", "gift", "calling", lease=MINUTE)
    with pytest.raises(AttentionError, match=r"order 'A1' is calling, .* its call may be under way for \d+ s more"):
        decide(rows, Action.CLOSE, "A1")
    assert order(rows)[:2] == ("calling", 1)


def test_nor_is_one_whose_lease_ended_for_the_next_run_settles_it(rows: LedgerRows) -> None:
    rows.order("A1", "gift", "calling", lease=-MINUTE)
    with pytest.raises(AttentionError, match="its call's process died: clear the reserve task of its run"):
        decide(rows, Action.RELEASE, "A1")


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
    with pytest.raises(AttentionError, match=f"order 'A1' is {state}, not held or unknown: .*{what_to_do}"):
        decide(rows, Action.RELEASE, "A1")
    assert (order(rows)[:2], decisions(rows)) == ((state, 0), 0)


def test_an_order_with_its_link_is_refused(rows: LedgerRows) -> None:
    rows.link("A1", "gift")
    with pytest.raises(AttentionError, match=r"order 'A1' is reserved, .* it has its link"):
        decide(rows, Action.CLOSE, "A1")


def test_an_unknown_key_and_an_empty_reason_are_refused(rows: LedgerRows) -> None:
    rows.order("A1", "gift", HELD)
    with pytest.raises(AttentionError, match="no order 'a1' is in the ledger"):
        decide(rows, Action.CLOSE, "a1")
    with pytest.raises(AttentionError, match="nothing was changed: give a reason"):
        decide(rows, Action.CLOSE, "A1", reason="  ")
    assert order(rows)[:2] == (HELD, 0)


def test_a_decision_that_the_database_refuses_says_so_without_a_value(rows: LedgerRows) -> None:
    rows.order("A1", "gift", HELD)
    rows.do("alter table passport_ops.decision add constraint never check (false)")
    with pytest.raises(SafeDatabaseError, match="The decision about order 'A1' could not be written: SQLSTATE 23514"):
        decide(rows, Action.RELEASE, "A1")
    assert order(rows)[:2] == (HELD, 0)


# --- many orders -----------------------------------------------------------------------------------------------------


def test_of_a_list_those_that_can_be_decided_are_and_the_others_are_named(
    rows: LedgerRows, caplog: pytest.LogCaptureFixture
) -> None:
    for key, state in (("A1", HELD), ("A2", UNKNOWN), ("A3", "closed")):
        rows.order(key, "gift", state)
    answer = decide(rows, Action.RELEASE, "A1", "A2", "A3", "A4", " A1 ")
    assert states(rows) == {"A1": "pending", "A2": "pending", "A3": "closed"}
    refused = [
        "order 'A3' is closed, not held or unknown: a person has closed it",
        "no order 'A4' is in the ledger: correct the order key (case counts)",
    ]
    assert answer == (
        "order 'A1': from held to pending; order 'A2': from unknown to pending; not changed: " + "; ".join(refused)
    )
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"not changed: {sentence}" for sentence in refused
    ]


@pytest.fixture
def two_days(rows: LedgerRows) -> LedgerRows:
    """Held orders: three of Friday (one of another campaign, one of another tag), two of Saturday."""
    for key, tag, campaign, day in (
        ("A1", "gift", "gift", FRIDAY),
        ("A2", "gift", "watches", FRIDAY),
        ("A3", "watch", "gift", FRIDAY),
        ("B1", "gift", "gift", SATURDAY),
        ("B2", "gift", "gift", SATURDAY),
    ):
        rows.order(key, tag, HELD, campaign=campaign)
        rows.do("update passport_ops.reservation set business_day = %s where order_key = %s", day, key)
    return rows


def test_a_kind_is_first_only_counted_and_shown(two_days: LedgerRows, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert decide(two_days, Action.RELEASE, kind=AttentionKind.HELD) == (
        "5 orders of kind held fit, nothing was changed: trigger it again with at_most 5 to release them"
    )
    assert [record.message for record in caplog.records] == [
        "2 held of campaign gift, business day 2026-11-20: A1, A3",
        "1 held of campaign watches, business day 2026-11-20: A2",
        "2 held of campaign gift, business day 2026-11-21: B1, B2",
    ]
    assert (set(states(two_days).values()), decisions(two_days)) == ({"held"}, 0)


def test_more_than_at_most_change_nothing(two_days: LedgerRows) -> None:
    with pytest.raises(AttentionError) as raised:
        decide(two_days, Action.CLOSE, kind=AttentionKind.HELD, at_most=4)
    assert str(raised.value) == (
        "5 orders of kind held fit, more than at_most 4: nothing was changed; "
        "trigger it again with at_most 5 to close them"
    )
    assert (set(states(two_days).values()), decisions(two_days)) == ({"held"}, 0)


@pytest.mark.parametrize(
    ("filters", "touched"),
    [
        ({}, {"A1", "A2", "A3", "B1", "B2"}),
        ({"day": FRIDAY}, {"A1", "A2", "A3"}),
        ({"day": FRIDAY, "campaign": "gift"}, {"A1", "A3"}),
        ({"tag": "watch"}, {"A3"}),
        ({"tag": "nothing"}, set()),
    ],
)
def test_a_kind_is_decided_as_far_as_its_filters_go_and_again_nothing_changes(
    two_days: LedgerRows, filters: dict[str, object], touched: set[str]
) -> None:
    decide(two_days, Action.RELEASE, kind=AttentionKind.HELD, at_most=9, **filters)
    assert {key for key, state in states(two_days).items() if state == "pending"} == touched
    answer = decide(two_days, Action.RELEASE, kind=AttentionKind.HELD, at_most=9, **filters)
    assert answer == "no line of kind held fits: there is nothing to do"
    assert decisions(two_days) == len(touched)


def test_what_no_run_serves_any_more_can_be_closed_by_its_kind(rows: LedgerRows) -> None:
    for key, state in (("A1", PENDING), ("A2", OUT_OF_STOCK), ("A3", PENDING)):
        rows.order(key, "gift", state)
    rows.do("update passport_ops.reservation set carry_until = current_date - 1 where order_key <> 'A3'")
    answer = decide(rows, Action.CLOSE, kind=AttentionKind.NOT_CARRIED, at_most=2)
    assert answer == "order 'A1': from pending to closed; order 'A2': from out_of_stock to closed"
    assert states(rows) == {"A1": "closed", "A2": "closed", "A3": "pending"}
    assert rows.all("select kind from passport.needs_attention where order_key <> 'A3'") == []


def test_a_decision_that_failed_halfway_goes_on_with_the_rest(
    rows: LedgerRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.attention.deciding.ORDERS_AT_ONCE", 2)
    for key in ("A1", "A2", "A3"):
        rows.order(key, "gift", HELD)
    rows.do("alter table passport_ops.decision add constraint not_the_third check (order_key <> 'A3')")
    with pytest.raises(SafeDatabaseError, match="The decision about order 'A3' could not be written"):
        decide(rows, Action.RELEASE, "A1", "A2", "A3")
    assert states(rows) == {"A1": "pending", "A2": "pending", "A3": "held"}
    rows.do("alter table passport_ops.decision drop constraint not_the_third")
    assert decide(rows, Action.RELEASE, "A1", "A2", "A3") == (
        "2 orders: from held to pending (decided before, nothing changed); order 'A3': from held to pending"
    )
    assert (set(states(rows).values()), decisions(rows)) == ({"pending"}, 3)


@pytest.mark.parametrize(
    ("action", "keys", "fields", "says"),
    [
        (Action.RELEASE, (), {}, "give order keys, or a kind"),
        (Action.RELEASE, (" ",), {}, "give order keys, or a kind"),
        (Action.RELEASE, ("A1",), {"kind": AttentionKind.HELD}, "give order keys or a kind, not both"),
        (Action.RELEASE, ("A1",), {"day": FRIDAY}, "campaign, day and tag choose among the lines of a kind"),
        (Action.ACKNOWLEDGE, ("A1",), {}, "an acknowledge needs a kind"),
        (
            Action.RELEASE,
            (),
            {"kind": AttentionKind.PENDING},
            "lines of kind pending cannot be released: close them",
        ),
        (
            Action.ACKNOWLEDGE,
            (),
            {"kind": AttentionKind.HELD},
            "lines of kind held cannot be acknowledged: release or close them",
        ),
        (
            Action.CLOSE,
            (),
            {"kind": AttentionKind.TAG_EMPTY},
            "lines of kind tag_empty cannot be closed: do what their what_to_do says, and they leave by themselves",
        ),
    ],
)
def test_a_decision_that_does_not_say_clearly_what_it_is_about_changes_nothing(
    rows: LedgerRows, action: Action, keys: tuple[str, ...], fields: dict[str, object], says: str
) -> None:
    rows.order("A1", "gift", HELD)
    with pytest.raises(AttentionError, match=f"nothing was changed: {says}"):
        decide(rows, action, *keys, at_most=9, **fields)
    assert order(rows)[:2] == (HELD, 0)


# --- lines about no order --------------------------------------------------------------------------------------------


def reset_refused(rows: LedgerRows, *tags: str) -> None:
    for tag in tags:
        rows.tag(tag)
        rows.do(
            """
            insert into passport_ops.tag_reset (tag, run_id, epoch, dry_run, state, detail)
            values (%s, 'r', 0, false, 'refused', 'the key may not reset')
            """,
            tag,
        )


def subjects(rows: LedgerRows) -> list[str]:
    return [subject for (subject,) in rows.all("select subject from passport.needs_attention order by 1")]


def test_a_line_that_is_acknowledged_leaves_until_it_happens_again_and_stays_in_the_history(rows: LedgerRows) -> None:
    reset_refused(rows, "gift", "watch")
    answer = decide(rows, Action.ACKNOWLEDGE, "gift", kind=AttentionKind.RESET, decided_by="ada")
    assert answer == "reset: 1 acknowledged"
    assert subjects(rows) == ["watch"]
    assert rows.all("select kind, subject, reason, settled_by, decided_by, why from passport.attention_history") == [
        ("reset", "gift", "its last reset is refused: the key may not reset", "acknowledge", "ada", "looked up")
    ]
    again = decide(rows, Action.ACKNOWLEDGE, "gift", kind=AttentionKind.RESET)
    assert (again, decisions(rows)) == ("reset: 1 acknowledged before, nothing changed", 1)
    reset_refused(rows, "gift")
    assert subjects(rows) == ["gift", "watch"]


def test_a_kind_without_keys_is_counted_before_it_is_acknowledged(rows: LedgerRows) -> None:
    reset_refused(rows, "gift", "watch", "bag")
    assert decide(rows, Action.ACKNOWLEDGE, kind=AttentionKind.RESET) == (
        "3 lines of kind reset fit, nothing was changed: trigger it again with at_most 3 to acknowledge them"
    )
    with pytest.raises(AttentionError, match="3 lines of kind reset fit, more than at_most 2: nothing was changed"):
        decide(rows, Action.ACKNOWLEDGE, kind=AttentionKind.RESET, at_most=2)
    assert (subjects(rows), decisions(rows)) == (["bag", "gift", "watch"], 0)
    assert decide(rows, Action.ACKNOWLEDGE, kind=AttentionKind.RESET, tag="bag", at_most=1) == "reset: 1 acknowledged"
    assert decide(rows, Action.ACKNOWLEDGE, kind=AttentionKind.RESET, at_most=2) == "reset: 2 acknowledged"
    assert subjects(rows) == []


def test_a_key_that_no_line_has_is_named(rows: LedgerRows) -> None:
    reset_refused(rows, "gift")
    with pytest.raises(AttentionError, match="no line of kind reset has the key 'gfit': copy it from subject"):
        decide(rows, Action.ACKNOWLEDGE, "gfit", kind=AttentionKind.RESET)
    answer = decide(rows, Action.ACKNOWLEDGE, "gfit", "gift", kind=AttentionKind.RESET)
    assert answer == "reset: 1 acknowledged; 1 not found: the log names them"


def test_rejected_rows_of_a_day_are_acknowledged_until_another_row_comes(rows: LedgerRows) -> None:
    rows.do(
        """
        insert into passport_ops.rejected_day (subject, business_day, reason, open_rows, first_keys, since) values
        ('2026-11-20 missing_key', '2026-11-20', 'missing_key', 2, array['order_id 7'], now()),
        ('2026-11-21 missing_key', '2026-11-21', 'missing_key', 2, array['order_id 8'], now())
        """
    )
    answer = decide(rows, Action.ACKNOWLEDGE, kind=AttentionKind.REJECTED, day=FRIDAY, at_most=1)
    assert (answer, subjects(rows)) == ("rejected: 1 acknowledged", ["2026-11-21 missing_key"])
    rows.do("update passport_ops.rejected_day set seen_at = clock_timestamp()")  # the same rows are read again
    assert subjects(rows) == ["2026-11-21 missing_key"]
    rows.do("update passport_ops.rejected_day set open_rows = 3, since = clock_timestamp()")
    assert subjects(rows) == ["2026-11-20 missing_key", "2026-11-21 missing_key"]
