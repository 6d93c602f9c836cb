"""The reserving engine: takes order keys and gives outcomes. One engine to a process (``docs/architecture.md``).

Caller threads call the NMP; one writer thread alone uses the ledger and commits intents and answers in groups. While
the ledger cannot be written the writer holds every answer and tries again, until ten minutes after its engine closed.
"""

import contextlib
import heapq
import itertools
import logging
import os
import queue
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from include.ledger.calls import CallLedger
from include.ledger.going_back import Memory, WentBackError
from include.ledger.granting import Caller, Grant, Refusal
from include.ledger.intents import Intent
from include.ledger.run_starts import RunStart
from include.ledger.session import LedgerError
from include.ledger.settling import Settled
from include.ledger.states import ReservationState
from include.ledger.transitions import Step
from include.nmp.answers import CallFailure, LinkRules, RawAnswer, read_answer
from include.outcomes import MEANINGS, AttemptOutcome
from include.warehouse.database import Connect, SafeDatabaseError
from include.warehouse.transactions import TAKEN_BACK

log = logging.getLogger(__name__)

ASK_AGAIN_SECONDS = 0.05  # when another process's call or transaction must end first
UNREACHABLE_SECONDS = 20.0  # of calls that never leave, until a run's orders are given back to be tried again later
THROTTLED_SECONDS = 900.0  # of nothing but throttled calls, likewise
LONGEST_BACKOFF_SECONDS = 4.0
TURN_SECONDS = 0.25  # a call that is later than its slot by more is not sent: calls that froze must not leave together
GROUP_SECONDS = 0.005  # how long the writer lets answers gather while others are under way
LONGEST_SLEEP_SECONDS = 60.0
HOLD_SECONDS = 600.0  # how long an engine that is closed goes on trying to write the answers it holds
LAST_TRY_SECONDS = 13.0  # for the try that is under way when that is over; then nobody waits for the writer any more


class OrderResult(StrEnum):
    """How an order ended for a run."""

    SERVED = "served"  # it has its link, or had one that was claimed or reset
    OUT_OF_STOCK = "out_of_stock"  # its tag is empty or being reset; tried again by the next scheduled run or a clear
    NOT_WANTED = "not_wanted"  # cancelled, or closed by a person
    ATTENTION = "attention"  # held, its budget used up, or its answer helped to stop the run
    STOPPED = "stopped"  # not asked for, because the run stopped calling
    LIMITED = "limited"  # not asked for, because the run or the day has its new links
    FAILED = "failed"  # may work when tried again


@dataclass(frozen=True)
class Outcome:
    """One order key after a request: the result, its state in the ledger, and why, in words without any link."""

    order_key: str
    result: OrderResult
    state: ReservationState
    reason: str | None = None

    @property
    def sentence(self) -> str:
        """One line for a log."""
        return f"order {self.order_key}: {self.state}" + (f" ({self.reason})" if self.reason else "")


class ReserveClient(Protocol):
    """What the engine needs of ``include.nmp.client.NmpClient``."""

    def reserve(self, tag: str, *, deadline: float) -> RawAnswer:
        """One call; ``deadline`` is on ``time.monotonic``. Never raises for a failure on the way."""

    def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True)
class EngineSettings:
    """How an engine works; seconds throughout. See ``include.settings`` for what each means."""

    concurrency: int = 32
    call_deadline_seconds: float = 30.0
    lease_seconds: float = 60.0
    calls_per_second: float | None = None
    max_new_links_per_day: int | None = None
    timezone: str = "UTC"


@dataclass
class _Waiting:
    """An order that waits for its call."""

    order_key: str
    run: RunStart
    future: "Future[Outcome]"
    was_refused: bool = False  # the NMP refused a call for it


@dataclass
class _Call:
    """A call under way, or an answer that is not settled yet."""

    intent: Intent
    waiting: _Waiting
    begins_at: float
    deadline: float
    answer: RawAnswer | None = None
    missed_turn: bool = False
    kept: bool = False


