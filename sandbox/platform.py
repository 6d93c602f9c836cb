"""The NMP's rules: keys, calls, scans and claims, the faults that strike them, and the history of it all. No HTTP.

The platform is deterministic: the same seed and the same journal of commands give the same passports, links and
faults. So it survives a restart: it writes every command to the journal, and executes them again.
"""

import random
import threading
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from hashlib import sha256
from typing import Any, NamedTuple

from sandbox import answers
from sandbox.answers import Answer, ReplacementRefused
from sandbox.calls import ActOutcome, Call, CustomerAct, HistoryEntry
from sandbox.errors import SandboxError
from sandbox.faults import TRAITS, CallKind, Fault, FaultPlan, FaultRule
from sandbox.journal import Journal
from sandbox.pools import Passport, PassportState, Pools
from sandbox.switches import ChosenPassphrase, Refusal, Right, Switches, TagRule

JOURNAL_VERSION = 1
DEFAULT_KEY = "sandbox-key"  # all rights, for local use: nothing in the sandbox needs a secret
DEFAULT_USER = "local"

RIGHT_OF = {
    CallKind.RESERVE: Right.CERT_CREATE,
    CallKind.REPLACE: Right.CERT_CREATE,
    CallKind.LIST: Right.CERT_READ,
    CallKind.COUNT: Right.CERT_READ,
}

_ENTRY_FIELDS = [entry_field.name for entry_field in fields(HistoryEntry)]


class _LateCall(NamedTuple):
    """A call that takes effect when it is due (epoch seconds); ``seq`` is the history entry of its request."""

    due: float
    seq: int
    call: Call


