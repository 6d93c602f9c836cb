"""Any order of events, on a real PostgreSQL: after each one the checker must find every promise kept.

``make test`` takes a few hundred steps; ``HYPOTHESIS_PROFILE=nightly`` more than ten thousand.
"""

import os
import time
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from include.attention.deciding import DECIDED_FROM, resolve
from include.attention.kinds import Action
from include.claims.syncing import apply_claims
from include.ledger.calls import CallLedger
from include.ledger.intents import Intent
from include.ledger.run_starts import RunStart
from include.ledger.states import ReservationState
from include.ledger.transitions import Step
from include.nmp.answers import EMPTY_POOL_CODE, CallFailure, LinkRules, RawAnswer, read_answer
from include.outcomes import MEANINGS, AttemptOutcome, Consumed
from sandbox.checker import examine
from tests.builders.world import World, attempt_of, empty, order, plan

KEYS = ("A1", "B2", "C3", "D4", "E5", "F6")
TAG_OF = dict.fromkeys(KEYS, "gift") | {"F6": "watch"}
RUNS = ("run", "other")
CONCURRENCY = 3
STEPS = {"default": (20, 40), "nightly": (250, 60)}  # examples, steps of each

NOTHING = {
    "throttled": RawAnswer(429, b""),
    "empty": RawAnswer(400, b'{"code": "%s"}' % EMPTY_POOL_CODE.encode()),
    "before": RawAnswer(500, b""),
}
LOST = {
    "timeout": RawAnswer(None, b"", failure=CallFailure.TIMEOUT),
    "after": RawAnswer(500, b""),
    "rubbish": RawAnswer(200, b"{"),
}
STOPS = {"refused": RawAnswer(401, b""), "redirect": RawAnswer(302, b"")}
picks = st.integers(0, 11)


@dataclass
class Call:
    """A call as its worker and the platform know it."""

    intent: Intent
    worker: int
    leased: bool = True
    raw: RawAnswer | None = None  # what the platform answered; None: the request has not left
    kept: bool = False
    settled: bool = False
    dead: bool = False  # its process is; whatever it had not kept is gone

    @property
    def unsent(self) -> bool:
        return self.raw is None and self.leased and not self.dead

    @property
    def answered(self) -> bool:
        return self.raw is not None and not self.settled and not self.dead


class Nmp:
    """The platform: pools that never run dry, and a history as the sandbox writes it."""

    def __init__(self) -> None:
        self.history: list[dict[str, Any]] = []
        self.live: dict[str, list[str]] = {"gift": [], "watch": []}
        self.claimed: dict[str, set[str]] = {"gift": set(), "watch": set()}
        self._returned: dict[str, list[str]] = {"gift": [], "watch": []}
        self._made = 0

    def reserve(self, tag: str, *, gives: bool, again: bool = False) -> str | None:
        """One request: the link it gives, another order's once more if ``again`` and there is one, or none."""
        if not gives:
            self._note("reserve", tag, None)
            return None
        again = again and bool(self.live[tag])
        if again:
            certificate = self.live[tag][-1]
        else:
            certificate = self._returned[tag].pop() if self._returned[tag] else str(1000 + self._made)
            self._made += 1
            self.live[tag].append(certificate)
        self._note("reserve", tag, certificate, repeated=again)
        return self.link(certificate)

    def reset(self, tag: str) -> None:
        self._returned[tag] += self.live[tag]
        self.live[tag] = []

    def can_claim(self, tag: str, certificate: str) -> bool:
        return certificate in self.live[tag] or certificate in self._returned[tag]

    def claim(self, tag: str, certificate: str) -> None:
        (self.live if certificate in self.live[tag] else self._returned)[tag].remove(certificate)
        self.claimed[tag].add(certificate)
        self._note("claim", tag, certificate, outcome="done")

    @staticmethod
    def link(certificate: str) -> str:
        return f"https://test.arianee.net/{certificate},secret{certificate}"

    def _note(
        self, kind: str, tag: str, certificate: str | None, *, repeated: bool = False, outcome: Any = 200
    ) -> None:
        digest = sha256(self.link(certificate).encode()).hexdigest() if certificate else None
        self.history.append(
            {
                "seq": len(self.history) + 1,
                "time": time.time(),
                "kind": kind,
                "tag": tag,
                "certificate_id": certificate,
                "link_sha256": digest,
                "outcome": outcome,
                "repeated": repeated,
            }
        )