@dataclass
class _Pace:
    """How many calls this engine lets run at once: halves when asked to slow down, then recovers."""

    most: int
    now: float = field(init=False)
    not_before: float = 0.0
    halved_at: float = 0.0

    def __post_init__(self) -> None:
        self.now = float(self.most)

    def slow_down(self, pause: float) -> None:
        moment = time.monotonic()
        if moment - self.halved_at > 1.0:  # one burst of refusals is one reason to slow down
            self.now, self.halved_at = max(1.0, self.now / 2), moment
        self.not_before = max(self.not_before, moment + pause)

    def recover(self) -> None:
        self.now = min(float(self.most), self.now + 1.0 / self.now)

    def free(self, under_way: int) -> int:
        return int(self.now) - under_way if time.monotonic() >= self.not_before else 0


@dataclass
class _RunQueue:
    """A start of a run in this engine: its orders that wait for a call, and what goes wrong for it as a whole."""

    ready: deque[_Waiting] = field(default_factory=deque)
    not_before: float = 0.0
    never_left: int = 0
    never_left_since: float = 0.0
    throttled_since: float | None = None


class ReservingEngine:
    """Serves orders of any number of runs at once, from any number of threads.

    ``connect`` opens the warehouse, ``client`` the NMP client (closed with the engine), ``rules`` the
    links it may give, ``memory`` what is known of the ledger from before. The engine makes its own ledger connection
    and threads; ``close`` ends them.
    """

    def __init__(
        self,
        connect: Connect,
        client: ReserveClient,
        rules: LinkRules,
        settings: EngineSettings,
        memory: Memory | None = None,
    ) -> None:
        self._client = client
        self._rules = rules
        self._settings = settings
        self.caller = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        caller = Caller(
            self.caller,
            lease_seconds=settings.lease_seconds,
            concurrency=settings.concurrency,
            calls_per_second=settings.calls_per_second,
            max_new_links_per_day=settings.max_new_links_per_day,
            timezone=settings.timezone,
        )
        self._ledger = CallLedger(connect, caller, memory)
        self._events: queue.SimpleQueue[_Waiting | _Call | None] = queue.SimpleQueue()
        self._run_queues: dict[RunStart, _RunQueue] = {}
        self._later: list[tuple[float, int, _Waiting]] = []
        self._turns = itertools.count()
        self._calls: dict[int, _Call] = {}
        self._pace = _Pace(settings.concurrency)
        self._ledger_lost = False
        self._unread_answers_due: float | None = None
        self._closing = threading.Event()
        self._hold_until = float("inf")
        self._entry_lock = threading.Lock()  # nothing comes in once the engine is closing
        self._callers = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="nmp-call")
        self._writer = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
        self._writer.start()

    def submit(self, run: RunStart, order_keys: Sequence[str]) -> "list[Future[Outcome]]":
        """Ask for a link for each order; give a future for each key, in the same order.

        A future that is cancelled takes its order back; a call under way is settled all the same. Raises
        ``RuntimeError`` once the engine is closed.
        """
        wanted = [_Waiting(key, run, Future()) for key in order_keys]
        with self._entry_lock:
            if self._closing.is_set():
                message = "the reserving engine is closed"
                raise RuntimeError(message)
            for waiting in wanted:
                self._events.put(waiting)
        return [waiting.future for waiting in wanted]

    def reserve_all(
        self,
        run: RunStart,
        order_keys: Sequence[str],
        *,
        progress: "Callable[[int, int], None] | None" = None,
        every_seconds: float = 5.0,
    ) -> list[Outcome]:
        """Serve all these orders and give their outcomes, in the same order.

        ``progress(done, of)`` is called every ``every_seconds`` while it works.
        """
        futures = self.submit(run, order_keys)
        try:
            while left := wait(futures, timeout=every_seconds).not_done:
                if progress:
                    progress(len(futures) - len(left), len(futures))
        finally:
            for future in futures:
                future.cancel()
        return [future.result() for future in futures]

    def close(self, hold_seconds: float = HOLD_SECONDS) -> None:
        """Begin no further call, settle the ones under way and end; this takes a call's deadline at the longest.

        While the ledger cannot be written the engine tries again, for ``hold_seconds`` from now, so that no answer is
        lost. Then it gives up: the log names the orders, and their calls become unknown. Whatever the database or the
        network does, this ends at most ``LAST_TRY_SECONDS`` after the deadline and the hold.
        """
        with self._entry_lock:
            self._hold_until = time.monotonic() + hold_seconds
            self._closing.set()
        self._events.put(None)
        self._writer.join(self._settings.call_deadline_seconds + hold_seconds + LAST_TRY_SECONDS)
        if is_stuck := self._writer.is_alive():  # a thread of its own that ends with its process, at the latest
            self._give_back_all("the engine is closing")
            self._give_up_answers()
        self._callers.shutdown(wait=not is_stuck)
        self._client.close()

    # --- the writer: the only thread that uses the ledger -------------------------------------------------------

    def _work(self) -> None:
        failures = 0
        while not (self._closing.is_set() and (not self._calls or (failures and self._is_hold_over()))):
            self._take_events(min(0.05 * 2**failures, 2.0) if failures else self._seconds_to_sleep())
            if self._closing.is_set():
                self._give_back_all("the engine is closing")
            try:
                self._recover()
                self._settle_answers()
                self._grant_calls()
                failures = 0
            except SafeDatabaseError as error:
                failures = min(failures + 1, 10)
                self._drop_connection(error, first=failures == 1)
            except Exception as error:  # the writer must not die: it holds answers
                failures = min(failures + 1, 10)
                # the name only: the text of an unforeseen error may hold anything
                log.error("the ledger's writer failed: %s", type(error).__name__)  # noqa: TRY400
                self._give_back_all(f"the ledger's writer failed: {type(error).__name__}")
        self._take_events(0)  # what came after the last look
        self._give_back_all("the engine is closing")
        self._give_up_answers()
        self._ledger.close()

    def _is_hold_over(self) -> bool:
        answered = all(call.answer is not None for call in self._calls.values())
        return answered and time.monotonic() >= self._hold_until

    def _give_up_answers(self) -> None:
        """Name the orders whose answers are lost with this process; the next one reads what was kept."""
        calls = list(self._calls.values())
        lost = sorted(call.intent.order_key for call in calls if not call.kept)
        if lost:
            log.error("the ledger could not be written: the answers for these orders are lost: %s", ", ".join(lost))
        for call in calls:
            reason = "its answer could not be written to the ledger"
            outcome = Outcome(call.intent.order_key, OrderResult.FAILED, ReservationState.CALLING, reason)
            self._resolve(call.waiting, outcome)

    def _drop_connection(self, error: SafeDatabaseError, *, first: bool) -> None:
        """Retry after a transient error; fail the orders that wait after any other. Answers are held in both cases."""
        if error.sqlstate not in TAKEN_BACK:
            self._ledger_lost = True
            self._ledger.close()
        if first:
            log.warning("the ledger cannot be written; trying again: %s", error)
        if not error.transient:
            self._give_back_all(f"the ledger refuses: {error}")

    def _seconds_to_sleep(self) -> float:
        """Give the seconds to sleep when nothing happens: until the first order may be asked for."""
        moments = [self._later[0][0]] if self._later else []
        ready = [run_queue.not_before for run_queue in self._run_queues.values() if run_queue.ready]
        if ready and int(self._pace.now) > len(self._calls):  # else an answer will wake the writer
            moments.append(max(min(ready), self._pace.not_before))
        soonest = min(moments, default=float("inf")) - time.monotonic()
        return max(0.0, min(soonest, LONGEST_SLEEP_SECONDS))

    def _take_events(self, timeout: float) -> None:
        """Take all that has come; let answers gather for a moment, so that they share a commit."""
        try:
            event = self._events.get(timeout=timeout) if timeout > 0 else self._events.get_nowait()
        except queue.Empty:
            return
        self._take(event)
        if isinstance(event, _Call) and len(self._calls) > 1:
            time.sleep(GROUP_SECONDS)
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(self._events.get_nowait())

    def _take(self, event: "_Waiting | _Call | None") -> None:
        if isinstance(event, _Waiting):
            self._run_queue(event.run).ready.append(event)
        elif isinstance(event, _Call):
            for run_queue in self._run_queues.values():
                run_queue.not_before = 0.0  # what they waited for may be over

    def _run_queue(self, run: RunStart) -> _RunQueue:
        return self._run_queues.setdefault(run, _RunQueue())

    def _recover(self) -> None:
        """Free intents that nobody knows of after a lost connection; settle what dead processes left unread.

        The second at first, and then once a lease while there is work.
        """
        if self._ledger_lost:
            try:
                freed = self._ledger.disown(list(self._calls))
            except WentBackError as error:  # what looks as if it had never been sent may have been
                log.error("%s", error)  # noqa: TRY400 - it says all that matters
                self._give_back_all(str(error))
            else:
                log.info(
                    "the ledger can be written again; %d intents that were committed and never sent are freed",
                    freed,
                )
            self._ledger_lost = False
        due = self._unread_answers_due
        if due is None or (self._run_queues and time.monotonic() >= due):
            self._settle_unread(self._ledger.unread_answers())
            self._unread_answers_due = time.monotonic() + self._settings.lease_seconds

    def _settle_unread(self, attempt_ids: Sequence[int]) -> None:
        """Settle answers that a process committed and did not read before it died, and links that were withheld."""
        if attempt_ids:
            kept = self._ledger.kept_answers(attempt_ids)
            self._ledger.settle({key: read_answer(raw, self._rules) for key, raw in kept.items()})
            log.info("%d answers that were withheld, or that a dead process left unread, were settled", len(kept))

    # --- answers ------------------------------------------------------------------------------------------------

    def _settle_answers(self) -> None:
        answers = {key: call.answer for key, call in self._calls.items() if call.answer is not None}
        if not answers:
            return
        unkept = {key: answer for key, answer in answers.items() if not self._calls[key].kept}
        if unkept:
            self._ledger.keep_answers(unkept)
            for key in unkept:
                self._calls[key].kept = True
        readings = {key: read_answer(answer, self._rules) for key, answer in answers.items()}
        settled = {done.attempt_id: done for done in self._ledger.settle(readings)}
        for key, reading in readings.items():
            call = self._calls.pop(key)
            meaning = MEANINGS[reading.outcome]
            if meaning.usable:
                self._pace.recover()
            elif meaning.slows_pace:
                # a Retry-After is in the ledger, which gives no process an intent before its end
                self._pace.slow_down(1.0 if reading.retry_after is None else 0.0)
            self._conclude(call, settled.get(key), reading.outcome)

    def _conclude(self, call: _Call, done: Settled | None, outcome: AttemptOutcome) -> None:
        """Tell the order's future the outcome of its call, or let the order ask again."""
        waiting = call.waiting
        run_queue = self._run_queue(waiting.run)
        if not call.missed_turn:
            self._note_refusals(run_queue, outcome)
        if done is not None and not done.late and done.state in _CONCLUDED:
            self._resolve(waiting, Outcome(waiting.order_key, _RESULTS[done.state], done.state, done.reason))
            return
        waiting.was_refused = waiting.was_refused or MEANINGS[outcome].is_refusal
        run_queue.ready.append(waiting)
        moment = time.monotonic()
        if run_queue.never_left and moment - run_queue.never_left_since > UNREACHABLE_SECONDS:
            run_queue.never_left = 0
            self._give_back(run_queue, "the NMP cannot be reached: check the connection nmp and the network")
        elif run_queue.throttled_since is not None and moment - run_queue.throttled_since > THROTTLED_SECONDS:
            run_queue.throttled_since = None
            self._give_back(run_queue, "the NMP asks to slow down and serves nothing: try again later")

    def _note_refusals(self, run_queue: _RunQueue, outcome: AttemptOutcome) -> None:
        moment = time.monotonic()
        if outcome is AttemptOutcome.NOT_SENT:
            if not run_queue.never_left:
                run_queue.never_left_since = moment
            run_queue.never_left += 1
            self._pace.slow_down(min(0.1 * 2.0 ** min(run_queue.never_left, 8), LONGEST_BACKOFF_SECONDS))
            return
        run_queue.never_left = 0
        if outcome is not AttemptOutcome.THROTTLED:
            run_queue.throttled_since = None
        elif run_queue.throttled_since is None:
            run_queue.throttled_since = moment

    # --- intents ------------------------------------------------------------------------------------------------

    def _grant_calls(self) -> None:
        """Ask the ledger for intents until enough calls are under way or no order is left that may be asked for."""
        if self._closing.is_set():
            return
        moment = time.monotonic()
        while self._later and self._later[0][0] <= moment:
            waiting = heapq.heappop(self._later)[2]
            self._run_queue(waiting.run).ready.append(waiting)
        for run in list(self._run_queues):
            while (slots := self._pace.free(len(self._calls))) > 0 and self._grant(run, slots):
                pass
            if not self._run_queues[run].ready and not self._is_calling(run):
                del self._run_queues[run]

    def _is_calling(self, run: RunStart) -> bool:
        return any(call.waiting.run == run for call in self._calls.values())

    def _grant(self, run: RunStart, slots: int) -> bool:
        """Ask for one grant for a run; give False where the run must wait for something to happen."""
        run_queue = self._run_queues[run]
        if time.monotonic() < run_queue.not_before:
            return False
        asked: dict[str, _Waiting] = {}
        while run_queue.ready and len(asked) < slots:
            waiting = run_queue.ready.popleft()
            if waiting.order_key in asked:
                run_queue.ready.appendleft(
                    waiting
                )  # the same order twice: the second asks when the first has its answer
                break
            if not waiting.future.cancelled():
                asked[waiting.order_key] = waiting
        if not asked:
            return False
        began = time.monotonic()
        try:
            grant = self._ledger.grant(run, list(asked), slots=slots)
        except LedgerError as error:
            run_queue.ready.extend(asked.values())
            self._give_back(run_queue, str(error))
            return False
        except BaseException:
            run_queue.ready.extendleft(reversed(asked.values()))
            raise
        return self._carry_out(run_queue, grant, asked, began)

    def _carry_out(self, run_queue: _RunQueue, grant: Grant, asked: dict[str, _Waiting], began: float) -> bool:
        for intent in grant.intents:
            begins_at = began + intent.wait
            deadline = begins_at + self._settings.call_deadline_seconds
            call = _Call(intent, asked[intent.order_key], begins_at, deadline)
            self._calls[intent.attempt_id] = call
            self._callers.submit(self._call, call)
        held_up = [refusal for refusal in grant.refusals if not self._refuse(asked[refusal.order_key], refusal)]
        run_queue.ready.extendleft(asked[refusal.order_key] for refusal in reversed(held_up))
        self._settle_unread(grant.unread)
        if pause := max((refusal.wait for refusal in grant.refusals if refusal.step is Step.WAIT), default=0.0):
            self._pace.not_before = max(self._pace.not_before, time.monotonic() + pause)
            return False
        if held_up and not grant.unread:
            # own calls under way wake the writer when they end; those of other processes do not
            run_queue.not_before = time.monotonic() + (1.0 if self._calls else ASK_AGAIN_SECONDS)
            return False
        return True

    def _refuse(self, waiting: _Waiting, refusal: Refusal) -> bool:
        """End an order that gets no call, or let it wait for a lease; give False where it must ask again."""
        if refusal.step is Step.WAIT:
            return False
        if refusal.step is Step.LEASED:
            moment = time.monotonic() + refusal.wait + ASK_AGAIN_SECONDS
            heapq.heappush(self._later, (moment, next(self._turns), waiting))
            log.info("order %s: waits %.1f s for a lease to end", refusal.order_key, refusal.wait)
            return True
        result = _RESULTS[refusal.state] if refusal.step is Step.DONE else _REFUSALS[refusal.step]
        if result is OrderResult.STOPPED and (waiting.was_refused or refusal.state is ReservationState.UNKNOWN):
            result = OrderResult.ATTENTION  # it was asked for before the stop
        self._resolve(waiting, Outcome(waiting.order_key, result, refusal.state, refusal.reason))
        return True

    def _call(self, call: _Call) -> None:
        """Make one call, in a caller thread. Whatever goes wrong in here, the call may have been made."""
        try:
            call.answer = self._reserve_in_turn(call)
        except BaseException as error:  # the writer waits for an answer in every case
            call.answer = RawAnswer(None, b"", failure=CallFailure.BROKEN, error=type(error).__name__)
        self._events.put(call)

    def _reserve_in_turn(self, call: _Call) -> RawAnswer:
        """Wait for the call's slot, then make the call; it is not sent once the engine closes or its slot is over."""
        if self._settings.calls_per_second is not None:
            closing = self._closing.wait(call.begins_at - time.monotonic())
            call.missed_turn = closing or time.monotonic() > call.begins_at + TURN_SECONDS
            if call.missed_turn:
                return RawAnswer(None, b"", failure=CallFailure.NOT_SENT, error="TurnMissed")
        return self._client.reserve(call.intent.tag, deadline=call.deadline)

    # --- outcomes -----------------------------------------------------------------------------------------------

    def _resolve(self, waiting: _Waiting, outcome: Outcome) -> None:
        with contextlib.suppress(InvalidStateError):  # cancelled in the meantime
            waiting.future.set_result(outcome)

    def _give_back(self, run_queue: _RunQueue, reason: str) -> None:
        """Fail the orders of a run that wait, so that their tasks can be tried again."""
        for waiting in _drain(run_queue.ready):
            self._resolve(waiting, Outcome(waiting.order_key, OrderResult.FAILED, ReservationState.PENDING, reason))

    def _give_back_all(self, reason: str) -> None:
        for _, _, waiting in self._later:
            self._run_queue(waiting.run).ready.append(waiting)
        self._later.clear()
        for run_queue in list(self._run_queues.values()):
            self._give_back(run_queue, reason)


