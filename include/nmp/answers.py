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
"""Bytes of one reserve answer that are kept; a longer one is unreadable. A documented answer has about 250."""

RETRY_AFTER_LIMIT = 300.0
"""Seconds: a longer Retry-After is read as this, so that a wrong header cannot stop a run for hours."""

EMPTY_POOL_CODE = "nmp.back.dispenser.oneToOne.noNFTsToSend"
"""The documented error code of an empty pool, and of a tag that does not exist."""


class CallFailure(StrEnum):
    """Why no complete HTTP answer arrived."""

    NOT_SENT = "not_sent"  # no byte of the request was sent
    TIMEOUT = "timeout"  # the deadline or the read timeout came first
    RESET = "reset"  # the connection ended before the answer did
    TRUNCATED = "truncated"  # the body is shorter than announced, or no header says where it ends
    BROKEN = "broken"  # the answer is not HTTP


class Environment(StrEnum):
    """The two environments of the NMP; the host of a link says which one the link is of."""

    TEST = "test"
    PRODUCTION = "production"


LINK_HOSTS = MappingProxyType(
    {
        Environment.TEST: frozenset({"test.arianee.net", "test.arian.ee"}),
        Environment.PRODUCTION: frozenset({"arianee.net", "arian.ee"}),
    }
)
"""The NMP's own link hosts; a brand may use other hosts, which say nothing about the environment."""


@dataclass(frozen=True)
class RawAnswer:
    """The answer of one call, unread; it goes to the database before it is read.

    Either ``status`` is an HTTP status or ``failure`` says why there is none. ``error`` is the class name of an
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
    """What one answer means. ``detail`` is safe to log: it holds nothing of the body but the one known error code.

    ``certificate_id`` and ``link`` are set for RESERVED and WRONG_LINK; ``retry_after`` is seconds, for THROTTLED only,
    if the NMP named a time.
    """

    outcome: AttemptOutcome
    detail: str
    status: int | None
    certificate_id: str | None = None
    link: str | None = field(default=None, repr=False)
    retry_after: float | None = None


def is_http_status(status: int | None) -> bool:
    """Whether a number can be an HTTP status: it has three digits."""
    return status is not None and 100 <= status <= 999


def read_answer(raw: RawAnswer, rules: LinkRules) -> Reading:
    """Read what an answer of the reserve call means; raises nothing, whatever the bytes are.

    Takes the unread answer and the links that its connection accepts; gives one of the outcomes that an answer alone
    can decide (never DUPLICATE, SPARE or ENDED).
    """
    if raw.failure is not None or raw.status is None or not is_http_status(raw.status):
        return _read_failure(raw)
    if raw.status == 200:
        return _read_link(raw, rules)
    return _read_status(raw, raw.status)


# -- answers without a link --------------------------------------------------------------------------------------------

_NOT_SENT_WORDS = {
    "gaierror": "the host name of the connection nmp could not be resolved",
    "ConnectionRefusedError": "the host of the connection nmp refused the connection",
    "TimeoutError": "the connection took too long",
    "DeadlinePassedError": "the deadline came before the request could be sent",
    "TurnMissed": "its engine closed or was held up when its turn came",
    "SSLCertVerificationError": "the TLS certificate of the host of the connection nmp is not trusted",
    "SSLError": "the TLS handshake failed",
}

_FAILURE_WORDS = {
    CallFailure.NOT_SENT: "there was no connection",
    CallFailure.TIMEOUT: "no complete answer came in time",
    CallFailure.RESET: "the connection ended before the answer did",
    CallFailure.TRUNCATED: "the answer is incomplete",
    CallFailure.BROKEN: "the answer is not HTTP",
}

_REFUSED_WORDS = {
    400: "400: the NMP did not understand the request; check the base URL of the connection nmp",
    401: "401: the NMP did not accept the API key; check the password of the connection nmp",
    403: "403: the API key is unknown or lacks a right (certCreate to reserve, certRead to read claims)",
    404: "404: no such route; check the base URL of the connection nmp",
    405: "405: the route does not accept this method; check the base URL of the connection nmp",
    429: "429: the NMP asks to slow down; try again later",
}


def why_no_answer(raw: RawAnswer) -> str:
    """Explain to a person why no complete answer arrived, with the exception's class name in brackets."""
    words = _FAILURE_WORDS[raw.failure] if raw.failure else "the answer is not known"
    if raw.failure is CallFailure.NOT_SENT:
        words = _NOT_SENT_WORDS.get(raw.error, words)
    return f"{words} ({ascii(raw.error)[1:-1][:200]})" if raw.error else words


def why_refused(status: int) -> str:
    """Explain to a person what a 4xx means and what to check next."""
    return _REFUSED_WORDS.get(status, f"{status}: the NMP refused the request")


def _read_failure(raw: RawAnswer) -> Reading:
    if raw.failure is CallFailure.NOT_SENT:
        return Reading(AttemptOutcome.NOT_SENT, f"the request was not sent: {why_no_answer(raw)}", None)
    detail = f"a passport may have been consumed: {why_no_answer(raw)}"
    return Reading(AttemptOutcome.UNKNOWN, detail, None)


