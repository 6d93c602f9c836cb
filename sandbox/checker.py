"""The checker: compares the sandbox's history with the ledger and decides each promise of ``docs/promises.md``.

``python -m sandbox.checker --warehouse URI --sandbox URL`` prints a verdict and every violation with its rows.

It reads what both sides recorded and trusts neither: the history says which requests came and what was given, the
ledger what was intended and what was received. Both clocks must be of one machine, and no call may be under way. It
cannot see an intent that was written before its request, but committed only after it.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from typing import Any

import psycopg
from psycopg.rows import RowMaker

from include.ledger.states import PassportState
from include.outcomes import MEANINGS, AttemptOutcome, Consumed
from include.sql_files import sql_of
from include.warehouse.database import (
    Connect,
    Connection,
    SafeDatabaseError,
    connecting_to,
    open_session,
    read_rows,
    safe_errors,
)
from sandbox.errors import SandboxError
from sandbox.server import SandboxControl

CLOCK_TOLERANCE_SECONDS = 0.001
"""Two processes of one machine read one clock, but with different functions and roundings."""

sql = sql_of(__package__)

KEEPS_RAW = tuple(outcome for outcome, meaning in MEANINGS.items() if meaning.keeps_raw)
MAY_HAVE_CONSUMED = frozenset(
    {None, *KEEPS_RAW, *(outcome for outcome, meaning in MEANINGS.items() if meaning.consumed is Consumed.POSSIBLY)}
)
"""Outcomes of an attempt that explain a passport given and never stored: not settled, unknown, or unreadable."""

MOST_ROWS_PRINTED = 20


@dataclass(frozen=True)
class Violation:
    """A promise that does not hold: its number in ``docs/promises.md``, what happened, and the rows that show it.

    ``rows`` name order keys, certificates, attempts and times; never a link.
    """

    promise: int
    sentence: str
    rows: tuple[str, ...]

    def __str__(self) -> str:
        """Write it in lines for a terminal."""
        shown = [f"    {row}" for row in self.rows[:MOST_ROWS_PRINTED]]
        more = len(self.rows) - MOST_ROWS_PRINTED
        if more > 0:
            shown.append(f"    and {more} more")
        return "\n".join([f"promise {self.promise}: {self.sentence}", *shown])


@dataclass(frozen=True)
class Report:
    """What a check found. The NMP gave ``given_out`` passports, ``received`` of them are rows of the ledger.

    ``possible`` counts attempts whose outcome is unknown, unreadable or not settled: ``given_out`` is at least
    ``received`` and at most ``received + possible``.
    """

    orders: int
    links: int
    given_out: int
    received: int
    possible: int
    violations: tuple[Violation, ...] = ()

    @property
    def verdict(self) -> str:
        """One line."""
        rows = sum(len(violation.rows) for violation in self.violations)
        word = f"{len(self.violations)} violations ({rows} rows)" if self.violations else "the promises hold"
        return (
            f"{word}: {self.orders} orders, {self.links} with a link; {self.given_out} passports given out, "
            f"{self.received} received, {self.possible} calls of unknown outcome"
        )


def check(warehouse: Connect, history: Sequence[Mapping[str, Any]]) -> Report:
    """Decide every promise for the ledger that ``warehouse`` opens and a sandbox's whole ``history``.

    ``history`` is what ``SandboxControl.history()`` gives. Raises SafeDatabaseError if the warehouse cannot be read.
    """
    with safe_errors("The ledger could not be checked"), open_session(warehouse) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        return examine(connection, history)


def examine(connection: Connection, history: Sequence[Mapping[str, Any]]) -> Report:
    """Decide the same over an open connection; what it reads is what it judges."""
    with connection.transaction():
        found = [violation for rule in RULES if (violation := rule.broken(connection))]
        attempts = read_rows(connection, _Attempt, sql("attempts"))
        passports = read_rows(connection, _Passport, sql("passports"))
        [counts] = read_rows(connection, _Counts, sql("counts"))
    seen = _History.of(history)
    comparison = _Comparison(seen, attempts, passports)
    found += comparison.violations()
    return Report(
        orders=counts.orders,
        links=counts.links,
        given_out=len(seen.given),
        received=len(seen.given) - len(comparison.missing),
        possible=sum(attempt.outcome in MAY_HAVE_CONSUMED for attempt in attempts),
        violations=tuple(sorted(found, key=lambda violation: violation.promise)),
    )


# -- what the ledger says about itself ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rule:
    """A query of ``sandbox/sql`` that gives a row for each case that must not be."""

    promise: int
    query: str
    sentence: str

    def broken(self, connection: Connection) -> Violation | None:
        rows = connection.cursor(row_factory=_in_words)
        rows.execute(sql(self.query), {"keeps_raw": [outcome.value for outcome in KEEPS_RAW]})
        found = tuple(rows)
        return Violation(self.promise, self.sentence, found) if found else None


RULES = (
    _Rule(1, "two_links_of_an_order", "an order has two live links"),
    _Rule(1, "two_orders_of_a_certificate", "a certificate is live twice"),
    _Rule(1, "two_orders_of_a_link", "a link is live under two certificates"),
    _Rule(1, "orders_and_passports_disagree", "an order and its passport do not agree"),
    _Rule(1, "links_of_an_older_epoch", "a passport from before a reset of its tag can still be given to an order"),
    _Rule(1, "two_published_orders_of_a_certificate", "a certificate is published for two orders"),
    _Rule(3, "answers_not_erased", "a raw answer that was read was not erased"),
    _Rule(4, "fences_used_twice", "a fence was used twice, or an order's fence became lower"),
    _Rule(4, "calls_beside_a_lease", "an order was called for during the lease of an earlier call"),
    _Rule(5, "intents_for_served_orders", "an intent was committed for an order that had a link"),
    _Rule(5, "intents_for_an_empty_tag", "an intent began after its tag was marked empty"),
    _Rule(5, "intents_after_a_stop", "an intent began after its run stopped"),
    _Rule(6, "links_not_erased", "a passport ended and its link was not erased"),
    _Rule(7, "intents_during_a_reset", "an intent began during a reset of its tag"),
    _Rule(7, "links_reset_too_young", "a reset took a link back before its stale_after was over"),
    _Rule(8, "published_disagrees", "what is published is not what the ledger has"),
    _Rule(8, "days_disagree", "a published day does not count the links that are published"),
)


def _in_words(cursor: psycopg.Cursor[Any]) -> RowMaker[str]:
    """Make each row a text: the names of its columns and their values."""
    names = [column.name for column in cursor.description or ()]

    def words(values: Sequence[Any]) -> str:
        return ", ".join(
            f"{name} {_value(value)}" for name, value in zip(names, values, strict=True) if value is not None
        )

    return words


def _value(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    return f"{value:.6f}" if isinstance(value, float) else str(value)


# -- the history against the ledger ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Counts:
    """How many orders there are, and how many of them have a link."""

    orders: int
    links: int


@dataclass(frozen=True)
class _Attempt:
    """One call in the ledger; times are epoch seconds."""

    attempt_id: int
    order_key: str
    tag: str
    outcome: str | None
    intended_at: float
    lease_until: float
    answered_at: float | None


@dataclass(frozen=True)
class _Passport:
    """One passport in the ledger; ``intended_at`` is the time of its call's intent, None if it has no call."""

    passport_id: int
    certificate_id: str
    link_sha256: str
    tag: str
    state: str
    order_key: str | None
    intended_at: float | None
    received_at: float

    @property
    def key(self) -> tuple[str, str]:
        return self.certificate_id, self.link_sha256