class LedgerMachine(RuleBasedStateMachine):
    """Two workers, two runs, six orders, two tags; and people, resets, crashes and lost answers in between."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        empty(uri)
        self.here = World(uri, concurrency=CONCURRENCY)
        self.workers: list[CallLedger] = [self.here.worker(f"worker {n}") for n in range(2)]
        self.born = len(self.workers)
        self.nmp = Nmp()
        self.calls: list[Call] = []
        self.clears = dict.fromkeys(RUNS, 0)
        self.listed: tuple[str, list[str], datetime] | None = None
        self.rules = LinkRules()

    def teardown(self) -> None:
        self.here.close()

    def run_attempt(self, run_id: str) -> RunStart:
        return attempt_of(run_id, self.clears[run_id])

    # --- planning -----------------------------------------------------------------------------------------------------

    @initialize()
    def plan(self) -> None:
        self.extract(set(KEYS))
        for run_id in RUNS:
            self.clear(run_id, opened=True)

    def extract(self, keys: set[str]) -> None:
        self.here.register(*(order(key, tag=TAG_OF[key]) for key in sorted(keys)))

    @rule(run_id=st.sampled_from(RUNS), opened=st.booleans())
    def clear(self, run_id: str, opened: bool) -> None:
        self.clears[run_id] += 1
        self.here.runs.plan_run(plan(run_id, max_calls_per_order=3, max_unknown_per_run=5))
        if opened:
            self.here.open(self.run_attempt(run_id))

    # --- calls --------------------------------------------------------------------------------------------------------

    @rule(worker=st.integers(0, 1), run_id=st.sampled_from(RUNS))
    def intend_all(self, worker: int, run_id: str) -> None:
        self.intend(worker, run_id, set(KEYS))

    @precondition(lambda self: not self._any_unsent())
    @rule(worker=st.integers(0, 1), run_id=st.sampled_from(RUNS), keys=st.sets(st.sampled_from(KEYS), min_size=1))
    def intend(self, worker: int, run_id: str, keys: set[str]) -> None:
        asked = sorted(keys)
        served = {key for key, place in self.here.states(*asked).items() if place[0] in SETTLED_STATES}
        under_way = {call.intent.order_key for call in self.calls if call.leased and not call.settled}
        grant = self.workers[worker].grant(self.run_attempt(run_id), asked, slots=CONCURRENCY)
        intended = [intent.order_key for intent in grant.intents]
        assert len(set(intended)) == len(intended)
        assert not set(intended) & (served | under_way)
        assert len(under_way | set(intended)) <= CONCURRENCY
        assert {refusal.order_key for refusal in grant.refusals} == keys - set(intended)
        for refusal in grant.refusals:
            assert refusal.step is not Step.NO_SUCH_ORDER
        self.calls += [Call(intent, worker) for intent in grant.intents]
        if grant.unread:
            self._settle_kept(worker, grant.unread)

    @rule(
        worker=st.integers(0, 1),
        run_id=st.sampled_from(RUNS),
        answers=st.lists(st.sampled_from(("link", "link", "again", "lost", "held back")), min_size=3, max_size=3),
    )
    def serve(self, worker: int, run_id: str, answers: list[str]) -> None:
        """What mostly happens: intents, requests and answers in one go; an answer may be held back, and come late."""
        before = len(self.calls)
        self.intend(worker, run_id, set(KEYS))
        if len(self.calls) == before:
            self.clear(run_id, opened=True)
            self.intend(worker, run_id, set(KEYS))
        for call, answer in zip(self.calls[before:], answers, strict=False):
            link = self.nmp.reserve(call.intent.tag, gives=True, again=answer == "again")
            call.raw = LOST["timeout"] if answer == "lost" else RawAnswer(200, (link or "").encode())
            if answer != "held back":
                self._finish(call)

    def _finish(self, call: Call) -> None:
        assert call.raw is not None
        raws = {call.intent.attempt_id: call.raw}
        self.workers[call.worker].keep_answers(raws)
        self._settle(call.worker, raws)
        call.settled = True

    def _some(self, pick: int, *, sent: bool) -> Call:
        fitting = [call for call in self.calls if (call.raw is not None and not call.settled if sent else call.unsent)]
        return fitting[pick % len(fitting)]

    def _any_unsent(self) -> bool:
        return any(call.unsent for call in self.calls)

    def _any_unsettled(self) -> bool:
        return any(not call.settled and not call.dead for call in self.calls)

    def _any_answered(self) -> bool:
        return any(call.answered for call in self.calls)

    @precondition(_any_unsent)
    @rule(pick=picks, again=st.booleans())
    def give_a_link(self, pick: int, again: bool) -> None:
        call = self._some(pick, sent=False)
        link = self.nmp.reserve(call.intent.tag, gives=True, again=again)
        call.raw = RawAnswer(200, (link or "").encode())

    @precondition(_any_unsent)
    @rule(pick=picks, answer=st.sampled_from(sorted(LOST)))
    def lose_a_link(self, pick: int, answer: str) -> None:
        call = self._some(pick, sent=False)
        self.nmp.reserve(call.intent.tag, gives=True)
        call.raw = LOST[answer]

    @precondition(_any_unsent)
    @rule(pick=picks, answer=st.sampled_from(sorted(NOTHING)))
    def give_nothing(self, pick: int, answer: str) -> None:
        call = self._some(pick, sent=False)
        self.nmp.reserve(call.intent.tag, gives=False)
        call.raw = NOTHING[answer]

    @precondition(_any_unsent)
    @rule(pick=picks, stop=st.sampled_from(("refused", "redirect", "", "", "")))
    def never_leave_or_stop(self, pick: int, stop: str) -> None:
        call = self._some(pick, sent=False)
        call.raw = STOPS[stop] if stop else RawAnswer(None, b"", failure=CallFailure.NOT_SENT)
        if stop:
            self.nmp.reserve(call.intent.tag, gives=stop == "redirect")

    @precondition(_any_answered)
    @rule(pick=picks)
    def keep(self, pick: int) -> None:
        call = self._some(pick, sent=True)
        assert call.raw is not None
        self.workers[call.worker].keep_answers({call.intent.attempt_id: call.raw})
        call.kept = True

    @precondition(_any_answered)
    @rule(pick=picks)
    def settle(self, pick: int) -> None:
        self._finish(self._some(pick, sent=True))

    @precondition(_any_answered)
    @rule()
    def settle_all(self) -> None:
        ready = [call for call in self.calls if call.answered]
        raws = {call.intent.attempt_id: call.raw for call in ready if call.raw is not None}
        self.workers[0].keep_answers(raws)
        self._settle(0, raws)
        for call in ready:
            call.settled = True

    @precondition(lambda self: any(call.settled and call.raw for call in self.calls))
    @rule(pick=picks)
    def settle_once_more(self, pick: int) -> None:
        settled = [call for call in self.calls if call.settled and call.raw]
        self._finish(settled[pick % len(settled)])

    def _settle(self, worker: int, raws: dict[int, RawAnswer]) -> None:
        self.workers[worker].settle({key: read_answer(raw, self.rules) for key, raw in raws.items()})

    def _settle_kept(self, worker: int, attempt_ids: list[int]) -> None:
        """Another process reads what one committed and may have died over."""
        self._settle(worker, self.workers[worker].kept_answers(attempt_ids))
        for call in self.calls:
            if call.intent.attempt_id in attempt_ids:
                call.settled = True

    def read_what_is_left(self, worker: int) -> None:
        self._settle_kept(worker, self.workers[worker].unread_answers())

    @rule(hosts=st.sampled_from(((), (), ("links.brand.example",))))
    def change_the_connection(self, hosts: tuple[str, ...]) -> None:
        """Its rules accept every link, or none of those that come."""
        self.rules = LinkRules(link_hosts=hosts)

    # --- trouble ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: any(call.leased and not call.settled for call in self.calls))
    @rule(keys=st.sets(st.sampled_from(KEYS)))
    def end_leases(self, keys: set[str]) -> None:
        self.here.end_leases(*keys)
        for call in self.calls:
            if not keys or call.intent.order_key in keys:
                call.leased = False

    @rule(
        key=st.sampled_from(KEYS),
        run_id=st.sampled_from(RUNS),
        meanwhile=st.sampled_from(("served", "lost", "under way")),
        late=st.sampled_from(("link", "link", "again", "throttled", "empty", "rubbish", "timeout")),
    )
    def come_late(self, key: str, run_id: str, meanwhile: str, late: str) -> None:
        """A lease ends while its answer is on the way, another worker calls for the order, then the answer comes."""
        slow = self._begin(0, run_id, key)
        if slow is None:
            self.clear(run_id, opened=True)  # its stop, its rests and its budgets may have stood against it
            slow = self._begin(0, run_id, key)
        if slow is None:
            return
        link = self.nmp.reserve(slow.intent.tag, gives=late not in NOTHING, again=late == "again")
        slow.raw = {**NOTHING, **LOST}.get(late, RawAnswer(200, (link or "").encode()))
        self.end_leases({key})
        other = self._begin(1, run_id, key)
        if other is not None:
            link = self.nmp.reserve(other.intent.tag, gives=True)
            other.raw = LOST["timeout"] if meanwhile == "lost" else RawAnswer(200, (link or "").encode())
            if meanwhile != "under way":
                self._finish(other)
        self._finish(slow)
        self.intend(0, run_id, {key})  # whatever came late, nobody is called for beside a lease

    def _begin(self, worker: int, run_id: str, key: str) -> Call | None:
        before = len(self.calls)
        self.intend(worker, run_id, {key})
        return self.calls[before] if len(self.calls) > before else None

    @precondition(_any_unsettled)
    @rule(worker=st.integers(0, 1))
    def crash(self, worker: int) -> None:
        """A process dies: what it had not kept is gone; its leases run on."""
        self.workers[worker].close()
        self.born += 1
        self.workers[worker] = self.here.worker(f"worker {self.born}")
        for call in self.calls:
            call.dead = call.dead or call.worker == worker

    def lose_the_connection(self, worker: int) -> None:
        """The worker comes back and gives back what it does not know of; it knows of all that it has not settled."""
        known = [call.intent.attempt_id for call in self.calls if call.worker == worker and not call.settled]
        self.workers[worker].close()
        assert self.workers[worker].disown(known) == 0

    @rule(worker=st.integers(0, 1), keys=st.sets(st.sampled_from(KEYS), min_size=3), kind=st.sampled_from("abc"))
    def begin_again(self, worker: int, keys: set[str], kind: str) -> None:
        """What happens seldom: an extraction runs again, a connection breaks, a new engine looks around."""
        if kind == "a":
            self.extract(keys)
        elif kind == "b":
            self.lose_the_connection(worker)
        else:
            self.read_what_is_left(worker)

    # --- the rest of the world ----------------------------------------------------------------------------------------

    @precondition(lambda self: any(self.nmp.live.values()))
    @rule(tag=st.sampled_from(("gift", "gift", "watch")), requeues=st.sampled_from((True, True, False)))
    def reset(self, tag: str, requeues: bool) -> None:
        self.end_leases(set())
        self.nmp.reset(tag)
        self.here.reset(tag, to="pending" if requeues else "reset")

    @precondition(lambda self: any(self.nmp.live.values()))
    @rule(pick=picks)
    def claim(self, pick: int) -> None:
        """A customer claims by a link that an order has or had: a reset does not end it."""
        given = self.here.rows.execute(
            """
            select distinct tag, certificate_id from passport_ops.passport
            where order_key is not null and (state = 'assigned' or end_reason = 'reset') order by certificate_id
            """
        ).fetchall()
        claimable = [(tag, certificate) for tag, certificate in given if self.nmp.can_claim(tag, certificate)]
        if claimable:
            self.nmp.claim(*claimable[pick % len(claimable)])

    @rule(tag=st.sampled_from(("gift", "gift", "watch")))
    def list_claims(self, tag: str) -> None:
        """The NMP is asked who claimed; what it says may be written much later."""
        self.listed = (tag, sorted(self.nmp.claimed[tag]), self.here.one("select clock_timestamp()"))

    @precondition(lambda self: self.listed is not None)
    @rule()
    def write_claims(self) -> None:
        assert self.listed is not None
        tag, certificates, seen_at = self.listed
        apply_claims(self.here.rows, tag, certificates, seen_at=seen_at, run_id="sync")

    @precondition(lambda self: self._wants_a_person())
    @rule(key=st.sampled_from(KEYS), action=st.sampled_from((Action.RELEASE, Action.CLOSE)))
    def decide(self, key: str, action: Action) -> None:
        decidable = self.here.state(key) in DECIDED_FROM[action]
        resolved = resolve(self.here.rows, [key], action, "a test says so")
        assert [each.again for each in resolved.decided] == [False] or not decidable

    def _wants_a_person(self) -> bool:
        return bool(self.here.one("select count(*) from passport_ops.reservation where state in ('held', 'unknown')"))

    # --- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def every_promise_holds(self) -> None:
        report = examine(self.here.rows, self.nmp.history)
        assert report.violations == (), "\n".join(map(str, report.violations))
        assert report.received <= report.given_out <= report.received + report.possible

    @invariant()
    def new_links_are_the_calls_that_may_have_consumed_a_passport(self) -> None:
        counted, called = self.here.rows.execute(
            """
            select
                (select coalesce(sum(links), 0) from passport_ops.new_links),
                count(*) filter (where outcome is null or outcome <> all(%s))
            from passport_ops.attempt
            """,
            [[outcome for outcome, meaning in MEANINGS.items() if meaning.consumed is Consumed.NO]],
        ).fetchall()[0]
        assert counted == called

    @invariant()
    def a_settled_call_leaves_no_answer_but_those_for_a_person(self) -> None:
        left = self.here.one(
            """
            select count(*) from passport_ops.answer join passport_ops.attempt using (attempt_id)
            where outcome not in ('unknown', 'unreadable')
            """
        )
        assert left == 0


SETTLED_STATES = (
    ReservationState.RESERVED,
    ReservationState.CLAIMED,
    ReservationState.RESET,
    ReservationState.HELD,
    ReservationState.CANCELLED,
    ReservationState.CLOSED,
)


@pytest.mark.timeout(3600)  # the nightly profile takes some minutes
def test_no_order_of_events_breaks_a_promise(emptied_warehouse: str) -> None:
    examples, steps = STEPS[os.environ.get("HYPOTHESIS_PROFILE", "default")]
    run_state_machine_as_test(
        lambda: LedgerMachine(emptied_warehouse),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_outcomes_of_the_machine_cover_the_table() -> None:
    """What the machine's answers can come to; DUPLICATE, SPARE and ENDED are the ledger's own findings."""
    read = {read_answer(raw, LinkRules()).outcome for raw in (*NOTHING.values(), *LOST.values(), *STOPS.values())}
    assert read == {
        AttemptOutcome.THROTTLED,
        AttemptOutcome.OUT_OF_STOCK,
        AttemptOutcome.REFUSED,
        AttemptOutcome.UNKNOWN,
        AttemptOutcome.REDIRECTED,
        AttemptOutcome.UNREADABLE,
    }
