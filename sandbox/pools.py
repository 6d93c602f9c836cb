"""The pools of passports: which passport a call gets, and what resets, replacements and claims do to it. No HTTP.

The same seed and the same steps give the same certificate ids and passphrases.
"""

import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from math import inf

from sandbox.switches import AfterReset, ConsumeOn, OldLink, ResetScope, ReturnsTo, Switches, TagRule

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
DIGITS = "0123456789"
REPLACED_PASSPHRASE_LENGTH = 13  # as in the documented example


class PassportState(StrEnum):
    """The state of one passport of a pool."""

    FREE = "free"
    RESERVED = "reserved"
    CLAIMED = "claimed"


@dataclass(slots=True)
class Passport:
    """One passport, from the first time it is given."""

    certificate_id: int
    passphrase: str
    tags: tuple[str, ...]
    state: PassportState = PassportState.FREE
    live: bool = False  # given, and neither reset nor claimed since
    wants_new_passphrase: bool = False  # at its next reservation
    dead: bool = False  # no passphrase claims it, until it is given again or its link is replaced
    valid_from: float = 0.0  # when its passphrase begins to claim, in epoch seconds
    former: tuple[tuple[str, float], ...] = ()  # replaced passphrases, and until when each still claims

    def opens_with(self, passphrase: str, now: float) -> bool:
        """Say whether a passphrase scans and claims the passport at this moment (epoch seconds)."""
        if self.dead:
            return False
        if passphrase == self.passphrase:
            return now >= self.valid_from
        return any(passphrase == former and now < until for former, until in self.former)

    def had(self, passphrase: str) -> bool:
        """Say whether this is the passphrase of the passport, or was."""
        return passphrase == self.passphrase or any(passphrase == former for former, _ in self.former)

    def change_passphrase(self, passphrase: str, *, former_until: float, valid_from: float) -> None:
        """Replace the passphrase. Both moments are epoch seconds; with the same passphrase nothing changes."""
        self.wants_new_passphrase = False
        if passphrase == self.passphrase:
            return
        kept = [each for each in self.former if each[0] != passphrase]
        self.former = (*kept, (self.passphrase, former_until))
        self.passphrase = passphrase
        self.valid_from = valid_from


@dataclass(slots=True)
class Pool:
    """The passports that have one set of tags. Passports are made when first given, so a large pool costs nothing."""

    tags: tuple[str, ...]
    unmade: int = 0
    made: int = 0
    returned: deque[Passport] = field(default_factory=deque)
    offered: Passport | None = None  # given, but only a scan or a claim takes it from the pool
    reserved: dict[int, Passport] = field(default_factory=dict)
    claimed: list[tuple[int, int, float]] = field(default_factory=list)  # (number of the claim, certificate id, when)
    last_given: Passport | None = None

    @property
    def free(self) -> int:
        """Passports left to give."""
        offered = self.offered is not None and self.offered.state is PassportState.FREE
        return self.unmade + offered + sum(passport.state is PassportState.FREE for passport in self.returned)

    @property
    def size(self) -> int:
        """All passports, whoever owns them."""
        return self.free + len(self.reserved) + len(self.claimed)

    def counts(self) -> dict[str, int]:
        """Count the passports, by state."""
        return {"size": self.size, "reserved": len(self.reserved), "claimed": len(self.claimed), "free": self.free}

    def matches(self, tags: Iterable[str], rule: TagRule) -> bool:
        """Say whether the pool's passports have all (AND) or any (OR) of the tags."""
        return (all if rule is TagRule.AND else any)(tag in self.tags for tag in tags)


