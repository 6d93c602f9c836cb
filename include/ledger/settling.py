"""Settling: what answers mean is written for their calls, orders and passports.

Settling is one transaction. It shares its tags, then locks its orders by key, then stores passports;
``docs/lifecycle.md`` says why. What an answer means is in ``include/outcomes.py``, what follows in ``transitions.py``.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from include.ledger.intents import Intent, keep_lost_links, lost_intents
from include.ledger.limits import give_back
from include.ledger.moves import Move, assign_spares, write_moves
from include.ledger.pace import pause_calls
from include.ledger.raw_answers import erase_answers
from include.ledger.run_starts import RunStart, count_outcomes, lock_grants
from include.ledger.session import LedgerError
from include.ledger.states import PassportState, ReservationState, TagState
from include.ledger.transitions import Answered, Holder, LinkSettled, settle_link, state_after, withhold_link
from include.nmp.answers import Reading, is_http_status
from include.outcomes import MEANINGS, AttemptOutcome, Consumed
from include.sql_files import sql_of
from include.warehouse.database import Connection, read_rows

sql = sql_of(__package__)

WHY_NO_LINK = {
    AttemptOutcome.DUPLICATE: "the NMP gave a certificate that is another order's",
    AttemptOutcome.ENDED: "the answer was of before a reset of its tag",
}


@dataclass(frozen=True)
class Settled:
    """An order after its call was settled; ``late`` where the call no longer moved it."""

    attempt_id: int
    order_key: str
    outcome: AttemptOutcome
    state: ReservationState
    reason: str | None
    late: bool


@dataclass(frozen=True)
class _Call:
    attempt_id: int
    order_key: str
    tag: str
    epoch: int
    fence: int
    run_id: str
    run_started_at: datetime
    clock_day: date | None
    outcome: str | None
    is_withheld: bool  # its passport is

    @property
    def run(self) -> RunStart:
        return RunStart(self.run_id, self.run_started_at)

    def is_news(self, reading: Reading) -> bool:
        """Whether an answer says more than the ledger knows: of a lapsed call, that it is unknown is no news.

        A wrong link is read again when its order was released, and it is news that it was.
        """
        if self.outcome == AttemptOutcome.UNKNOWN:
            return reading.outcome is not AttemptOutcome.UNKNOWN
        if self.outcome == AttemptOutcome.WRONG_LINK:
            return reading.link is not None
        return self.outcome is None


@dataclass
class _Order:
    """The order of one or more answered calls, locked."""

    order_key: str
    state: ReservationState
    reason: str | None
    fence: int
    passport_id: int | None
    holds_on_unknown: bool

    def __post_init__(self) -> None:
        self.state = ReservationState(self.state)


@dataclass(frozen=True)
class _Tag:
    tag: str
    state: str
    epoch: int


@dataclass(frozen=True)
class _Stored:
    attempt_id: int
    passport_id: int


@dataclass(frozen=True)
class _NewPassport:
    """A passport that is decided and not yet stored; ``order_key`` is None for a spare."""

    call: _Call
    link: LinkSettled

    @property
    def order_key(self) -> str | None:
        return None if self.link.passport is PassportState.SPARE else self.call.order_key


def settle(
    connection: Connection, readings: Mapping[int, Reading], intents: Mapping[int, Intent] | None = None
) -> list[Settled]:
    """Write what answers mean, by attempt, and erase the raw ones that were read.

    Settling twice is settling once: a call that was settled before is left out of what comes back. The order's next
    state is that of ``transitions.py``, unless the order has moved on. The caller ends the transaction.

    ``intents`` are those of the calls, by attempt, as far as the caller knows them. A call whose intent the ledger lost
    is left out of what comes back; its passport is kept.
    """
    _copy_links(connection, readings)
    if lost := lost_intents(connection, intents or {}):
        keep_lost_links(connection, lost.values())
        readings = {attempt_id: reading for attempt_id, reading in readings.items() if attempt_id not in lost}
    attempts = {"attempt_ids": list(readings)}
    tags = {tag.tag: tag for tag in read_rows(connection, _Tag, sql("share_answered_tags"), attempts)}
    orders = {order.order_key: order for order in read_rows(connection, _Order, sql("lock_answered"), attempts)}
    found = read_rows(connection, _Call, sql("answered_calls"), attempts)
    news = [call for call in found if call.is_news(readings[call.attempt_id])]
    # An answer that was kept again after somebody settled it must not be kept for ever.
    old = [call for call in found if not call.is_news(readings[call.attempt_id])]
    erase_answers(connection, {call.attempt_id: AttemptOutcome(call.outcome or "") for call in old})
    if not news:
        return []
    return _Settlement(connection, readings, news, orders, tags).write()


def refused(reading: Reading, why: str) -> Reading:
    """Give what is settled in place of an answer that the database refuses for good."""
    detail = f"the ledger refuses what the NMP answered ({why}): its raw answer is kept for a person"
    return Reading(AttemptOutcome.UNREADABLE, detail, reading.status if is_http_status(reading.status) else None)


def _copy_links(connection: Connection, readings: Mapping[int, Reading]) -> None:
    with connection.cursor() as cursor, cursor.copy(sql("copy_links")) as copy:
        copy.set_types(["int8", "text", "text"])
        for attempt_id, reading in readings.items():
            if reading.link is not None:
                copy.write_row((attempt_id, reading.certificate_id, reading.link))


class _Settlement:
    """One settling transaction: decides for each answer in turn, then writes all at once."""

    def __init__(
        self,
        connection: Connection,
        readings: Mapping[int, Reading],
        calls: Sequence[_Call],
        orders: Mapping[str, _Order],
        tags: Mapping[str, _Tag],
    ) -> None:
        self._connection = connection
        self._readings = readings
        self._calls = {call.attempt_id: call for call in calls}
        self._orders = orders
        self._tags = tags
        self._moves: dict[str, Move] = {}
        self._settled: dict[int, Settled] = {}
        self._withheld: list[_NewPassport] = []
        self._still_withheld: list[int] = []

    def write(self) -> list[Settled]:
        links = [key for key in self._calls if self._readings[key].outcome is AttemptOutcome.RESERVED]
        released = [attempt_id for attempt_id in links if self._calls[attempt_id].is_withheld]
        for attempt_id in self._calls.keys() - set(links):
            self._settle_without_link(self._calls[attempt_id])
        self._store(self._withheld)
        if self._still_withheld:
            self._connection.execute(sql("keep_withheld"), {"attempt_ids": self._still_withheld})
        for _ in range(len(links) + 5):
            links = self._settle_links([self._calls[attempt_id] for attempt_id in links])
            if not links:
                break
        else:
            message = f"{len(links)} passports could not be stored: their certificates keep changing hands; try again"
            raise LedgerError(message)
        if released:
            self._connection.execute(sql("end_withheld"), {"attempt_ids": released})
        write_moves(self._connection, self._moves.values())
        self._write_attempts()
        self._write_run_starts()
        return list(self._settled.values())

    def _answered(self, call: _Call) -> Answered:
        order, tag = self._orders[call.order_key], self._tags[call.tag]
        return Answered(
            order_key=call.order_key,
            epoch=call.epoch,
            fence=call.fence,
            order_state=order.state,
            order_fence=order.fence,
            order_has_passport=order.passport_id is not None,
            tag_epoch=tag.epoch,
            tag_resetting=tag.state == TagState.RESETTING,
        )

    def _settle_without_link(self, call: _Call) -> None:
        """Settle any answer but a 200 with a link to use: it moves its order only if nobody took that over."""
        reading, order = self._readings[call.attempt_id], self._orders[call.order_key]
        answered = self._answered(call)
        on_time = answered.on_time
        if call.is_withheld:
            self._still_withheld.append(call.attempt_id)
        elif reading.outcome is AttemptOutcome.WRONG_LINK:
            self._withheld.append(_NewPassport(call, withhold_link(answered)))
        if on_time:
            state = state_after(reading.outcome, holds_on_unknown=order.holds_on_unknown)
            self._move(call, state, reading.detail)
        self._done(call, reading.outcome, late=not on_time)

    def _settle_links(self, calls: Sequence[_Call]) -> list[int]:
        """Store the passports of these calls; give back the calls that must be decided again."""
        holders = self._holders(calls)
        taken: set[str] = set()
        again: list[int] = []
        new: list[_NewPassport] = []
        for call in calls:
            certificate = self._readings[call.attempt_id].certificate_id or ""
            if certificate in taken or call.order_key in taken:
                again.append(call.attempt_id)  # another answer of this batch is about to change what this one meets
                continue
            taken |= {certificate, call.order_key}
            link = settle_link(self._answered(call), holders.get(certificate))
            if link.passport is not None:
                new.append(_NewPassport(call, link))
            elif link.promote is None:
                self._apply(call, link, None)
            elif assign_spares(self._connection, {call.order_key: link.promote}):
                self._apply(call, link, link.promote)
            else:
                again.append(call.attempt_id)  # somebody else's grant used the spare first
        stored = self._store(new)
        for passport in new:
            if passport.call.attempt_id in stored:
                self._apply(passport.call, passport.link, stored[passport.call.attempt_id])
            else:
                again.append(passport.call.attempt_id)  # somebody else made the certificate live first
        return again

    def _holders(self, calls: Sequence[_Call]) -> dict[str, Holder]:
        """Give who has the certificates of these calls' links now."""
        certificates = sorted({self._readings[call.attempt_id].certificate_id or "" for call in calls})
        parameters = {"certificate_ids": certificates}
        return dict(read_rows(self._connection, _holder, sql("certificate_holders"), parameters))

    def _store(self, new: Sequence[_NewPassport]) -> dict[int, int]:
        """Store new passports; give the passport of each attempt whose certificate nobody else made live meanwhile."""
        stored: dict[int, int] = {}
        arrived = [passport for passport in new if not passport.call.is_withheld]
        released = [passport for passport in new if passport.call.is_withheld]
        for statement, passports in (("insert_passports", arrived), ("take_withheld", released)):
            if passports:
                parameters = {
                    "attempt_ids": [passport.call.attempt_id for passport in passports],
                    "states": [passport.link.passport for passport in passports],
                    "order_keys": [passport.order_key for passport in passports],
                    "end_reasons": [passport.link.end_reason for passport in passports],
                }
                rows = read_rows(self._connection, _Stored, sql(statement), parameters)
                stored |= {row.attempt_id: row.passport_id for row in rows}
        return stored

    def _apply(self, call: _Call, link: LinkSettled, passport_id: int | None) -> None:
        on_time = self._answered(call).on_time
        if link.order_state is ReservationState.RESERVED:
            self._move(call, ReservationState.RESERVED, None, passport_id)
        elif link.order_state is not None:
            self._move(call, link.order_state, WHY_NO_LINK[link.outcome])
        self._done(call, link.outcome, late=not on_time)

    def _move(self, call: _Call, state: ReservationState, reason: str | None, passport_id: int | None = None) -> None:
        """Let the order of a call move; answers of the same batch that come after it meet it as moved."""
        order = self._orders[call.order_key]
        order.state, order.reason, order.passport_id, order.fence = state, reason, passport_id, order.fence + 1
        # An order is one run's at a time, so the run that moves it is that of its call.
        self._moves[order.order_key] = Move(order.order_key, state, reason, order.fence, passport_id, call.run_id)

    def _done(self, call: _Call, outcome: AttemptOutcome, *, late: bool) -> None:
        order = self._orders[call.order_key]
        self._settled[call.attempt_id] = Settled(
            call.attempt_id, call.order_key, outcome, order.state, order.reason, late
        )

    def _write_attempts(self) -> None:
        settled = list(self._settled.values())
        readings = [self._readings[done.attempt_id] for done in settled]
        self._connection.execute(
            sql("settle_attempts"),
            {
                "attempt_ids": [done.attempt_id for done in settled],
                "outcomes": [done.outcome.value for done in settled],
                "lates": [done.late for done in settled],
                "statuses": [reading.status for reading in readings],
                "details": [reading.detail for reading in readings],
            },
        )
        erase_answers(self._connection, {done.attempt_id: done.outcome for done in settled})

    def _write_run_starts(self) -> None:
        """Open, stop and count starts of runs, mark tags as empty and pause calls; a plain link needs none of it."""
        by_start: dict[RunStart, list[Settled]] = defaultdict(list)
        for done in self._settled.values():
            by_start[self._calls[done.attempt_id].run].append(done)
        changed = {run: settled for run, settled in by_start.items() if self._changes(run, settled)}
        unused = [self._calls[done.attempt_id] for done in self._settled.values() if _consumed_nothing(done)]
        if not changed and not unused:
            return
        lock_grants(self._connection)
        if pause := max(map(self._pause, self._settled.values())):
            pause_calls(self._connection, pause)
        give_back(self._connection, [(call.run_id, call.clock_day) for call in unused])
        for run, settled in changed.items():
            self._mark_tags_empty(run, settled)
            stops = [done for done in settled if MEANINGS[done.outcome].stops_run]
            refusals = [done for done in settled if MEANINGS[done.outcome].is_refusal]
            count_outcomes(
                self._connection,
                run,
                usable=any(MEANINGS[done.outcome].usable for done in settled),
                refusal=self._readings[refusals[0].attempt_id].detail if refusals else None,
                stop_reason=self._readings[stops[0].attempt_id].detail if stops else None,
            )

    def _pause(self, done: Settled) -> float:
        """Give the seconds for which the NMP asks that no call begins."""
        return self._readings[done.attempt_id].retry_after or 0.0

    def _mark_tags_empty(self, run: RunStart, settled: Sequence[Settled]) -> None:
        empty = {
            self._calls[done.attempt_id].tag
            for done in settled
            if MEANINGS[done.outcome].marks_tag_empty and not done.late
        }
        if empty:
            self._connection.execute(sql("mark_tags_empty"), {**run.key, "tags": sorted(empty)})

    def _changes(self, run: RunStart, settled: Sequence[Settled]) -> bool:
        """Whether these outcomes change anything of their run's start."""
        meanings = [MEANINGS[done.outcome] for done in settled]
        if any(meaning.stops_run or meaning.is_refusal or meaning.marks_tag_empty for meaning in meanings):
            return True
        if any(done.outcome in (AttemptOutcome.UNKNOWN, AttemptOutcome.DUPLICATE) for done in settled):
            return True
        if not any(meaning.usable for meaning in meanings):
            return False
        row = self._connection.execute(sql("run_start_opened"), run.key).fetchone()
        return row is not None and not row[0]


def _consumed_nothing(done: Settled) -> bool:
    """Whether a call certainly consumed no passport: then it is no new link. So are all that slow the pace."""
    return MEANINGS[done.outcome].consumed is Consumed.NO


def _holder(certificate_id: str, passport_id: int, state: str, order_key: str | None) -> tuple[str, Holder]:
    return certificate_id, Holder(passport_id, PassportState(state), order_key)
