"""Read the answers of the reserve call; what each outcome means is the table in ``include/outcomes.py``.

Follows the NMP's pages reserve-nfts, individual-links and nft-kiosk (v1.7 to v2.1), and its undocumented answers.
Nothing here touches the network, so every reading can be repeated from a stored answer.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from include.outcomes import AttemptOutcome

BODY_LIMIT = 64 * 1024
"""Bytes of one reserve answer that are kept; a longer one is unreadable. A documented answer has some 250."""

RETRY_AFTER_LIMIT = 300.0
"""Seconds: a longer Retry-After is read as this, so that a run never sleeps for a server's typing error."""

EMPTY_POOL_CODE = "nmp.back.dispenser.oneToOne.noNFTsToSend"
"""The documented error code of an empty pool, and of a tag that does not exist."""


class CallFailure(StrEnum):
    """Why no complete HTTP answer arrived."""

    NOT_SENT = "not_sent"  # no byte of the request left this machine
    TIMEOUT = "timeout"  # the deadline or the read timeout came first
    RESET = "reset"  # the connection ended before the answer did
    TRUNCATED = "truncated"  # the body is shorter than announced, or nothing says where it ends
    BROKEN = "broken"  # what came back is not HTTP


class Environment(StrEnum):
    """The two worlds of the protocol; a link's host tells which one it belongs to."""

    TEST = "test"
    PRODUCTION = "production"


LINK_HOSTS = MappingProxyType(
    {
        Environment.TEST: frozenset({"test.arianee.net", "test.arian.ee"}),
        Environment.PRODUCTION: frozenset({"arianee.net", "arian.ee"}),
    }
)
"""The platform's own link hosts; a brand may use others, which say nothing about the environment."""


@dataclass(frozen=True)
class RawAnswer:
    """What came back of one call, unparsed; it goes to the database before it is read.

    Either ``status`` is an HTTP status or ``failure`` says why there is none. ``error`` holds the class name of an
    exception and nothing else: no URL, body or key.
    """

    status: int | None
    body: bytes = field(repr=False)
    retry_after: str | None = None
    failure: CallFailure | None = None
    error: str = ""


@dataclass(frozen=True)
class LinkRules:
    """Which links a connection accepts; unset and empty accept any.

    ``environment`` is ``test`` or ``production``, ``link_hosts`` are lower-case host names without scheme or port.
    """

    environment: str | None = None
    link_hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What one answer means. ``detail`` is safe to log: of the body it holds at most the one known error code.

    ``certificate_id`` and ``link`` are set for RESERVED, ``certificate_id`` alone for WRONG_LINK; ``retry_after`` is
    seconds and set for THROTTLED only, where the server named a time.
    """

    outcome: AttemptOutcome
    detail: str
    status: int | None
    certificate_id: str | None = None
    link: str | None = field(default=None, repr=False)
    retry_after: float | None = None


def read_answer(raw: RawAnswer, rules: LinkRules) -> Reading:
    """Say what an answer of the reserve call means; never raises, whatever the bytes.

    Takes the answer as it came and the links that its connection accepts; gives one of the outcomes that an answer
    alone can decide (never DUPLICATE, SPARE or ENDED).
    """
    if raw.failure is not None or raw.status is None:
        return _read_failure(raw)
    if raw.status == 200:
        return _read_link(raw, rules)
    return _read_status(raw, raw.status)


# -- answers without a link --------------------------------------------------------------------------------------------

_NOT_SENT_WORDS = {
    "gaierror": "the host's name could not be resolved",
    "ConnectionRefusedError": "the host refused the connection",
    "TimeoutError": "no connection was made in time",
    "DeadlinePassedError": "the deadline came before the request could leave",
    "SSLCertVerificationError": "the host's TLS certificate was not accepted",
    "SSLError": "the TLS handshake failed",
}

_FAILURE_WORDS = {
    CallFailure.NOT_SENT: "the connection could not be made",
    CallFailure.TIMEOUT: "no complete answer came in time",
    CallFailure.RESET: "the connection ended before the answer did",
    CallFailure.TRUNCATED: "the answer was cut short",
    CallFailure.BROKEN: "what came back was not HTTP",
}

_REFUSED_WORDS = {
    400: "400: the request was not understood; check the base URL of the connection nmp",
    401: "401: the API key was not accepted; check the password of the connection nmp",
    403: "403: the API key is not known or lacks a right (reserving needs certCreate, reading claims certRead)",
    404: "404: no such route; check the base URL of the connection nmp",
    405: "405: the route does not take this method; check the base URL of the connection nmp",
    429: "429: asked to slow down",
}


def why_no_answer(raw: RawAnswer) -> str:
    """Why no complete answer arrived, in words for a person, with the exception's class name in brackets."""
    words = _FAILURE_WORDS[raw.failure] if raw.failure else "no answer is known"
    if raw.failure is CallFailure.NOT_SENT:
        words = _NOT_SENT_WORDS.get(raw.error, words)
    return f"{words} ({raw.error})" if raw.error else words