@dataclass
class _Given:
    """One passport that the NMP gave; ``times`` has when it gave it first, and when it gave it once more."""

    seq: int
    tag: str
    key: tuple[str, str]
    times: list[float]
    unmatched: list[float]  # those of them that belong to no row of the ledger yet
    received: bool = False


@dataclass(frozen=True)
class _History:
    """The history as the checker needs it: requests by tag, passports given, links of replacements, claims."""

    requests: dict[str, list[float]]
    given: list[_Given]
    replaced: frozenset[tuple[str, str]]
    claimed: frozenset[str]

    @classmethod
    def of(cls, history: Iterable[Mapping[str, Any]]) -> "_History":
        requests: dict[str, list[float]] = defaultdict(list)
        given: list[_Given] = []
        latest: dict[tuple[str, str], _Given] = {}
        replaced, claimed = set(), set()
        for entry in history:
            key = (entry["certificate_id"], entry["link_sha256"])
            if entry["kind"] == "reserve":
                requests[entry["tag"]].append(entry["time"])
                if entry["certificate_id"] is None:
                    continue
                if not entry["repeated"] or key not in latest:
                    latest[key] = _Given(entry["seq"], entry["tag"], key, [], [])
                    given.append(latest[key])
                latest[key].times.append(entry["time"])
                latest[key].unmatched.append(entry["time"])
            elif entry["kind"] == "replace" and entry["certificate_id"] is not None:
                replaced.add(key)
            elif entry["kind"] == "claim" and entry["outcome"] == "done":
                claimed.add(entry["certificate_id"])
        return cls(requests, given, frozenset(replaced), frozenset(claimed))