def _drain(ready: deque[_Waiting]) -> Iterator[_Waiting]:
    while ready:
        yield ready.popleft()


_RESULTS = {
    ReservationState.RESERVED: OrderResult.SERVED,
    ReservationState.CLAIMED: OrderResult.SERVED,
    ReservationState.RESET: OrderResult.SERVED,
    ReservationState.OUT_OF_STOCK: OrderResult.OUT_OF_STOCK,
    ReservationState.CANCELLED: OrderResult.NOT_WANTED,
    ReservationState.CLOSED: OrderResult.NOT_WANTED,
    ReservationState.HELD: OrderResult.ATTENTION,
    ReservationState.UNKNOWN: OrderResult.ATTENTION,
}
_CONCLUDED = frozenset(_RESULTS) - {ReservationState.UNKNOWN}  # an unknown order may ask again, within its budget
_REFUSALS = {
    Step.TAG_EMPTY: OrderResult.OUT_OF_STOCK,
    Step.RESETTING: OrderResult.OUT_OF_STOCK,
    Step.STOPPED: OrderResult.STOPPED,
    Step.LIMIT: OrderResult.LIMITED,
    Step.EXHAUSTED: OrderResult.ATTENTION,
    Step.NO_SUCH_ORDER: OrderResult.FAILED,
}