def why_refused(status: int) -> str:
    """What a 4xx says and what to check next, in words for a person."""
    return _REFUSED_WORDS.get(status, f"{status}: the NMP refused the request")


def _read_failure(raw: RawAnswer) -> Reading:
    if raw.failure is CallFailure.NOT_SENT:
        return Reading(AttemptOutcome.NOT_SENT, f"the request never left: {why_no_answer(raw)}", None)
    detail = f"a passport may have been consumed: {why_no_answer(raw)}"
    return Reading(AttemptOutcome.UNKNOWN, detail, None)


def _read_status(raw: RawAnswer, status: int) -> Reading:
    wait = _seconds(raw.retry_after)
    if status < 300:
        detail = f"{status} instead of 200: taken as consumed, but no link is documented for it"
        return Reading(AttemptOutcome.UNREADABLE, detail, status)
    if status < 400:
        detail = f"{status}: the NMP redirects, which is not followed; check the base URL of the connection nmp"
        return Reading(AttemptOutcome.REDIRECTED, detail, status)
    # A 503 that names no time may come from a gateway after the reservation was made.
    if status == 429 or (status == 503 and wait is not None):
        detail = f"{status}: asked to slow down" + ("" if wait is None else f" for {wait:g} s")
        return Reading(AttemptOutcome.THROTTLED, detail, status, retry_after=wait)
    if status == 400 and _says_empty_pool(raw.body):
        return Reading(AttemptOutcome.OUT_OF_STOCK, f"the tag is empty or does not exist ({EMPTY_POOL_CODE})", status)
    if status < 500:
        return Reading(AttemptOutcome.REFUSED, why_refused(status), status)
    return Reading(AttemptOutcome.UNKNOWN, f"a passport may have been consumed: {status}", status)


