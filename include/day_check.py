"""Check whether a task served its orders and a run its days, and say what to do if not; knows nothing of Airflow."""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import date

from include.business_day import days_in_words
from include.ledger.states import SERVED, UNSERVED, ReservationState

MOST_KEYS_NAMED = 20

_NEXT_STEPS = (
    "Remove the cause, then clear the run's reserve task (out of stock: mint passports; unknown: check that the NMP "
    "answers); a held order waits for resolve_attention. passport.needs_attention lists all of them"
)


class OrdersNotServedError(Exception):
    """Some orders were not served; another try may serve them."""


class OrdersNeedAttentionError(Exception):
    """Some orders were not served and another try would not help: the run stopped, or a person must decide."""


class DayNotServedError(Exception):
    """A run did not give every order of the days that it closes a link: which ones, why, and what to clear."""


def check_days(
    days: Collection[date],
    states: Mapping[str, tuple[ReservationState, str | None]],
    *,
    not_read: Collection[date] = (),
    failed_tasks: Collection[str],
    reasons_that_fail: Collection[str],
) -> str:
    """Return one sentence that says how many orders of some days have a link.

    ``states`` has state and reason by order key. ``not_read`` are days that the run closes, but no extraction of them
    was registered since their end. ``failed_tasks`` are the tasks of the run that failed as a whole,
    ``reasons_that_fail`` the states without a link that fail the run. Raises ``DayNotServedError`` when the run must
    fail.
    """
    lacking = {key: (state, reason) for key, (state, reason) in states.items() if state in UNSERVED}
    served = sum(state in SERVED for state, _ in states.values())
    counts = Counter(state.value for state, _ in lacking.values())
    summary = f"{days_in_words(days)}: {served} of {served + len(lacking)} orders have a link"
    if lacking:
        summary += " (" + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) + ")"
    if not_read:
        summary += f". Not read since the end of the day: {days_in_words(not_read)}; clear extract_orders"
    if failed_tasks:
        message = f"{summary}. Failed: {', '.join(sorted(failed_tasks))}; read its log, remove the cause and clear it"
        raise DayNotServedError(message)
    if not_read:
        raise DayNotServedError(summary)
    failing = {key: (state, reason) for key, (state, reason) in lacking.items() if state in reasons_that_fail}
    if failing:
        named = "; ".join(
            f"{key}: {state}" + (f" ({reason})" if reason else "")
            for key, (state, reason) in sorted(failing.items())[:MOST_KEYS_NAMED]
        )
        more = f"; and {len(failing) - MOST_KEYS_NAMED} more" if len(failing) > MOST_KEYS_NAMED else ""
        message = f"{summary}. {named}{more}. {_NEXT_STEPS}"
        raise DayNotServedError(message)
    return summary