class Pools:
    """All pools of one sandbox. Not thread-safe: the platform holds its lock around every method."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._pools: dict[tuple[str, ...], Pool] = {}
        self._matching: dict[tuple[tuple[str, ...], TagRule], list[Pool]] = {}
        self._passports: dict[int, Passport] = {}
        self.passphrases: set[str] = set()
        """Every passphrase that was ever made."""
        self.epochs: Counter[str] = Counter()
        """How often each tag was reset."""
        self.claims = 0

    def resize(self, tags: tuple[str, ...], size: int) -> Pool:
        """Create or resize a pool; it keeps at least the passports that were given."""
        tags = tuple(sorted(set(tags)))
        pool = self._pools.get(tags)
        if pool is None:
            pool = self._pools[tags] = Pool(tags)
            self._matching.clear()
        pool.unmade = max(0, pool.unmade + size - pool.size)
        return pool

    def counts(self) -> dict[str, dict[str, int]]:
        """Count each tag's passports by state, and its resets."""
        tags: dict[str, Counter[str]] = {}
        for pool in self._pools.values():
            for tag in pool.tags:
                tags.setdefault(tag, Counter()).update(pool.counts())
        return {tag: {**counts, "epoch": self.epochs[tag]} for tag, counts in tags.items()}

    def passport(self, certificate_id: int) -> Passport | None:
        """Find a passport that was given."""
        return self._passports.get(certificate_id)

    def last_live(self, tags: tuple[str, ...], rule: TagRule) -> Passport | None:
        """Find the passport that was given last under these tags, if it is still live."""
        for pool in self._matches(tags, rule):
            if pool.last_given is not None and pool.last_given.live:
                return pool.last_given
        return None

    def claimed(self, tags: tuple[str, ...], rule: TagRule, until: float) -> list[int]:
        """List the certificates claimed under these tags until then (epoch seconds), in the order of their claims."""
        claims = sorted(claim for pool in self._matches(tags, rule) for claim in pool.claimed)
        return [certificate_id for _, certificate_id, claimed_at in claims if claimed_at <= until]

    def reserved(self, tags: tuple[str, ...], rule: TagRule) -> list[Passport]:
        """List the passports reserved under these tags, which a reset takes back."""
        return [passport for pool in self._matches(tags, rule) for passport in pool.reserved.values()]

    # --- what changes passports --------------------------------------------------------------------------------

    def take(self, tags: tuple[str, ...], switches: Switches, now: float) -> Passport | None:
        """Take the next passport of the pools that match (``consume_on`` a claim: only offer it); None if none is left.

        ``now`` is epoch seconds.
        """
        pools = self._matches(tags, switches.tag_rule)
        if not pools and switches.auto_pool and all(tags):
            self.resize(tags, switches.auto_pool_size)
            pools = self._matches(tags, switches.tag_rule)
        for pool in pools:
            passport = self._next(pool, switches)
            if passport is None:
                continue
            passport.dead = False
            if passport.wants_new_passphrase:
                lives = switches.old_link_after_reset is OldLink.LIVES
                phrase = self._new_passphrase(passport.certificate_id, switches)
                passport.change_passphrase(phrase, former_until=inf if lives else now, valid_from=now)
            if switches.consume_on is ConsumeOn.CLAIM:
                pool.offered = passport
            elif passport.state is PassportState.FREE:
                self._reserve(pool, passport)
            return passport
        return None

    def give(self, passport: Passport) -> bool:
        """Record that a passport goes to a caller; True if it is given once more while it is live."""
        repeated, passport.live = passport.live, True
        self._pools[passport.tags].last_given = passport
        return repeated

    def reset(self, tags: tuple[str, ...], switches: Switches, number: int) -> list[Passport]:
        """Take reserved passports back; ``number`` decides which, if the reset takes only some."""
        pools = self._matches(tags, switches.tag_rule)
        resettable = self.reserved(tags, switches.tag_rule)
        if switches.reset_scope is ResetScope.SOME and resettable:
            lots = random.Random(f"{self._seed}/reset/{number}")  # noqa: S311 - a seeded schedule, no secret
            resettable = lots.sample(resettable, lots.randint(1, len(resettable)))
        for passport in resettable:
            pool = self._pools[passport.tags]
            del pool.reserved[passport.certificate_id]
            passport.state = PassportState.FREE
            passport.live = False
            passport.dead = switches.old_link_after_reset is OldLink.DIES
            passport.wants_new_passphrase = switches.passphrase_after_reset is AfterReset.NEW
            pool.returned.append(passport)
        for pool in pools:
            pool.last_given = None
        for tag in tags:
            self.epochs[tag] += 1
        return resettable

    def replace_link(self, passport: Passport, passphrase: str | None, switches: Switches, now: float) -> None:
        """Give a passport another passphrase (None: a new one), valid after ``mining_seconds``."""
        chosen = passphrase or self._new_passphrase(passport.certificate_id, switches, REPLACED_PASSPHRASE_LENGTH)
        mined = now if passport.dead else now + switches.mining_seconds
        passport.change_passphrase(chosen, former_until=mined, valid_from=mined)
        passport.dead = False

    def scan(self, passport: Passport) -> None:
        """Reserve a passport that was only offered."""
        pool = self._pools[passport.tags]
        if passport.state is PassportState.FREE and passport is pool.offered:
            pool.offered = None
            self._reserve(pool, passport)

    def claim(self, passport: Passport, now: float) -> None:
        """Make a customer the owner of a passport, at this moment (epoch seconds)."""
        pool = self._pools[passport.tags]
        pool.reserved.pop(passport.certificate_id, None)
        passport.state = PassportState.CLAIMED
        passport.live = False
        self.claims += 1
        pool.claimed.append((self.claims, passport.certificate_id, now))

    # --- one pool ----------------------------------------------------------------------------------------------

    def _matches(self, tags: tuple[str, ...], rule: TagRule) -> list[Pool]:
        found = self._matching.get((tags, rule))
        if found is None:
            found = [pool for pool in self._pools.values() if pool.matches(tags, rule)]
            if found:  # callers may ask for any number of tags that no pool has: those are not kept
                self._matching[(tags, rule)] = found
        return found

    def _next(self, pool: Pool, switches: Switches) -> Passport | None:
        def usable(passport: Passport) -> bool:
            return passport.state is PassportState.FREE or (
                passport.state is PassportState.CLAIMED and switches.reserve_claimed
            )

        offered, pool.offered = pool.offered, None
        if offered is not None and usable(offered):
            return offered
        if pool.unmade and switches.reset_returns_to is ReturnsTo.BACK:
            return self._make(pool, switches)
        while pool.returned:
            passport = pool.returned.popleft()
            if usable(passport):
                return passport
        return self._make(pool, switches) if pool.unmade else None

    @staticmethod
    def _reserve(pool: Pool, passport: Passport) -> None:
        passport.state = PassportState.RESERVED
        pool.reserved[passport.certificate_id] = passport

    def _make(self, pool: Pool, switches: Switches) -> Passport:
        pool.unmade -= 1
        pool.made += 1
        certificate_id = self._new_id(pool)
        passport = Passport(certificate_id, self._new_passphrase(certificate_id, switches), pool.tags)
        self._passports[certificate_id] = passport
        return passport

    # --- ids and passphrases -----------------------------------------------------------------------------------

    def _number(self, *what: object) -> int:
        text = "/".join(map(str, (self._seed, *what)))
        return int.from_bytes(blake2b(text.encode(), digest_size=64).digest())

    def _new_id(self, pool: Pool) -> int:
        """Make the next certificate id of a pool: 9 to 11 digits, the same for the same seed, tags and position."""
        attempt = 0
        while True:
            number = self._number("id", ",".join(pool.tags), pool.made, attempt)
            number, digits = divmod(number, 3)
            low = (10**8, 10**9, 10**10)[digits]
            certificate_id = low + number % (9 * low)
            if certificate_id not in self._passports:
                return certificate_id
            attempt += 1

    def _new_passphrase(self, certificate_id: int, switches: Switches, length: int | None = None) -> str:
        letters = DIGITS if switches.passphrase_digits else LETTERS
        attempt = 0
        while True:
            number = self._number("passphrase", certificate_id, attempt)
            characters = []
            for _ in range(length or switches.passphrase_length):
                number, index = divmod(number, len(letters))
                characters.append(letters[index])
            passphrase = "".join(characters)
            if passphrase not in self.passphrases:
                self.passphrases.add(passphrase)
                return passphrase
            attempt += 1
