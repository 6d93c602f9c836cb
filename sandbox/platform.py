"""The NMP's rules: keys, pools of passports, reservations, resets, replacements, claims, and their history. No HTTP.

The platform is a deterministic machine: the same seed and the same journal of commands give the same passports,
links and faults. That is how it survives a restart: every command is journaled and executed again.
"""

import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from hashlib import blake2b, sha256
from typing import Any
from urllib.parse import urlsplit

from sandbox.errors import SandboxError
from sandbox.faults import TRAITS, CallKind, Fault, FaultPlan, FaultRule
from sandbox.journal import Journal
from sandbox.switches import (
    AfterReset,
    ConsumeOn,
    DeeplinkForm,
    Refusal,
    ResetScope,
    ReturnsTo,
    Right,
    Switches,
    TagRule,
)

JOURNAL_VERSION = 1
DEFAULT_KEY = "sandbox-key"  # all rights, for local use: the sandbox holds nothing worth a secret
DEFAULT_USER = "local"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
REPLACED_PASSPHRASE_LENGTH = 13  # as in the documented example

EMPTY_POOL = {
    "name": "API Error",
    "description": "No NFT found to distribute",
    "code": "nmp.back.dispenser.oneToOne.noNFTsToSend",
    "httpCode": 400,
}
RIGHT_OF = {
    CallKind.RESERVE: Right.CERT_CREATE,
    CallKind.REPLACE: Right.CERT_CREATE,
    CallKind.LIST: Right.CERT_READ,
    CallKind.COUNT: Right.CERT_READ,
}


class PassportState(StrEnum):
    """Where one passport of a pool stands."""

    FREE = "free"
    RESERVED = "reserved"
    CLAIMED = "claimed"


class CustomerAct(StrEnum):
    """What a customer can do with a link; these stand in the history beside the calls."""

    CLAIM = "claim"
    SCAN = "scan"


class ActOutcome(StrEnum):
    """What came of a scan or a claim."""

    DONE = "done"
    ALREADY_CLAIMED = "already_claimed"
    NOT_VALID = "not_valid"  # unknown certificate, or a passphrase that does not open it (any more)


class LinkFormat(StrEnum):
    """reserveOne's ``format``."""

    LINK = "link"
    LINK_OBJECT = "linkObject"


@dataclass(frozen=True, slots=True)
class Call:
    """One NMP call as the platform sees it. ``user`` is the key's owner, None when the key is missing or unknown."""

    kind: CallKind
    user: str | None = None
    has_key: bool = False
    tags: tuple[str, ...] = ()
    format: LinkFormat = LinkFormat.LINK_OBJECT
    tag_rule: TagRule = TagRule.AND  # of a list or a count
    certificate_id: int | None = None  # of a replacement
    passphrase: str | None = None
    request_id: str | None = None  # what the caller sent as x-request-id; the NMP itself ignores it


@dataclass(slots=True)
class Answer:
    """What is sent back: ``body`` is whole, ``fault`` says what the wire makes of it."""

    status: int
    body: bytes
    content_type: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    fault: FaultRule | None = None


@dataclass(slots=True)
class HistoryEntry:
    """One thing that happened, in the order it took effect. ``time`` is epoch seconds, UTC."""

    seq: int
    time: float
    kind: str  # a CallKind or a CustomerAct
    tag: str  # the tags of the call, or of the passport, joined by commas
    certificate_id: str | None = None  # as a string: ids reach 11 digits
    link_sha256: str | None = None  # of the link exactly as given, without a trailing newline
    outcome: int | str | None = None  # HTTP status; None: no answer was sent; an ActOutcome for a claim or a scan
    fault: str | None = None
    epoch: int = 0  # how often the (first) tag was reset before
    repeated: bool = False  # the certificate had been handed out already and is live: nothing new was given
    certificates: list[str] | None = None  # those a reset took back
    request_id: str | None = None  # the caller's own name for the call, where it sent one


