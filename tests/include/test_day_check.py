"""Whether a run served its day, and what its error says."""

from datetime import date

import pytest

from include.day_check import DayNotServedError, check_days
from include.ledger.states import ReservationState as R

DAY = date(2026, 11, 22)
FAIL = ("held", "unknown")
SERVED = {
    "A1": (R.RESERVED, None),
    "A2": (R.CLAIMED, None),
    "A3": (R.RESET, "unclaimed"),
    "A4": (R.CLOSED, "by a person"),
}


def test_a_day_whose_orders_all_have_a_link_is_one_sentence() -> None:
    assert check_days([DAY], SERVED, failed_tasks=(), reasons_that_fail=FAIL) == (
        "2026-11-22: 3 of 3 orders have a link"
    )


def test_a_state_that_does_not_fail_the_run_is_counted() -> None:
    states = {**SERVED, "B1": (R.OUT_OF_STOCK, "empty"), "B2": (R.PENDING, None)}
    assert check_days([DAY], states, failed_tasks=(), reasons_that_fail=FAIL) == (
        "2026-11-22: 3 of 5 orders have a link (1 out_of_stock, 1 pending)"
    )


def test_a_state_that_fails_the_run_is_named_with_its_orders_and_the_next_step() -> None:
    states = {**SERVED, "B1": (R.HELD, "unreadable"), "B2": (R.UNKNOWN, None), "B3": (R.PENDING, None)}
    with pytest.raises(DayNotServedError) as caught:
        check_days([DAY], states, failed_tasks=(), reasons_that_fail=FAIL)
    assert str(caught.value).startswith(
        "2026-11-22: 3 of 6 orders have a link (1 held, 1 pending, 1 unknown). B1: held (unreadable); B2: unknown. "
        "Remove the cause, then clear the run's reserve task"
    )


def test_at_most_twenty_orders_are_named() -> None:
    states = {f"B{n:02}": (R.HELD, None) for n in range(23)}
    with pytest.raises(DayNotServedError, match=r"B19: held; and 3 more\. "):
        check_days([DAY], states, failed_tasks=(), reasons_that_fail=FAIL)


def test_a_failed_task_fails_the_run_though_every_order_has_its_link() -> None:
    with pytest.raises(DayNotServedError, match=r"Failed: extract_orders, load_links; read its log"):
        check_days([DAY], SERVED, failed_tasks={"load_links", "extract_orders"}, reasons_that_fail=FAIL)


def test_a_run_that_closes_several_days_names_them() -> None:
    days = [date(2026, 11, 11), date(2026, 11, 13), date(2026, 11, 12), date(2026, 11, 20)]
    assert check_days(days, SERVED, failed_tasks=(), reasons_that_fail=FAIL) == (
        "2026-11-11 to 2026-11-13, 2026-11-20: 3 of 3 orders have a link"
    )


def test_a_day_that_was_not_read_since_its_end_fails_the_run_that_closes_it() -> None:
    sentence = r"Not read since the end of the day: 2026-11-22; clear extract_orders$"
    with pytest.raises(DayNotServedError, match=sentence):
        check_days([DAY], {}, not_read=[DAY], failed_tasks=(), reasons_that_fail=FAIL)