class Platform:
    """The whole state of one sandbox; every public method may be called from any thread.

    With a journal that has events, the state is what they lead to, and ``seed`` must be theirs or None.
    ``clock`` gives epoch seconds. Raises SandboxError for a journal that cannot be replayed.
    """

    def __init__(self, seed: int | None = None, journal: Journal | None = None, clock: Callable[[], float] = time.time):
        self._lock = threading.RLock()
        self._clock = clock
        self._journal: Journal | None = None  # None while events are replayed
        self._begin(seed or 0)
        restored = self._replay(journal, seed) if journal else False
        self._journal = journal
        self.restored = restored
        """Whether the state came from the journal."""
        if not restored:
            self._note({"do": "begin", "version": JOURNAL_VERSION, "seed": self.seed})
            self.set_key(DEFAULT_USER, DEFAULT_KEY, list(Right))

    def _begin(self, seed: int) -> None:
        self.seed = seed
        self.switches = Switches()
        self.faults = FaultPlan(seed)
        self.pools = Pools(seed)
        self._users: dict[str, tuple[str, frozenset[Right]]] = {}  # user: (hash of the key, rights)
        self._user_of_key: dict[str, str] = {}  # hash of the key: user
        self._history: list[HistoryEntry] = []
        self._calls: Counter[str] = Counter()
        self._refused = 0
        self._given = 0
        self._struck: Counter[str] = Counter()
        self._late: list[_LateCall] = []  # calls that take effect later, the next one first

    # --- journal -----------------------------------------------------------------------------------------------

    def _note(self, event: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.append(event)

    def _replay(self, journal: Journal, seed: int | None) -> bool:
        events = journal.events()
        first = next(events, None)
        if first is None:
            return False
        if first.get("version") != JOURNAL_VERSION:
            message = f"the state file {journal.path} was written by another version; name another file"
            raise SandboxError(message)
        if seed is not None and seed != first["seed"]:
            message = (
                f"the state file {journal.path} began with seed {first['seed']}, not {seed}; leave out the seed, or "
                "name another file"
            )
            raise SandboxError(message)
        self._begin(first["seed"])
        for event in events:
            self._redo(event, journal)
        return True

    def _redo(self, event: dict[str, Any], journal: Journal) -> None:
        redo: dict[str, Callable[[], object]] = {
            "key": lambda: self._put_key(event["user"], event["hash"], [Right(right) for right in event["rights"]]),
            "drop_key": lambda: self._drop_key(event["user"]),
            "pool": lambda: self.pools.resize(tuple(event["tags"]), event["size"]),
            "switches": lambda: setattr(self, "switches", Switches.model_validate(event["switches"])),
            "mix": lambda: self.faults.set_mix([FaultRule.model_validate(rule) for rule in event["rules"]]),
            "queue": lambda: self.faults.queue(FaultRule.model_validate(event["rule"])),
            "clear": self.faults.clear,
            "act": lambda: self._act(
                CustomerAct(event["act"]), event["id"], event["phrase"], event["hash"], event["at"]
            ),
            "call": lambda: self._redo_call(event, journal),
            "late": self._carry_out_next,
        }
        try:
            redo[event["do"]]()
        except (KeyError, TypeError, ValueError) as error:
            message = f"the state file {journal.path} cannot be replayed ({type(error).__name__}); name another file"
            raise SandboxError(message) from None

    def _redo_call(self, event: dict[str, Any], journal: Journal) -> None:
        call = Call(
            kind=CallKind(event["kind"]),
            user=event["user"],
            has_key=event["key"],
            tags=tuple(event["tags"]),
            tag_rule=TagRule(event.get("rule", TagRule.AND)),
            certificate_id=event.get("id"),
            passphrase=event.get("phrase"),
            request_id=event.get("request"),
        )
        entry, _ = self._call(call, event["at"])
        if entry.certificate_id != event["gave"]:
            message = f"entry {entry.seq} of the state file {journal.path} leads to another passport; name another file"
            raise SandboxError(message)

    # --- what the NMP does -------------------------------------------------------------------------------------

    def user_of(self, key: str | None) -> str | None:
        """Find the user who has this key; None if nobody has."""
        return None if key is None else self._user_of_key.get(_sha256(key))

    def call(self, call: Call) -> Answer:
        """Execute one NMP call, including its fault, and give what to send."""
        with self._lock:
            now = self._now()
            entry, answer = self._call(call, now)
            if self._journal is not None:
                self._journal.append(_call_event(call, now, entry.certificate_id))
            return answer

    def _call(self, call: Call, now: float) -> tuple[HistoryEntry, Answer]:
        entry = HistoryEntry(len(self._history) + 1, now, call.kind, ",".join(call.tags), request_id=call.request_id)
        if call.tags:
            entry.epoch = self.pools.epochs[call.tags[0]]
        self._history.append(entry)
        self._calls[call.kind] += 1

        refusal = self._refusal(call)
        if refusal is not None:
            self._refused += 1
            entry.outcome = refusal.status
            return entry, answers.refused(refusal, self.switches)

        rule = self.faults.draw(call.kind, call.tags, can_repeat=self._last_live(call) is not None)
        if rule is not None and rule.fault is Fault.LATE and rule.commits:
            insort(self._late, _LateCall(now + rule.pause, entry.seq, call))
            answer = answers.nothing_done(self.switches)
        elif rule is None or rule.commits:
            answer = self._execute(call, rule, entry)
        else:
            answer = answers.nothing_done(self.switches)
        if rule is None:
            entry.outcome = answer.status
        else:
            self._struck[rule.fault] += 1
            entry.fault = rule.fault
            answer = answers.with_fault(rule, answer)
            entry.outcome = answer.status if TRAITS[rule.fault].answers else None
        return entry, answer

    def _refusal(self, call: Call) -> Refusal | None:
        if not call.has_key:
            return self.switches.no_key
        if call.user is None or call.user not in self._users:
            return self.switches.wrong_key
        needed = self.switches.reset_right if call.kind is CallKind.RESET else RIGHT_OF[call.kind]
        if needed is not None and needed not in self._users[call.user][1]:
            return self.switches.no_right
        return None

    def _execute(self, call: Call, rule: FaultRule | None, entry: HistoryEntry) -> Answer:
        match call.kind:
            case CallKind.RESERVE:
                return self._reserve(call, rule, entry)
            case CallKind.RESET:
                return self._reset(call, entry)
            case CallKind.REPLACE:
                return self._replace(call, entry)
            case CallKind.LIST:
                earlier, claimed = self._claims(call, entry.time)
                if rule and rule.fault is Fault.SHORT_LIST:
                    earlier, claimed = [(tag, count // 2) for tag, count in earlier], claimed[: len(claimed) // 2]
                return answers.claimed_list(earlier, claimed, self.switches)
            case CallKind.COUNT:
                earlier, claimed = self._claims(call, entry.time)
                return answers.claimed_count(sum(count for _, count in earlier) + len(claimed), self.switches)

    def _reserve(self, call: Call, rule: FaultRule | None, entry: HistoryEntry) -> Answer:
        if rule and rule.fault is Fault.DUPLICATE:
            passport = self._last_live(call)
        else:
            passport = self.pools.take(call.tags, self.switches, entry.time)
        if passport is None:
            return answers.out_of_stock(self.switches)
        host = rule.host if rule and rule.fault is Fault.WRONG_HOST else self.switches.link_host
        link = answers.link_of(passport, host, self.switches)
        entry.certificate_id = str(passport.certificate_id)
        entry.link_sha256 = _sha256(link)
        entry.repeated = self.pools.give(passport)
        self._given += not entry.repeated
        return answers.reserved(passport, link, call.format, self.switches)

    def _reset(self, call: Call, entry: HistoryEntry) -> Answer:
        before, after = self.switches.claims_in_reset
        if before:
            self._history.pop()  # the reset takes effect after these claims
            self._claim_some(self.pools.reserved(call.tags, self.switches.tag_rule), before, entry)
            entry.seq = len(self._history) + 1
            self._history.append(entry)
        taken = self.pools.reset(call.tags, self.switches, entry.seq)
        entry.certificates = [str(passport.certificate_id) for passport in taken]
        if after:
            self._claim_some(taken, after, entry)
        return answers.reset(len(taken), self.switches)

    def _claim_some(self, passports: list[Passport], count: int, entry: HistoryEntry) -> None:
        """Let the customers of some of these passports claim by the links that they have."""
        lots = random.Random(f"{self.seed}/claims/{entry.seq}")  # noqa: S311 - a seeded schedule, no secret
        for passport in lots.sample(passports, min(count, len(passports))):
            link = answers.link_of(passport, self.switches.link_host, self.switches)
            self._act(CustomerAct.CLAIM, passport.certificate_id, passport.passphrase, _sha256(link), entry.time)

    def _claims(self, call: Call, now: float) -> tuple[list[tuple[str, int]], list[int]]:
        """Give how many earlier claims each tag has, and the certificates of the others that are listed by now."""
        earlier = self.switches.earlier_claims if len(call.tags) == 1 or call.tag_rule is TagRule.OR else {}
        claimed = self.pools.claimed(call.tags, call.tag_rule, now - self.switches.claims_lag_seconds)
        return [(tag, earlier.get(tag, 0)) for tag in call.tags], claimed

    def _replace(self, call: Call, entry: HistoryEntry) -> Answer:
        passport = self.pools.passport(call.certificate_id or 0)
        if passport is None or passport.state is PassportState.CLAIMED:
            return answers.not_replaced(ReplacementRefused.NOT_OWNED, self.switches)
        chosen, reading = call.passphrase, self.switches.chosen_passphrase
        if chosen is not None:
            if reading is ChosenPassphrase.CURRENT and not passport.opens_with(chosen, entry.time):
                return answers.not_replaced(ReplacementRefused.NOT_CURRENT, self.switches)
            if reading is ChosenPassphrase.REPEAT_REFUSED and passport.had(chosen):
                return answers.not_replaced(ReplacementRefused.USED_BEFORE, self.switches)
            if reading in (ChosenPassphrase.CURRENT, ChosenPassphrase.IGNORED):
                chosen = None
        self.pools.replace_link(passport, chosen, self.switches, entry.time)
        link = answers.link_of(passport, self.switches.link_host, self.switches)
        entry.certificate_id = str(passport.certificate_id)
        entry.link_sha256 = _sha256(link)
        self._name_tags(entry, passport)
        return answers.replaced(passport, link, self.switches)

    def _last_live(self, call: Call) -> Passport | None:
        """Find the passport that a repeated certificate would be of."""
        if call.kind is not CallKind.RESERVE:
            return None
        return self.pools.last_live(call.tags, self.switches.tag_rule)

    def _name_tags(self, entry: HistoryEntry, passport: Passport) -> None:
        entry.tag = ",".join(passport.tags)
        entry.epoch = self.pools.epochs[passport.tags[0]]

    # --- late effects ------------------------------------------------------------------------------------------

    def _now(self) -> float:
        """Give the time, after carrying out the late calls that are due by then."""
        now = self._clock()
        while self._late and self._late[0].due <= now:
            self._carry_out_next()
            self._note({"do": "late"})
        return now

    def _carry_out_next(self) -> None:
        """Let the next late call take effect; its history entry has the time at which it was due."""
        due, _, call = self._late.pop(0)
        entry = HistoryEntry(len(self._history) + 1, due, call.kind, ",".join(call.tags), request_id=call.request_id)
        entry.fault = Fault.LATE
        if call.tags:
            entry.epoch = self.pools.epochs[call.tags[0]]
        self._history.append(entry)
        self._execute(call, None, entry)

    # --- what a customer does ----------------------------------------------------------------------------------

    def act(self, act: CustomerAct, certificate_id: int, passphrase: str, link: str | None = None) -> ActOutcome:
        """Scan or claim a passport: the first claim with a valid passphrase owns it from then on."""
        with self._lock:
            now = self._now()
            link_hash = _sha256(link.strip()) if link else None
            outcome = self._act(act, certificate_id, passphrase, link_hash, now)
            self._note(
                {"do": "act", "act": act, "id": certificate_id, "phrase": passphrase, "hash": link_hash, "at": now}
            )
            return outcome

    def _act(self, act: CustomerAct, certificate_id: int, phrase: str, link_hash: str | None, now: float) -> ActOutcome:
        passport = self.pools.passport(certificate_id)
        entry = HistoryEntry(len(self._history) + 1, now, act, "", str(certificate_id), link_hash)
        self._history.append(entry)
        entry.outcome = outcome = _outcome_of_act(passport, phrase, now)
        if passport is None:
            return outcome
        self._name_tags(entry, passport)
        if outcome is ActOutcome.DONE:
            if act is CustomerAct.SCAN:
                self.pools.scan(passport)
            else:
                self.pools.claim(passport, now)
        return outcome

    # --- control -----------------------------------------------------------------------------------------------

    def set_key(self, user: str, key: str, rights: list[Right]) -> None:
        """Give a user a key, which revokes the former one; raises ValueError for a key of another user."""
        with self._lock:
            key_hash = _sha256(key)
            if self._user_of_key.get(key_hash, user) != user:
                message = f"the key for {user!r} is another user's; choose another key"
                raise ValueError(message)
            self._put_key(user, key_hash, rights)
            self._note({"do": "key", "user": user, "hash": key_hash, "rights": rights})

    def _put_key(self, user: str, key_hash: str, rights: list[Right]) -> None:
        self._drop_key(user)
        self._users[user] = (key_hash, frozenset(rights))
        self._user_of_key[key_hash] = user

    def drop_key(self, user: str) -> None:
        """Revoke a user's key; raises KeyError for an unknown user."""
        with self._lock:
            if user not in self._users:
                raise KeyError(user)
            self._drop_key(user)
            self._note({"do": "drop_key", "user": user})

    def _drop_key(self, user: str) -> None:
        if user in self._users:
            del self._user_of_key[self._users.pop(user)[0]]

    def rights(self) -> dict[str, list[Right]]:
        """Give the rights of every user."""
        with self._lock:
            return {user: sorted(rights) for user, (_, rights) in self._users.items()}

    def set_pool(self, tags: tuple[str, ...], size: int) -> dict[str, Any]:
        """Create or resize the pool of passports that have exactly these tags; gives its counts.

        It keeps at least the passports that were given. Raises ValueError for a tag that is empty or has a comma, and
        for a size below 0.
        """
        tags = tuple(sorted(set(tags)))
        if not tags or any(not tag or "," in tag for tag in tags):
            message = f"the tags {list(tags)} are not allowed; a tag is not empty and has no comma"
            raise ValueError(message)
        if size < 0:
            message = f"a pool of {size} passports is not allowed; give 0 or more"
            raise ValueError(message)
        with self._lock:
            self._now()
            pool = self.pools.resize(tags, size)
            self._note({"do": "pool", "tags": tags, "size": size})
            return pool.counts()

    def set_switches(self, changes: dict[str, Any]) -> Switches:
        """Change some switches and give all; raises pydantic.ValidationError, and then changes none."""
        with self._lock:
            self._now()
            self.switches = Switches.model_validate({**self.switches.model_dump(), **changes})
            self._note({"do": "switches", "switches": self.switches.model_dump(mode="json")})
            return self.switches

    def set_faults(self, rules: list[FaultRule]) -> None:
        """Replace the mix of faults; raises ValueError if probabilities add up to more than 1."""
        with self._lock:
            self.faults.set_mix(rules)
            self._note({"do": "mix", "rules": [rule.model_dump(mode="json") for rule in rules]})

    def queue_fault(self, rule: FaultRule) -> None:
        """Let the next matching calls have this fault, ``limit`` (unset: 1) of them."""
        with self._lock:
            self.faults.queue(rule)
            self._note({"do": "queue", "rule": rule.model_dump(mode="json")})

    def clear_faults(self) -> None:
        """End all faults; the seed's schedule continues where it was."""
        with self._lock:
            self.faults.clear()
            self._note({"do": "clear"})

    def history(self, since: int = 0, limit: int = 10_000) -> list[dict[str, Any]]:
        """List what happened after entry ``since``, oldest first, at most ``limit`` entries."""
        with self._lock:
            self._now()
            entries = self._history[since : since + limit]
        return [{name: getattr(entry, name) for name in _ENTRY_FIELDS} for entry in entries]

    def counters(self) -> dict[str, Any]:
        """Count calls, reservations given, claims, faults by kind, and each tag's passports by state."""
        with self._lock:
            self._now()
            return {
                "requests": {kind: self._calls[kind] for kind in CallKind},
                "refused": self._refused,
                "reservations": self._given,
                "claims": self.pools.claims,
                "faults": {fault: self._struck[fault] for fault in Fault if self._struck[fault]},
                "tags": self.pools.counts(),
                "last_seq": len(self._history),
            }


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _outcome_of_act(passport: Passport | None, passphrase: str, now: float) -> ActOutcome:
    if passport is None or not passport.opens_with(passphrase, now):
        return ActOutcome.NOT_VALID
    return ActOutcome.ALREADY_CLAIMED if passport.state is PassportState.CLAIMED else ActOutcome.DONE


def _call_event(call: Call, now: float, gave: str | None) -> dict[str, Any]:
    event: dict[str, Any] = {
        "do": "call",
        "kind": call.kind,
        "at": now,
        "user": call.user,
        "key": call.has_key,
        "tags": call.tags,
        "gave": gave,
    }
    if call.kind in (CallKind.LIST, CallKind.COUNT):
        event["rule"] = call.tag_rule
    if call.request_id is not None:
        event["request"] = call.request_id
    if call.certificate_id is not None:
        event |= {"id": call.certificate_id, "phrase": call.passphrase}
    return event
