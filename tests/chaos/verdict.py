"""Whether a chaos run passed: what the checker found, what was leaked, and whether every order got its link."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from include.warehouse.database import Connect
from sandbox.checker import Report
from sandbox.faults import Fault
from tests.chaos.commits import MOST_SECONDS, Gap
from tests.chaos.strikes import Kind, Strike

AMBIGUOUS = (
    Fault.LOST_ANSWER,
    Fault.SERVER_ERROR_BEFORE,
    Fault.SERVER_ERROR_AFTER,
    Fault.CONNECTION_RESET,
    Fault.TRUNCATED,
    Fault.DRIP,
)
"""After these nobody can know whether a passport was consumed (a redirect has an outcome of its own)."""

MOST_WITHOUT_A_LINK = 0.005  # of all orders, each with a true reason

COUNTS = """
select
    (select count(link) from passport.links where state in ('reserved', 'claimed')) as links,
    (select count(*) from passport.links where state = 'claimed') as claims,
    (
        select count(distinct needy.order_key)
        from passport.needs_attention as needy
        inner join passport_ops.reservation as known on needy.order_key = known.order_key
        where
            known.passport_id is null
            and needy.reason is not null
            and exists (
                select from passport_ops.attempt as call
                where
                    call.order_key = needy.order_key
                    and call.outcome in ('unknown', 'redirected', 'unreadable', 'wrong_link', 'duplicate')
            )
    ) as in_need,
    (select count(*) from passport_ops.attempt where outcome is distinct from 'not_sent') as calls,
    (select count(*) from passport_ops.attempt where outcome = 'unknown' or outcome is null) as unknown
"""
"""An order needs attention for a true reason if it has a call that may have consumed a passport."""

UNDER_WAY = """
select count(*) from passport_ops.attempt as call
where exists (
    select from unnest(%s::timestamptz[], %s::timestamptz[]) as strike (began, ended)
    where
        call.intended_at <= strike.ended
        and call.lease_until >= strike.began
        and (call.answered_at is null or call.answered_at >= strike.began)
)
"""


@dataclass(frozen=True)
class Verdict:
    """What became of a chaos run: whether every promise held, in one line, and what did not, row by row."""

    held: bool
    line: str
    findings: tuple[str, ...]


@dataclass(frozen=True)
class ChaosRecord:
    """What was done to a stack, by the sandbox's counters and our own."""

    seed: int
    orders: int
    strikes: Sequence[Strike]
    faults: Counter[str]
    claims: int
    clears: int
    longest_gap: Gap

    @property
    def ambiguous(self) -> int:
        """Faults whose outcome nobody can know."""
        return sum(self.faults[fault.value] for fault in AMBIGUOUS)


def judge(warehouse: Connect, record: ChaosRecord, report: Report, leaked: Sequence[str]) -> Verdict:
    """Decide from the ledger that ``warehouse`` opens, the checker's report and the places that hold a secret."""
    with warehouse() as connection:
        row = connection.execute(COUNTS).fetchone()
        assert row is not None
        links, claims, in_need, calls, unknown = row
        moments = [[strike.began for strike in record.strikes], [strike.ended for strike in record.strikes]]
        under_way = connection.execute(UNDER_WAY, moments).fetchone()
        assert under_way is not None
    bound = record.ambiguous + under_way[0]
    findings = [*map(str, report.violations), *(f"a secret is in {place}" for place in leaked)]
    if links + in_need != record.orders:
        findings.append(f"{record.orders} orders, but {links} have a link and {in_need} need attention")
    if in_need > record.orders * MOST_WITHOUT_A_LINK:
        findings.append(f"{in_need} orders need attention, more than {MOST_WITHOUT_A_LINK:.1%}")
    if unknown > bound:
        findings.append(f"{unknown} calls of unknown outcome, but only {bound} can be")
    if claims != record.claims:
        findings.append(f"{record.claims} customers claimed, and {claims} claims are published")
    if record.longest_gap.seconds > MOST_SECONDS:
        findings.append(str(record.longest_gap))
    line = (
        f"chaos seed={record.seed}: {'BROKEN' if findings else 'HELD'}: {links} of {record.orders} orders have a link, "
        f"{in_need} need attention, {len(report.violations)} violations, {len(leaked)} leaks; {calls} calls, "
        f"{record.faults.total()} faults, {unknown} of unknown outcome (at most {bound}: {record.ambiguous} faults, "
        f"{under_way[0]} calls at strikes); {_struck(record.strikes)}, {record.clears} clears, {claims} claims; "
        f"at most {record.longest_gap.seconds:.1f} s without a commit while work waited"
    )
    return Verdict(not findings, line, tuple(findings))


def _struck(strikes: Sequence[Strike]) -> str:
    """Count the strikes, by kind and then by victim."""
    kinds = Counter(strike.kind for strike in strikes)
    victims = Counter((strike.kind, strike.victim) for strike in strikes)
    parts = []
    for kind in Kind:
        whom = ", ".join(f"{count} {victim}" for (of, victim), count in sorted(victims.items()) if of is kind)
        parts.append(f"{kinds[kind]} {kind}s" + (f" ({whom})" if whom else ""))
    return ", ".join(parts)