_ENTRY_FIELDS = [entry_field.name for entry_field in fields(HistoryEntry)]


@dataclass(slots=True)
class Passport:
    """One passport, from the first time it was handed out."""

    certificate_id: int
    passphrase: str
    tags: tuple[str, ...]
    state: PassportState = PassportState.FREE
    live: bool = False  # handed out, and neither reset nor claimed since
    wants_new_passphrase: bool = False  # at its next reservation
    former_passphrase: str | None = None  # replaced, and claims until ...
    former_until: float = 0.0


@dataclass(slots=True)
class Pool:
    """The passports that carry one set of tags. Passports are made when first handed out, so a size costs nothing."""

    tags: tuple[str, ...]
    unmade: int = 0
    made: int = 0
    returned: deque[Passport] = field(default_factory=deque)
    offered: Passport | None = None  # handed out, but only a scan or a claim takes it
    reserved: dict[int, Passport] = field(default_factory=dict)
    claimed: list[tuple[int, int]] = field(default_factory=list)  # (order of the claim, certificate id)
    last_given: Passport | None = None

    @property
    def free(self) -> int:
        """Passports left to hand out."""
        offered = self.offered is not None and self.offered.state is PassportState.FREE
        return self.unmade + offered + sum(passport.state is PassportState.FREE for passport in self.returned)

    @property
    def size(self) -> int:
        """All passports, whoever owns them."""
        return self.free + len(self.reserved) + len(self.claimed)

    def matches(self, tags: Iterable[str], rule: TagRule) -> bool:
        """Whether the pool's passports carry all (AND) or any (OR) of the tags."""
        return (all if rule is TagRule.AND else any)(tag in self.tags for tag in tags)