def _says_empty_pool(body: bytes) -> bool:
    try:
        answer = _parse(body)
    except _UnreadableError:
        return False
    return isinstance(answer, dict) and answer.get("code") == EMPTY_POOL_CODE


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3: seconds or an HTTP date), None where it cannot be read."""
    value = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]+", value):
        return min(float(value), RETRY_AFTER_LIMIT)
    try:
        moment = parsedate_to_datetime(value)
        wait = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(wait, 0.0), RETRY_AFTER_LIMIT)


# -- a 200 and its link ------------------------------------------------------------------------------------------------

# https://<host>/[<method>/]<certificateId>,<passphrase>[,<protocol>[,<issuer>]][?query]
_LINK = re.compile(
    r"(?i:https)://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?/"
    r"(?:[A-Za-z0-9_-]+/)?"
    r"(?P<certificate_id>[0-9]{1,78}),(?P<passphrase>[^,/?#]+)(?:,[^,/?#]*){0,2}"
    r"(?:\?[^#]*)?"
)
_NEVER_IN_A_LINK = re.compile(r"[^!-~]|[\"'<>\\^`{|}]")
_LINK_LENGTH_LIMIT = 2048


class _Fault(StrEnum):
    """Why a 200 cannot be read, in words that hold nothing of it."""

    TOO_LONG = f"its body is longer than {BODY_LIMIT} bytes"
    NOT_TEXT = "its body is not text"
    NOT_JSON = "its body is not the JSON that it starts as"
    NEITHER_FORMAT = "its body is neither a link nor a link object"
    NO_LINK = "its link object holds no link"
    TWO_LINKS = "its link object holds two links"
    OTHER_FORM = "its link is not of the documented form"
    CONTRADICTION = "its fields and its link contradict each other"


class _UnreadableError(Exception):
    """A body that holds no link; holds one fault."""

    def __init__(self, fault: _Fault) -> None:
        super().__init__(fault.value)


def _read_link(raw: RawAnswer, rules: LinkRules) -> Reading:
    try:
        found = _matched_link(raw.body)
    except _UnreadableError as fault:
        return Reading(AttemptOutcome.UNREADABLE, f"200: a passport was consumed, but {fault}", 200)
    certificate_id = found["certificate_id"]
    wrong = _wrong_host(found["host"].lower(), rules)
    if wrong:
        detail = f"200: a passport was consumed, but {wrong}; check the connection nmp"
        return Reading(AttemptOutcome.WRONG_LINK, detail, 200, certificate_id=certificate_id)
    return Reading(AttemptOutcome.RESERVED, "200 with a link", 200, certificate_id=certificate_id, link=found[0])


def _wrong_host(host: str, rules: LinkRules) -> str | None:
    """Why a link's host is not acceptable, None where it is; names hosts of the rules and the platform only."""
    for environment, hosts in LINK_HOSTS.items():
        if rules.environment and host in hosts and environment != rules.environment:
            return f"its link belongs to {environment.value} ({host}) and the connection to {rules.environment}"
    if rules.link_hosts and host not in rules.link_hosts:
        return f"its link's host is none of link_hosts ({', '.join(rules.link_hosts)})"
    return None


def _matched_link(body: bytes) -> re.Match[str]:
    """The one link of a 200, matched by ``_LINK``, after everything the body states beside it agreed."""
    link, stated = _link_and_stated(body)
    found = _LINK.fullmatch(link)
    if found is None or len(link) > _LINK_LENGTH_LIMIT or _NEVER_IN_A_LINK.search(link):
        raise _UnreadableError(_Fault.OTHER_FORM)
    if any(value not in (found[name], unquote(found[name])) for name, value in stated):
        raise _UnreadableError(_Fault.CONTRADICTION)
    return found


def _link_and_stated(body: bytes) -> tuple[str, list[tuple[str, Any]]]:
    """The link of a 200 in either format, and what its fields state beside it (by the group names of ``_LINK``).

    ``format=link`` is the link alone; ``linkObject`` has it in ``deeplink``, an object or (kiosk) a string, and the
    link replacement at the top. Content types are not documented, so the body alone decides.
    """
    answer = _parse(body)
    if isinstance(answer, str):
        return answer.strip(), []
    if not isinstance(answer, dict):
        raise _UnreadableError(_Fault.NEITHER_FORMAT)
    deeplink = answer.get("deeplink")
    parts = [answer, deeplink if isinstance(deeplink, dict) else {"link": deeplink}]
    links = {link.strip() for part in parts if isinstance(link := part.get("link"), str)}
    if len(links) != 1:
        raise _UnreadableError(_Fault.TWO_LINKS if links else _Fault.NO_LINK)
    stated = [
        (name, part[key])
        for part in parts
        for key, name in (("certificateId", "certificate_id"), ("passphrase", "passphrase"))
        if part.get(key) is not None
    ]
    return links.pop(), stated


def _parse(body: bytes) -> Any:
    """The body as JSON, with every number as the string that was sent (ids exceed 2**53), or as text."""
    if len(body) > BODY_LIMIT:
        raise _UnreadableError(_Fault.TOO_LONG)
    try:
        text = body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise _UnreadableError(_Fault.NOT_TEXT) from None
    if not text.startswith(("{", "[", '"')):
        return text
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        raise _UnreadableError(_Fault.NOT_JSON) from None
