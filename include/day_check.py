"""Whether a task served its orders and a run its day, and what to do if not; without Airflow."""

from collections import Counter
from collections.abc import Collection, Mapping

from include.ledger.states import SERVED, UNSERVED, ReservationState

MOST_KEYS_NAMED = 20


class OrdersNotServedError(Exception):
    """Some orders were not served and may be when tried again."""


class OrdersNeedAttentionError(Exception):
    """Some orders were not served and a retry would not help: the run stopped, or a person must decide."""


class DayNotServedError(Exception):
    """A run did not give every order of its day a link; the message says which, why, and what to clear."""


def check_day(
    day: str,
    standings: Mapping[str, tuple[ReservationState, str | None]],
    *,
    failed_tasks: Collection[str],
    reasons_that_fail: Collection[str],
) -> str:
    """One sentence on how a day stands.

    ``standings`` are state and reason by order key, ``failed_tasks`` the tasks of the run that failed as a whole,
    ``reasons_that_fail`` the states without a link that count. Raises ``DayNotServedError`` where the run must fail.
    """
    lacking = {key: place for key, place in standings.items() if place[0] in UNSERVED}
    served = sum(state in SERVED for state, _ in standings.values())
    counts = Counter(state.value for state, _ in lacking.values())
    summary = f"{day}: {served} of {served + len(lacking)} orders have a link"
    if lacking:
        summary += " (" + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) + ")"
    blamed = {key: place for key, place in lacking.items() if place[0] in reasons_that_fail}
    if failed_tasks:
        message = f"{summary}. Failed: {', '.join(sorted(failed_tasks))}; look at its log, mend the cause and clear it"
        raise DayNotServedError(message)
    if blamed:
        named = "; ".join(
            f"{key}: {state}" + (f" ({reason})" if reason else "")
            for key, (state, reason) in sorted(blamed.items())[:MOST_KEYS_NAMED]
        )
        more = f"; and {len(blamed) - MOST_KEYS_NAMED} more" if len(blamed) > MOST_KEYS_NAMED else ""
        message = f"{summary}. {named}{more}. {_NEXT_STEPS}"
        raise DayNotServedError(message)
    return summary


_NEXT_STEPS = (
    "Clear the run's reserve task when the cause is mended (out of stock: mint passports; unknown: see whether the NMP "
    "is well); a held order waits for resolve_attention. All of them stand in passport.needs_attention"
)