def _compact(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _key_hash(key: str) -> str:
    return sha256(key.encode()).hexdigest()


class Platform:
    """The whole state of one sandbox; every public method may be called from any thread.

    With a journal that has events the state is what they lead to, and ``seed`` must be theirs or None.
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
        self._users: dict[str, tuple[str, frozenset[Right]]] = {}  # user: (hash of the key, rights)
        self._user_of_key: dict[str, str] = {}  # hash of the key: user
        self._pools: dict[tuple[str, ...], Pool] = {}
        self._pools_for: dict[tuple[tuple[str, ...], TagRule], list[Pool]] = {}
        self._passports: dict[int, Passport] = {}
        self._passphrases: set[str] = set()
        self._epochs: Counter[str] = Counter()
        self._history: list[HistoryEntry] = []
        self._calls: Counter[str] = Counter()
        self._refused = 0
        self._given = 0
        self._struck: Counter[str] = Counter()
        self._claims = 0
        self._now = 0.0

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
            message = f"the state file {journal.path} began with seed {first['seed']}, not {seed}; drop one of the two"
            raise SandboxError(message)
        self._begin(first["seed"])
        for event in events:
            self._redo(event, journal)
        return True

    def _redo(self, event: dict[str, Any], journal: Journal) -> None:
        redo: dict[str, Callable[[], object]] = {
            "key": lambda: self._put_key(event["user"], event["hash"], [Right(right) for right in event["rights"]]),
            "drop_key": lambda: self._drop_key(event["user"]),
            "pool": lambda: self._put_pool(tuple(event["tags"]), event["size"]),
            "switches": lambda: setattr(self, "switches", Switches.model_validate(event["switches"])),
            "mix": lambda: self.faults.set_mix([FaultRule.model_validate(rule) for rule in event["rules"]]),
            "queue": lambda: self.faults.queue(FaultRule.model_validate(event["rule"])),
            "clear": self.faults.clear,
            "act": lambda: self._act(
                CustomerAct(event["act"]), event["id"], event["phrase"], event["hash"], event["at"]
            ),
            "call": lambda: self._redo_call(event, journal),
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
        """The user whose key this is, or None."""
        return None if key is None else self._user_of_key.get(_key_hash(key))

    def call(self, call: Call) -> Answer:
        """Execute one NMP call, fault included, and give what is to be sent."""
        with self._lock:
            now = self._clock()
            entry, answer = self._call(call, now)
            if self._journal is not None:
                self._journal.append(_call_event(call, now, entry.certificate_id))
            return answer

    def _call(self, call: Call, now: float) -> tuple[HistoryEntry, Answer]:
        self._now = now
        entry = HistoryEntry(len(self._history) + 1, now, call.kind, ",".join(call.tags), request_id=call.request_id)
        if call.tags:
            entry.epoch = self._epochs[call.tags[0]]
        self._history.append(entry)
        self._calls[call.kind] += 1

        refusal = self._refusal(call)
        if refusal is not None:
            self._refused += 1
            entry.outcome = refusal.status
            return entry, self._refuse(refusal)

        rule = self.faults.draw(call.kind, call.tags, can_repeat=self._last_live(call) is not None)
        if rule is not None:
            self._struck[rule.fault] += 1
            entry.fault = rule.fault
            if not rule.commits:
                return entry, self._struck_answer(rule, entry, self._json({}))
        answer = self._execute(call, rule, entry)
        if rule is not None:
            answer = self._struck_answer(rule, entry, answer)
        else:
            entry.outcome = answer.status
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

    def _refuse(self, refusal: Refusal) -> Answer:
        if isinstance(refusal.body, str):
            return Answer(refusal.status, refusal.body.encode(), "text/html; charset=utf-8")
        return self._json(refusal.body, refusal.status)

    def _execute(self, call: Call, rule: FaultRule | None, entry: HistoryEntry) -> Answer:
        match call.kind:
            case CallKind.RESERVE:
                return self._reserve(call, rule, entry)
            case CallKind.RESET:
                return self._reset(call, entry)
            case CallKind.REPLACE:
                return self._replace(call, entry)
            case CallKind.LIST:
                return self._json({"result": {"smartAssetsId": [self._id(id_) for id_ in self._claimed(call)]}})
            case CallKind.COUNT:
                return self._json({"result": {"count": len(self._claimed(call))}})

    def _reserve(self, call: Call, rule: FaultRule | None, entry: HistoryEntry) -> Answer:
        passport = self._last_live(call) if rule and rule.fault is Fault.DUPLICATE else self._take(call.tags)
        if passport is None:
            return self._json(EMPTY_POOL, 400)
        host = rule.host if rule and rule.fault is Fault.WRONG_HOST else self.switches.link_host
        link = self._link(passport, host)
        entry.certificate_id = str(passport.certificate_id)
        entry.link_sha256 = sha256(link.encode()).hexdigest()
        entry.repeated = passport.live
        if not passport.live:
            self._given += 1
            passport.live = True
        self._pools[passport.tags].last_given = passport
        if call.format is LinkFormat.LINK:
            newline = "\n" if self.switches.trailing_newline else ""
            return Answer(200, (link + newline).encode(), self.switches.link_content_type)
        return self._json(self._link_object(passport, link))

    def _take(self, tags: tuple[str, ...]) -> Passport | None:
        """The next passport of the pools that match; the call, or only a scan, takes it from its pool."""
        pools = self._matching(tags, self.switches.tag_rule)
        if not pools and self.switches.auto_pool and all(tags):
            self._put_pool(tags, self.switches.auto_pool_size)
            pools = self._matching(tags, self.switches.tag_rule)
        for pool in pools:
            passport = self._next(pool)
            if passport is None:
                continue
            if passport.wants_new_passphrase:
                self._rekey(passport, self._new_passphrase(passport.certificate_id), self._now)
            if self.switches.consume_on is ConsumeOn.CLAIM:
                pool.offered = passport
            elif passport.state is PassportState.FREE:
                passport.state = PassportState.RESERVED
                pool.reserved[passport.certificate_id] = passport
            return passport
        return None

    def _next(self, pool: Pool) -> Passport | None:
        def usable(passport: Passport) -> bool:
            return passport.state is PassportState.FREE or (
                passport.state is PassportState.CLAIMED and self.switches.reserve_claimed
            )

        offered, pool.offered = pool.offered, None
        if offered is not None and usable(offered):
            return offered
        if pool.unmade and self.switches.reset_returns_to is ReturnsTo.BACK:
            return self._make(pool)
        while pool.returned:
            passport = pool.returned.popleft()
            if usable(passport):
                return passport
        return self._make(pool) if pool.unmade else None

    def _make(self, pool: Pool) -> Passport:
        pool.unmade -= 1
        pool.made += 1
        certificate_id = self._new_id(pool)
        passport = Passport(certificate_id, self._new_passphrase(certificate_id), pool.tags)
        self._passports[certificate_id] = passport
        return passport

    def _reset(self, call: Call, entry: HistoryEntry) -> Answer:
        pools = self._matching(call.tags, self.switches.tag_rule)
        resettable = [passport for pool in pools for passport in pool.reserved.values()]
        if self.switches.reset_scope is ResetScope.SOME and resettable:
            lots = random.Random(f"{self.seed}/reset/{entry.seq}")  # noqa: S311 - a seeded schedule, no secret
            resettable = lots.sample(resettable, lots.randint(1, len(resettable)))
        for passport in resettable:
            pool = self._pools[passport.tags]
            del pool.reserved[passport.certificate_id]
            passport.state = PassportState.FREE
            passport.live = False
            passport.wants_new_passphrase = self.switches.passphrase_after_reset is AfterReset.NEW
            pool.returned.append(passport)
        for pool in pools:
            pool.last_given = None
        for tag in call.tags:
            self._epochs[tag] += 1
        entry.certificates = [str(passport.certificate_id) for passport in resettable]
        return self._json({"count": len(resettable)})

    def _replace(self, call: Call, entry: HistoryEntry) -> Answer:
        passport = self._passports.get(call.certificate_id or 0)
        if passport is None or passport.state is PassportState.CLAIMED:
            code = "nmp.back.certificate.notOwner"  # not documented: any business error
            return self._json({"message": "The certificate is not owned by the platform", "code": code}, 500)
        passphrase = call.passphrase or self._new_passphrase(passport.certificate_id, REPLACED_PASSPHRASE_LENGTH)
        self._rekey(passport, passphrase, self._now + self.switches.mining_seconds)
        link = self._link(passport, self.switches.link_host)
        entry.tag = ",".join(passport.tags)
        entry.epoch = self._epochs[passport.tags[0]]
        entry.certificate_id = str(passport.certificate_id)
        entry.link_sha256 = sha256(link.encode()).hexdigest()
        return self._json(
            {"certificateId": self._id(passport.certificate_id), "passphrase": passport.passphrase, "link": link}
        )

    def _claimed(self, call: Call) -> list[int]:
        claimed = sorted(claim for pool in self._matching(call.tags, call.tag_rule) for claim in pool.claimed)
        return [certificate_id for _, certificate_id in claimed]

    def _last_live(self, call: Call) -> Passport | None:
        """The passport handed out last under these tags, if it is still live."""
        if call.kind is not CallKind.RESERVE:
            return None
        for pool in self._matching(call.tags, self.switches.tag_rule):
            if pool.last_given is not None and pool.last_given.live:
                return pool.last_given
        return None

    # --- what a customer does ----------------------------------------------------------------------------------

    def act(self, act: CustomerAct, certificate_id: int, passphrase: str, link: str | None = None) -> ActOutcome:
        """Scan or claim a passport: the first claim with a valid passphrase owns it for good."""
        with self._lock:
            now = self._clock()
            link_hash = sha256(link.strip().encode()).hexdigest() if link else None
            outcome = self._act(act, certificate_id, passphrase, link_hash, now)
            self._note(
                {"do": "act", "act": act, "id": certificate_id, "phrase": passphrase, "hash": link_hash, "at": now}
            )
            return outcome

    def _act(self, act: CustomerAct, certificate_id: int, phrase: str, link_hash: str | None, now: float) -> ActOutcome:
        passport = self._passports.get(certificate_id)
        entry = HistoryEntry(len(self._history) + 1, now, act, "", str(certificate_id), link_hash)
        self._history.append(entry)
        outcome = self._outcome_of_act(passport, phrase, now)
        entry.outcome = outcome
        if passport is None:
            return outcome
        entry.tag = ",".join(passport.tags)
        entry.epoch = self._epochs[passport.tags[0]]
        if outcome is not ActOutcome.DONE:
            return outcome
        pool = self._pools[passport.tags]
        if act is CustomerAct.SCAN:
            if passport.state is PassportState.FREE and passport is pool.offered:
                pool.offered = None
                passport.state = PassportState.RESERVED
                pool.reserved[certificate_id] = passport
            return outcome
        pool.reserved.pop(certificate_id, None)
        passport.state = PassportState.CLAIMED
        passport.live = False
        self._claims += 1
        pool.claimed.append((self._claims, certificate_id))
        return outcome

    @staticmethod
    def _outcome_of_act(passport: Passport | None, phrase: str, now: float) -> ActOutcome:
        if passport is None:
            return ActOutcome.NOT_VALID
        replaced_later = now < passport.former_until
        valid = passport.former_passphrase if replaced_later else passport.passphrase
        if phrase != valid:
            return ActOutcome.NOT_VALID
        return ActOutcome.ALREADY_CLAIMED if passport.state is PassportState.CLAIMED else ActOutcome.DONE

    # --- control -----------------------------------------------------------------------------------------------

    def set_key(self, user: str, key: str, rights: list[Right]) -> None:
        """Give a user a key; a former key of theirs is revoked. Raises ValueError for a key of someone else."""
        with self._lock:
            key_hash = _key_hash(key)
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
        """Revoke a user's key. Raises KeyError for an unknown user."""
        with self._lock:
            if user not in self._users:
                raise KeyError(user)
            self._drop_key(user)
            self._note({"do": "drop_key", "user": user})

    def _drop_key(self, user: str) -> None:
        if user in self._users:
            del self._user_of_key[self._users.pop(user)[0]]

    def rights(self) -> dict[str, list[Right]]:
        """The rights of every user."""
        with self._lock:
            return {user: sorted(rights) for user, (_, rights) in self._users.items()}

    def set_pool(self, tags: tuple[str, ...], size: int) -> dict[str, Any]:
        """Create or resize the pool of passports that carry exactly these tags; gives its counts.

        It shrinks no further than the passports that were handed out. Raises ValueError for a tag that is empty
        or holds a comma, and for a size below 0.
        """
        tags = tuple(sorted(set(tags)))
        if not tags or any(not tag or "," in tag for tag in tags):
            message = f"the tags {list(tags)} cannot be asked for; a tag is not empty and holds no comma"
            raise ValueError(message)
        if size < 0:
            message = f"a pool of {size} passports cannot be; give 0 or more"
            raise ValueError(message)
        with self._lock:
            pool = self._put_pool(tags, size)
            self._note({"do": "pool", "tags": tags, "size": size})
            return _pool_counts(pool)

    def _put_pool(self, tags: tuple[str, ...], size: int) -> Pool:
        tags = tuple(sorted(set(tags)))
        pool = self._pools.get(tags)
        if pool is None:
            pool = self._pools[tags] = Pool(tags)
            self._pools_for.clear()
        pool.unmade = max(0, pool.unmade + size - pool.size)
        return pool

    def set_switches(self, changes: dict[str, Any]) -> Switches:
        """Change some switches; gives all. Raises pydantic.ValidationError, and then changes none."""
        with self._lock:
            self.switches = Switches.model_validate({**self.switches.model_dump(), **changes})
            self._note({"do": "switches", "switches": self.switches.model_dump(mode="json")})
            return self.switches

    def set_faults(self, rules: list[FaultRule]) -> None:
        """Replace the mix of faults. Raises ValueError when probabilities add up to more than 1."""
        with self._lock:
            self.faults.set_mix(rules)
            self._note({"do": "mix", "rules": [rule.model_dump(mode="json") for rule in rules]})

    def queue_fault(self, rule: FaultRule) -> None:
        """Let the next matching calls have this fault, ``limit`` (unset: 1) of them."""
        with self._lock:
            self.faults.queue(rule)
            self._note({"do": "queue", "rule": rule.model_dump(mode="json")})

    def clear_faults(self) -> None:
        """From now on no call has a fault; the seed's schedule goes on where it was."""
        with self._lock:
            self.faults.clear()
            self._note({"do": "clear"})

    def history(self, since: int = 0, limit: int = 10_000) -> list[dict[str, Any]]:
        """What happened after entry ``since``, oldest first, at most ``limit`` entries."""
        with self._lock:
            entries = self._history[since : since + limit]
        return [{name: getattr(entry, name) for name in _ENTRY_FIELDS} for entry in entries]

    def counters(self) -> dict[str, Any]:
        """How many calls, reservations given, faults by kind, claims; and each tag's pool, reserved, claimed, free."""
        with self._lock:
            tags: dict[str, Counter[str]] = {}
            for pool in self._pools.values():
                for tag in pool.tags:
                    tags.setdefault(tag, Counter()).update(_pool_counts(pool))
            return {
                "requests": {kind: self._calls[kind] for kind in CallKind},
                "refused": self._refused,
                "reservations": self._given,
                "claims": self._claims,
                "faults": {fault: self._struck[fault] for fault in Fault if self._struck[fault]},
                "tags": {tag: {**counts, "epoch": self._epochs[tag]} for tag, counts in tags.items()},
                "last_seq": len(self._history),
            }

    # --- passports and links -----------------------------------------------------------------------------------

    def _matching(self, tags: tuple[str, ...], rule: TagRule) -> list[Pool]:
        found = self._pools_for.get((tags, rule))
        if found is None:
            found = [pool for pool in self._pools.values() if pool.matches(tags, rule)]
            if found:  # what matches nothing is not kept: callers may ask for any number of tags
                self._pools_for[(tags, rule)] = found
        return found

    def _numbers(self, *what: object) -> int:
        text = "/".join(map(str, (self.seed, *what)))
        return int.from_bytes(blake2b(text.encode(), digest_size=64).digest())

    def _new_id(self, pool: Pool) -> int:
        """The next certificate id of a pool: 9 to 11 digits, the same for the same seed, tags and place."""
        attempt = 0
        while True:
            number = self._numbers("id", ",".join(pool.tags), pool.made, attempt)
            number, digits = divmod(number, 3)
            low = (10**8, 10**9, 10**10)[digits]
            certificate_id = low + number % (9 * low)
            if certificate_id not in self._passports:
                return certificate_id
            attempt += 1

    def _new_passphrase(self, certificate_id: int, length: int | None = None) -> str:
        letters = "0123456789" if self.switches.passphrase_digits else LETTERS
        attempt = 0
        while True:
            number = self._numbers("passphrase", certificate_id, attempt)
            characters = []
            for _ in range(length or self.switches.passphrase_length):
                number, index = divmod(number, len(letters))
                characters.append(letters[index])
            passphrase = "".join(characters)
            if passphrase not in self._passphrases:
                self._passphrases.add(passphrase)
                return passphrase
            attempt += 1

    @staticmethod
    def _rekey(passport: Passport, passphrase: str, former_until: float) -> None:
        passport.former_passphrase = passport.passphrase
        passport.former_until = former_until
        passport.passphrase = passphrase
        passport.wants_new_passphrase = False

    def _link(self, passport: Passport, host: str) -> str:
        fields = [
            str(passport.certificate_id),
            passport.passphrase,
            "testnet",
            "0x0000000000000000000000000000000000000001",
        ]
        method = "requestOwnership/" if self.switches.link_method else ""
        query = f"?{self.switches.link_query}" if self.switches.link_query else ""
        return f"https://{host}/{method}{','.join(fields[: self.switches.link_fields])}{query}"

    def _link_object(self, passport: Passport, link: str) -> dict[str, Any]:
        certificate_id = self._id(passport.certificate_id)
        deeplink: object = {"certificateId": certificate_id, "passphrase": passport.passphrase, "link": link}
        if self.switches.deeplink is DeeplinkForm.STRING:
            deeplink = link
        return {
            "method": "requestOwnership",
            "certificateId": certificate_id,
            "passphrase": passport.passphrase,
            "deeplink": deeplink,
        }

    def _id(self, certificate_id: int) -> int | str:
        return str(certificate_id) if self.switches.ids_as_strings else certificate_id

    # --- answers -----------------------------------------------------------------------------------------------

    def _json(self, body: object, status: int = 200) -> Answer:
        if self.switches.extra_fields and isinstance(body, dict):
            body = {**body, "undocumented": {"since": 2}}
        return Answer(status, _compact(body), self.switches.object_content_type)

    def _struck_answer(self, rule: FaultRule, entry: HistoryEntry, answer: Answer) -> Answer:
        """What a fault makes of an answer, as far as it is a matter of content; the rest is the wire's."""
        traits = TRAITS[rule.fault]
        status = rule.status or traits.status
        given_nothing = rule.fault is Fault.RUBBISH and answer.status != 200  # an empty pool stays one
        if status is not None and not given_nothing:
            answer = _REPLACEMENTS[rule.fault](status)
        if rule.retry_after_header is not None:
            answer.headers.append(("retry-after", rule.retry_after_header))
        answer.fault = rule
        entry.outcome = answer.status if traits.answers else None
        return answer


def _text(body: str, content_type: str = "text/html; charset=utf-8") -> Callable[[int], Answer]:
    return lambda status: Answer(status, body.encode(), content_type)


_HTML = (
    "<!doctype html><html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1><hr>nginx</body></html>\n"
)
_JSON = "application/json; charset=utf-8"
_REPLACEMENTS: dict[Fault, Callable[[int], Answer]] = {
    Fault.SERVER_ERROR_BEFORE: _text('{"message":"Internal Server Error"}', _JSON),
    Fault.SERVER_ERROR_AFTER: _text('{"message":"Internal Server Error"}', _JSON),
    Fault.TOO_MANY_REQUESTS: _text('{"message":"Too Many Requests"}', _JSON),
    Fault.UNAVAILABLE: _text('{"message":"Service Unavailable"}', _JSON),
    Fault.REDIRECT: _text(""),
    Fault.HTML_ERROR: _text(_HTML),
    Fault.RUBBISH: _text('{"method":"requestOwnership","certificateId":', _JSON),
}


def _pool_counts(pool: Pool) -> dict[str, int]:
    return {"size": pool.size, "reserved": len(pool.reserved), "claimed": len(pool.claimed), "free": pool.free}


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


def parse_link(link: str) -> tuple[int, str]:
    """The certificate id and passphrase of a link in any of its forms. Raises ValueError for anything else."""
    fields = urlsplit(link.strip()).path.rsplit("/", 1)[-1].split(",")
    if len(fields) < 2 or not fields[0].isdecimal():
        message = "this is no claim link; give https://host/certificateId,passphrase"
        raise ValueError(message)
    return int(fields[0]), fields[1]
