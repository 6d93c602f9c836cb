"""Faults on demand: which call gets which fault, by a seeded draw or from a queue. No HTTP here."""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from pydantic import BaseModel, ConfigDict, Field, model_validator


class CallKind(StrEnum):
    """The NMP calls that the sandbox answers, by what they do."""

    RESERVE = "reserve"  # GET dispenser/distribution/reserveOne
    RESET = "reset"  # GET dispenser/distribution/resetAll
    REPLACE = "replace"  # POST api/createCertificateRequestOwnershipLink
    LIST = "list"  # POST certificate/getListOfSmartAssetsIdByTags
    COUNT = "count"  # POST certificate/getCountOfSmartAssetsIdByTags


class Fault(StrEnum):
    """What can go wrong with one call."""

    LOST_ANSWER = "lost_answer"  # the connection is closed without a byte of answer
    CONNECTION_RESET = "connection_reset"  # TCP RST instead of an answer
    HANG = "hang"  # nothing until the caller gives up, or `seconds` have passed
    SLOW = "slow"  # the whole answer, after `seconds` of silence; what it says is of the moment of the call
    LATE = "late"  # nothing, and the call takes effect after `seconds`, whether or not the caller is still there
    DRIP = "drip"  # the body comes one byte every `seconds`
    DRIP_HEADERS = "drip_headers"  # so do the headers
    TRUNCATED = "truncated"  # half the body that content-length promised, then the end
    CUT = "cut"  # half the body, as if it were the whole one
    SHORT_LIST = "short_list"  # a list of claims without its second half, with its closing bracket
    SERVER_ERROR_BEFORE = "server_error_before"  # 5xx, nothing was done
    SERVER_ERROR_AFTER = "server_error_after"  # 5xx, but it was done
    TOO_MANY_REQUESTS = "too_many_requests"  # 429
    UNAVAILABLE = "unavailable"  # 503 with Retry-After
    REDIRECT = "redirect"  # 3xx, by default to the same address: following it calls again
    HTML_ERROR = "html_error"  # the error page of a gateway
    RUBBISH = "rubbish"  # 200 with a body that is not an answer
    WRONG_HOST = "wrong_host"  # 200 with a link of another host
    DUPLICATE = "duplicate"  # a certificate that is live, with the same link, once more


@dataclass(frozen=True, slots=True)
class FaultTraits:
    """What a fault does unless its rule says otherwise: whether the call takes effect, and the status of the answer."""

    commits: bool
    status: int | None = None  # None: the status of the call itself
    answers: bool = True  # False: no byte is sent


TRAITS = {
    Fault.LOST_ANSWER: FaultTraits(commits=True, answers=False),
    Fault.CONNECTION_RESET: FaultTraits(commits=True, answers=False),
    Fault.HANG: FaultTraits(commits=True, answers=False),
    Fault.SLOW: FaultTraits(commits=True),
    Fault.LATE: FaultTraits(commits=True, answers=False),
    Fault.DRIP: FaultTraits(commits=True),
    Fault.DRIP_HEADERS: FaultTraits(commits=True),
    Fault.TRUNCATED: FaultTraits(commits=True),
    Fault.CUT: FaultTraits(commits=True),
    Fault.SHORT_LIST: FaultTraits(commits=True),
    Fault.SERVER_ERROR_BEFORE: FaultTraits(commits=False, status=500),
    Fault.SERVER_ERROR_AFTER: FaultTraits(commits=True, status=500),
    Fault.TOO_MANY_REQUESTS: FaultTraits(commits=False, status=429),
    Fault.UNAVAILABLE: FaultTraits(commits=False, status=503),
    Fault.REDIRECT: FaultTraits(commits=False, status=302),
    Fault.HTML_ERROR: FaultTraits(commits=False, status=502),
    Fault.RUBBISH: FaultTraits(commits=True, status=200),
    Fault.WRONG_HOST: FaultTraits(commits=True),
    Fault.DUPLICATE: FaultTraits(commits=True),
}

ONLY_FOR = {
    Fault.WRONG_HOST: (CallKind.RESERVE,),
    Fault.DUPLICATE: (CallKind.RESERVE,),
    Fault.LATE: (CallKind.RESET, CallKind.REPLACE),
    Fault.SHORT_LIST: (CallKind.LIST,),
}
NEEDS_THE_EFFECT = (Fault.WRONG_HOST, Fault.DUPLICATE, Fault.SHORT_LIST)
DEFAULT_SECONDS = {Fault.HANG: 120.0, Fault.SLOW: 30.0, Fault.LATE: 60.0, Fault.DRIP: 1.0, Fault.DRIP_HEADERS: 1.0}


def faults_of(call: CallKind) -> list[Fault]:
    """List the faults that can strike a call."""
    return [fault for fault in Fault if call in ONLY_FOR.get(fault, tuple(CallKind))]