class _Comparison:
    """The history and the rows of the ledger, side by side."""

    def __init__(self, history: _History, attempts: Sequence[_Attempt], passports: Sequence[_Passport]) -> None:
        self._history = history
        self._passports = passports
        self._calls: dict[str, list[_Attempt]] = defaultdict(list)
        for attempt in attempts:
            if attempt.outcome != AttemptOutcome.NOT_SENT:
                self._calls[attempt.tag].append(attempt)
        by_key: dict[tuple[str, str], list[_Given]] = defaultdict(list)
        for given in history.given:
            by_key[given.key].append(given)
        self._never_given = [passport for passport in passports if not _was_given(passport, by_key[passport.key])]
        self.missing = [given for given in history.given if not given.received]

    def violations(self) -> list[Violation]:
        """Find the promises that the two together break."""
        without_intent, after_lease = self._requests()
        found = (
            (
                2,
                "a passport was given and is lost: no row has it, and no unknown outcome explains it",
                self._lost(),
            ),
            (2, "a passport was received that the NMP never gave for that call", self._invented()),
            (2, "a passport is claimed in the ledger, but nobody claimed it", self._claimed_by_nobody()),
            (3, "a request was sent without a committed intent", without_intent),
            (4, "a request was sent after the lease of its intent ended", after_lease),
        )
        return [Violation(promise, sentence, tuple(rows)) for promise, sentence, rows in found if rows]

    def _lost(self) -> list[str]:
        by_tag: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for given in self.missing:
            name = f"certificate_id {given.key[0]}, tag {given.tag}, history entry {given.seq}"
            by_tag[given.tag].append((given.times[0], name))
        return [name for tag, moments in by_tag.items() for name in _unmatched(moments, self._explanations(tag))]

    def _explanations(self, tag: str) -> list[tuple[float, float]]:
        """Give the times between which each call of unknown outcome may have consumed a passport."""
        return [
            (call.intended_at, max(call.lease_until, call.answered_at or call.lease_until))
            for call in self._calls[tag]
            if call.outcome in MAY_HAVE_CONSUMED
        ]

    def _invented(self) -> list[str]:
        return [
            f"certificate_id {passport.certificate_id}, tag {passport.tag}, order_key {passport.order_key}, "
            f"passport_id {passport.passport_id}"
            for passport in self._never_given
            if passport.key not in self._history.replaced
        ]

    def _claimed_by_nobody(self) -> list[str]:
        return [
            f"certificate_id {passport.certificate_id}, order_key {passport.order_key}"
            for passport in self._passports
            if passport.state == PassportState.CLAIMED and passport.certificate_id not in self._history.claimed
        ]

    def _requests(self) -> tuple[list[str], list[str]]:
        """Find the requests without an intent before them, and those of the others without an intent on lease."""
        without_intent: list[str] = []
        after_lease: list[str] = []
        for tag, moments in self._history.requests.items():
            named = [(moment, f"tag {tag}, request at {moment:.6f}") for moment in sorted(moments)]
            calls = self._calls[tag]
            lacking = set(_unmatched(named, [(call.intended_at, float("inf")) for call in calls]))
            without_intent += sorted(lacking)
            others = [each for each in named if each[1] not in lacking]
            after_lease += _unmatched(others, [(call.intended_at, call.lease_until) for call in calls])
        return without_intent, after_lease


def _was_given(passport: _Passport, candidates: Iterable[_Given]) -> bool:
    """Say whether the NMP gave this link between the row's intent and its commit; takes that moment for this row."""
    start = -float("inf") if passport.intended_at is None else passport.intended_at - CLOCK_TOLERANCE_SECONDS
    end = passport.received_at + CLOCK_TOLERANCE_SECONDS
    for given in candidates:
        fitting = [moment for moment in given.unmatched if start <= moment <= end]
        if fitting:
            given.unmatched.remove(fitting[0])
            given.received = True
            return True
    return False


def _unmatched(moments: Iterable[tuple[float, str]], windows: Iterable[tuple[float, float]]) -> list[str]:
    """Name the moments that cannot each have a window of their own; the window that closes first is taken first."""
    coming = sorted(windows, reverse=True)
    open_until: list[float] = []
    alone: list[str] = []
    for moment, name in sorted(moments):
        while coming and coming[-1][0] <= moment + CLOCK_TOLERANCE_SECONDS:
            heappush(open_until, coming.pop()[1])
        while open_until and open_until[0] < moment - CLOCK_TOLERANCE_SECONDS:
            heappop(open_until)
        if open_until:
            heappop(open_until)
        else:
            alone.append(name)
    return alone


# -- the command line --------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0 if every promise holds, 1 if one does not, 2 if nobody can say."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.checker", description="Do the ledger's promises hold?")
    parser.add_argument(
        "--warehouse",
        default=os.environ.get("AIRFLOW_CONN_WAREHOUSE", ""),
        help="libpq URI of the warehouse (default: the environment's AIRFLOW_CONN_WAREHOUSE)",
    )
    parser.add_argument("--sandbox", required=True, help="base URL of the sandbox that was the NMP")
    given = parser.parse_args(arguments)
    try:
        report = check(connecting_to(given.warehouse), SandboxControl(given.sandbox).history())
    except (SafeDatabaseError, SandboxError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write("\n".join([report.verdict, *map(str, report.violations)]) + "\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
