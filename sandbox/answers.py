"""What the NMP answers: every body, in the forms that the switches name, and what a fault makes of it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b

from sandbox.calls import LinkFormat
from sandbox.faults import TRAITS, Fault, FaultRule
from sandbox.pools import Passport
from sandbox.switches import MOST_EARLIER_CLAIMS, DeeplinkForm, Refusal, Switches

JSON_TYPE = "application/json; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"


@dataclass(slots=True)
class Answer:
    """What is sent back: ``body`` is complete, ``fault`` says what to do to it on the socket."""

    status: int
    body: bytes
    content_type: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    fault: FaultRule | None = None


# -- answers of the calls ----------------------------------------------------------------------------------------------


def link_of(passport: Passport, host: str, switches: Switches) -> str:
    """Give a passport's link at a host."""
    fields = [
        str(passport.certificate_id),
        passport.passphrase,
        "testnet",
        "0x0000000000000000000000000000000000000001",
    ]
    method = "requestOwnership/" if switches.link_method else ""
    query = f"?{switches.link_query}" if switches.link_query else ""
    return f"https://{host}/{method}{','.join(fields[: switches.link_fields])}{query}"


def reserved(passport: Passport, link: str, link_format: LinkFormat, switches: Switches) -> Answer:
    """Answer reserveOne with a passport."""
    if link_format is LinkFormat.LINK:
        newline = "\n" if switches.trailing_newline else ""
        return Answer(200, (link + newline).encode(), switches.link_content_type)
    fields = _fields(passport, switches)
    deeplink = link if switches.deeplink is DeeplinkForm.STRING else {**fields, "link": link}
    return _json({"method": "requestOwnership", **fields, "deeplink": deeplink}, switches)


def out_of_stock(switches: Switches) -> Answer:
    """Answer reserveOne when no pool has a passport left."""
    body = {
        "name": "API Error",
        "description": "No NFT found to distribute",
        "code": "nmp.back.dispenser.oneToOne.noNFTsToSend",
        "httpCode": 400,
    }
    return _json(body, switches, 400)


def reset(count: int, switches: Switches) -> Answer:
    """Answer resetAll with the number of passports that it took back."""
    return _json({"count": count}, switches)


def replaced(passport: Passport, link: str, switches: Switches) -> Answer:
    """Answer a replacement with the new link."""
    return _json({**_fields(passport, switches), "link": link}, switches)


class ReplacementRefused(StrEnum):
    """Why a replacement is refused, as the answer says it; not documented, so any business error."""

    NOT_OWNED = "notOwner"  # the passport is claimed or unknown
    NOT_CURRENT = "notCurrent"  # it was sent with another passphrase than the current one
    USED_BEFORE = "usedBefore"  # it was sent with a passphrase that it has or had


def not_replaced(why: ReplacementRefused, switches: Switches) -> Answer:
    """Answer a replacement that is refused."""
    body = {"message": "The link cannot be replaced", "code": f"nmp.back.certificate.{why}"}
    return _json(body, switches, switches.refused_replacement)


def claimed_list(earlier: Iterable[tuple[str, int]], certificate_ids: Iterable[int], switches: Switches) -> Answer:
    """Answer with the claimed certificates; ``earlier`` has tags and how many of their earlier claims come first."""
    ids = [earlier_ids(tag, count, switches.ids_as_strings) for tag, count in earlier if count]
    ids += [json.dumps(_id(each, switches)).encode() for each in certificate_ids]
    answer = _json({"result": {"smartAssetsId": []}}, switches)
    answer.body = answer.body.replace(b"[]", b"[%b]" % b",".join(ids), 1)
    return answer


@lru_cache(maxsize=2)
def earlier_ids(tag: str, count: int, as_strings: bool) -> bytes:
    """Write ids of passports that the sandbox never gave, of 12 digits and other ones for each tag.

    The text is kept, because writing millions of ids takes a second.
    """
    first = 10**11 + int.from_bytes(blake2b(tag.encode(), digest_size=8).digest()) % 80_000 * MOST_EARLIER_CLAIMS
    separator, end = ('","', '"') if as_strings else (",", "")
    return (end + separator.join(map(str, range(first, first + count))) + end).encode()


def claimed_count(count: int, switches: Switches) -> Answer:
    """Answer with the number of claimed certificates."""
    return _json({"result": {"count": count}}, switches)


def refused(refusal: Refusal, switches: Switches) -> Answer:
    """Answer a caller who may not call."""
    if isinstance(refusal.body, str):
        return Answer(refusal.status, refusal.body.encode(), HTML_TYPE)
    return _json(refusal.body, switches, refusal.status)


def nothing_done(switches: Switches) -> Answer:
    """Give the answer that a fault replaces when the call took no effect."""
    return _json({}, switches)


def bad_request(message: str, status: int) -> Answer:
    """Answer a request that no page of the NMP allows."""
    return Answer(status, json.dumps({"message": message}).encode(), JSON_TYPE)


def _fields(passport: Passport, switches: Switches) -> dict[str, int | str]:
    return {"certificateId": _id(passport.certificate_id, switches), "passphrase": passport.passphrase}


def _id(certificate_id: int, switches: Switches) -> int | str:
    return str(certificate_id) if switches.ids_as_strings else certificate_id


def _json(body: object, switches: Switches, status: int = 200) -> Answer:
    if switches.extra_fields and isinstance(body, dict):
        body = {**body, "undocumented": {"since": 2}}
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return Answer(status, text.encode(), switches.object_content_type)


# -- faults ------------------------------------------------------------------------------------------------------------


def with_fault(rule: FaultRule, answer: Answer) -> Answer:
    """Change an answer as a fault's content demands; what happens on the socket is done in ``wire.py``."""
    status = rule.status or TRAITS[rule.fault].status
    given_nothing = rule.fault is Fault.RUBBISH and answer.status != 200  # an empty pool keeps its answer
    if status is not None and not given_nothing:
        answer = _REPLACEMENTS[rule.fault](status)
    if rule.fault is Fault.CUT:
        answer.body = answer.body[: len(answer.body) // 2]
    if rule.retry_after_header is not None:
        answer.headers.append(("retry-after", rule.retry_after_header))
    answer.fault = rule
    return answer


def _text(body: str, content_type: str = HTML_TYPE) -> Callable[[int], Answer]:
    return lambda status: Answer(status, body.encode(), content_type)


_HTML = (
    "<!doctype html><html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1><hr>nginx</body></html>\n"
)
_REPLACEMENTS: dict[Fault, Callable[[int], Answer]] = {
    Fault.SERVER_ERROR_BEFORE: _text('{"message":"Internal Server Error"}', JSON_TYPE),
    Fault.SERVER_ERROR_AFTER: _text('{"message":"Internal Server Error"}', JSON_TYPE),
    Fault.TOO_MANY_REQUESTS: _text('{"message":"Too Many Requests"}', JSON_TYPE),
    Fault.UNAVAILABLE: _text('{"message":"Service Unavailable"}', JSON_TYPE),
    Fault.REDIRECT: _text(""),
    Fault.HTML_ERROR: _text(_HTML),
    Fault.RUBBISH: _text('{"method":"requestOwnership","certificateId":', JSON_TYPE),
}