class FaultRule(BaseModel):
    """When one fault strikes, and how. In a mix, ``probability`` decides; in the queue, ``limit`` says how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Fault
    call: CallKind = Field(default=CallKind.RESERVE, description="The call that it strikes.")
    tag: str | None = Field(default=None, description="Only calls that name this tag.")
    probability: float = Field(default=1.0, gt=0, le=1, description="Share of the calls (only in a mix).")
    limit: int | None = Field(default=None, ge=1, description="How often it strikes at most.")
    burst: int = Field(default=1, ge=1, description="How many matching calls in a row it strikes (only in a mix).")
    status: int | None = Field(default=None, ge=200, le=599, description="A status instead of the fault's own.")
    retry_after: int | str | None = Field(default=None, description="Retry-After: seconds or an HTTP date.")
    seconds: float | None = Field(
        default=None, ge=0, description="How long to be silent, or the time between two bytes of a drip."
    )
    commit: bool | None = Field(
        default=None, description="Whether the call takes effect; unset: as docs/sandbox.md says for the fault."
    )
    host: str = Field(default="arianee.net", description="The host of a wrong link.")
    location: str | None = Field(default=None, description="The address of a redirect; unset: the same address.")

    @model_validator(mode="after")
    def _fits_its_call(self) -> "FaultRule":
        if self.fault not in faults_of(self.call):
            message = f"fault {self.fault} strikes only {' and '.join(ONLY_FOR[self.fault])}, not {self.call}"
            raise ValueError(message)
        if self.fault in NEEDS_THE_EFFECT and self.commit is False:
            message = f"fault {self.fault} answers a call that took effect; leave commit out"
            raise ValueError(message)
        if self.status is not None and TRAITS[self.fault].status is None:
            message = f"fault {self.fault} has no status of its own; leave status out"
            raise ValueError(message)
        return self

    @property
    def commits(self) -> bool:
        """Whether the struck call takes effect."""
        return TRAITS[self.fault].commits if self.commit is None else self.commit

    @property
    def pause(self) -> float:
        """Seconds of silence, or between two bytes of a drip."""
        return DEFAULT_SECONDS.get(self.fault, 0.0) if self.seconds is None else self.seconds

    @property
    def retry_after_header(self) -> str | None:
        """The value of Retry-After; a 503 always has one."""
        if self.retry_after is None:
            return "1" if self.fault is Fault.UNAVAILABLE else None
        return str(self.retry_after)

    def matches(self, call: CallKind, tags: tuple[str, ...]) -> bool:
        """Say whether the rule is for this call."""
        return self.call is call and (self.tag is None or self.tag in tags)


@dataclass(slots=True)
class _Armed:
    """A rule, and how often it struck."""

    rule: FaultRule
    struck: int = 0
    burst_left: int = 0

    @property
    def spent(self) -> bool:
        return self.rule.limit is not None and self.struck >= self.rule.limit

    def strikes(self, call: CallKind, tags: tuple[str, ...], *, can_repeat: bool) -> bool:
        possible = can_repeat or self.rule.fault is not Fault.DUPLICATE
        return possible and not self.spent and self.rule.matches(call, tags)

    def strike(self) -> FaultRule:
        self.struck += 1
        self.burst_left = self.burst_left - 1 if self.burst_left else self.rule.burst - 1
        return self.rule


class FaultPlan:
    """The fault of every call, decided by the seed. Not thread-safe: the platform holds its lock around it.

    The draw of the n-th call of a kind depends on the seed and n alone, so a seed gives the same schedule whatever the
    tags and the rules are.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._drawn = dict.fromkeys(CallKind, 0)
        self._mix: list[_Armed] = []
        self._queue: list[_Armed] = []

    def set_mix(self, rules: list[FaultRule]) -> None:
        """Replace the mix; raises ValueError if the probabilities of one call add up to more than 1."""
        for call in CallKind:
            total = sum(rule.probability for rule in rules if rule.call is call)
            if total > 1 + 1e-9:
                message = f"the faults of {call} have probabilities that add up to {total:g}; give at most 1"
                raise ValueError(message)
        self._mix = [_Armed(rule) for rule in rules]

    def queue(self, rule: FaultRule) -> None:
        """Let the next ``limit`` (unset: 1) matching calls have this fault; queued faults come before the mix."""
        self._queue.append(_Armed(rule.model_copy(update={"limit": rule.limit or 1, "burst": 1})))

    def clear(self) -> None:
        """End the mix and the queue; the draws continue where they were."""
        self._mix = []
        self._queue = []

    @property
    def mix(self) -> list[FaultRule]:
        """The rules of the mix."""
        return [armed.rule for armed in self._mix]

    @property
    def queued(self) -> list[FaultRule]:
        """What is left in the queue; the limit of each is the number of calls that it will still strike."""
        return [
            armed.rule.model_copy(update={"limit": (armed.rule.limit or 1) - armed.struck}) for armed in self._queue
        ]

    def draw(self, call: CallKind, tags: tuple[str, ...], *, can_repeat: bool) -> FaultRule | None:
        """Decide the fault of the next call, or None; ``can_repeat``: there is a live certificate to give again."""
        self._drawn[call] += 1

        def strikes(armed: _Armed) -> bool:
            return armed.strikes(call, tags, can_repeat=can_repeat)

        chosen = next(filter(strikes, self._queue), None)
        if chosen is None and self._mix:
            chosen = next((armed for armed in self._mix if armed.burst_left and strikes(armed)), None)
            chosen = chosen or next(filter(strikes, self._drawn_from_mix(call)), None)
        if chosen is None:
            return None
        rule = chosen.strike()
        self._queue = [armed for armed in self._queue if not armed.spent]
        return rule

    def _drawn_from_mix(self, call: CallKind) -> list[_Armed]:
        """Find the rule for the number that this call drew, if any; each rule has its own part of [0, 1)."""
        drawn = self._number(call)
        for armed in self._mix:
            if armed.rule.call is call:
                drawn -= armed.rule.probability
                if drawn < 0:
                    return [armed]
        return []

    def _number(self, call: CallKind) -> float:
        digest = blake2b(f"{self._seed}/{call}/{self._drawn[call]}".encode(), digest_size=8).digest()
        return float(int.from_bytes(digest) / 2**64)