def _read_status(raw: RawAnswer, status: int) -> Reading:
    wait = _seconds(raw.retry_after)
    if status < 300:
        detail = f"{status} instead of 200: counts as a consumed passport, but only a 200 has a link"
        return Reading(AttemptOutcome.UNREADABLE, detail, status)
    if status < 400:
        detail = f"{status}: a redirect, which is never followed; check the base URL of the connection nmp"
        return Reading(AttemptOutcome.REDIRECTED, detail, status)
    # A 503 without Retry-After may come from a gateway after the NMP made the reservation.
    if status == 429 or (status == 503 and wait is not None):
        detail = f"{status}: the NMP asks to slow down" + ("" if wait is None else f" for {wait:g} s")
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
    """Read the seconds of a Retry-After header (RFC 9110, 10.2.3: seconds or an HTTP date); None if unreadable."""
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
    r"(?P<certificate_id>[0-9]{1,78}),(?P<secret>[^,/?#]+)(?:,[^,/?#]*){0,2}"
    r"(?:\?[^#]*)?"
)
_NEVER_IN_A_LINK = re.compile(r"[^!-~]|[\"'<>\\^`{|}]")
_LINK_LENGTH_LIMIT = 2048

_REPEATED_FIELDS = (("certificateId", "certificate_id"), ("passphrase", "secret"))
"""Fields of a link object that repeat a part of its link: the NMP's name, and the group of ``_LINK``."""


class _Defect(StrEnum):
    """Why a 200 cannot be read, in words that hold nothing of it."""

    TOO_LONG = f"its body is longer than {BODY_LIMIT} bytes"
    NOT_TEXT = "its body is not text"
    NOT_JSON = "its body begins like JSON and is not valid JSON"
    NEITHER_FORMAT = "its body is neither a link nor a link object"
    NO_LINK = "its link object has no link"
    TWO_LINKS = "its link object has two links"
    OTHER_FORM = "its link does not have the documented form"
    CONTRADICTION = "its fields and its link contradict each other"


class _UnreadableError(Exception):
    """The body of a 200 cannot be read; the message is its defect."""

    def __init__(self, defect: _Defect) -> None:
        super().__init__(defect.value)


def _read_link(raw: RawAnswer, rules: LinkRules) -> Reading:
    try:
        found = _matched_link(raw.body)
    except _UnreadableError as defect:
        return Reading(AttemptOutcome.UNREADABLE, f"200: a passport was consumed, but {defect}", 200)
    certificate_id = found["certificate_id"]
    wrong = _wrong_host(found["host"].lower(), rules)
    if wrong:
        detail = f"200: a passport was consumed, but {wrong}; correct the connection nmp, then release the order"
        return Reading(AttemptOutcome.WRONG_LINK, detail, 200, certificate_id=certificate_id, link=found[0])
    return Reading(AttemptOutcome.RESERVED, "200 with a link", 200, certificate_id=certificate_id, link=found[0])


def _wrong_host(host: str, rules: LinkRules) -> str | None:
    """Explain why the rules do not accept a link's host; None if they do. Names only known hosts."""
    for environment, hosts in LINK_HOSTS.items():
        if rules.environment and host in hosts and environment != rules.environment:
            return f"its link is of {environment.value} ({host}) and the connection of {rules.environment}"
    if rules.link_hosts and host not in rules.link_hosts:
        return f"the host of its link is not in link_hosts ({', '.join(rules.link_hosts)})"
    return None


def _matched_link(body: bytes) -> re.Match[str]:
    """Find the one link of a 200, by ``_LINK``; raises _UnreadableError if the body contradicts it."""
    link, stated = _link_and_stated(body)
    found = _LINK.fullmatch(link)
    if found is None or len(link) > _LINK_LENGTH_LIMIT or _NEVER_IN_A_LINK.search(link):
        raise _UnreadableError(_Defect.OTHER_FORM)
    if any(value not in (found[name], unquote(found[name])) for name, value in stated):
        raise _UnreadableError(_Defect.CONTRADICTION)
    return found


def _link_and_stated(body: bytes) -> tuple[str, list[tuple[str, Any]]]:
    """Find the link of a 200 in either format, and the fields that repeat a part of it (by the group of ``_LINK``).

    ``format=link`` gives the link alone; ``linkObject`` has it in ``deeplink``, an object or (kiosk) a string; the
    answer of a replacement has it at the top. Content types are not documented, so the body alone decides.
    """
    answer = _parse(body)
    if isinstance(answer, str):
        return answer.strip(), []
    if not isinstance(answer, dict):
        raise _UnreadableError(_Defect.NEITHER_FORMAT)
    deeplink = answer.get("deeplink")
    parts = [answer, deeplink if isinstance(deeplink, dict) else {"link": deeplink}]
    links = {link.strip() for part in parts if isinstance(link := part.get("link"), str)}
    if len(links) != 1:
        raise _UnreadableError(_Defect.TWO_LINKS if links else _Defect.NO_LINK)
    stated = [(name, part[key]) for part in parts for key, name in _REPEATED_FIELDS if part.get(key) is not None]
    return links.pop(), stated


def _parse(body: bytes) -> Any:
    """Parse the body as JSON if it begins like JSON, else give it as text; raises _UnreadableError."""
    if len(body) > BODY_LIMIT:
        raise _UnreadableError(_Defect.TOO_LONG)
    try:
        text = body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise _UnreadableError(_Defect.NOT_TEXT) from None
    if not text.startswith(("{", "[", '"')):
        return text
    try:
        return parsed_json(text)
    except ValueError:
        raise _UnreadableError(_Defect.NOT_JSON) from None


def parsed_json(text: str | bytes) -> Any:
    """Parse JSON with every number as the string that was sent, because ids exceed 2**53; raises ValueError."""
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except RecursionError:
        message = "the JSON is nested too deeply"
        raise ValueError(message) from None
