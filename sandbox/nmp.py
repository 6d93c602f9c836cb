"""The NMP's HTTP routes, as an ASGI application without a framework: it must answer thousands of calls a second.

It follows the pages individual-links, reset-reserved-nfts, get-nfts-list-by-tags, count-nfts-by-tags and
make-your-certificate-claimable of the public NMP documentation (v1.7 to v2.1).
Nothing here is logged: paths have tags, bodies and answers have links.
"""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from sandbox.answers import bad_request
from sandbox.calls import Call, LinkFormat
from sandbox.faults import CallKind, Fault
from sandbox.platform import Platform
from sandbox.switches import TagRule
from sandbox.wire import Receive, Scope, Send, send_answer, send_whole

MOST_BODY = 1_000_000  # bytes
MOST_REQUEST_ID = 100  # bytes


class BadRequestError(Exception):
    """A request that the NMP's pages do not allow; the message is for the caller."""

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


class NmpApi:
    """Reads a call, waits for its latency, and sends what the platform answers."""

    def __init__(self, platform: Platform):
        self._platform = platform
        self._latency = random.Random(platform.seed)  # noqa: S311 - a schedule, no secret
        self.under_way = 0
        self.most_under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            call = await self._read(scope, receive)
        except BadRequestError as error:
            await send_whole(bad_request(str(error), error.status), send)
        else:
            await self._serve(call, scope, receive, send)
        finally:
            self.under_way -= 1

    async def _serve(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        shortest, longest = self._platform.switches.latency_ms
        latency = self._latency.uniform(shortest, longest) / 1000 if longest else 0.0
        if latency:  # half before the effect and half after, so that a caller can be killed before and after it
            await asyncio.sleep(latency / 2)
        answer = self._platform.call(call)
        if latency:
            await asyncio.sleep(latency / 2)
        if answer.fault is not None and answer.fault.fault is Fault.REDIRECT:
            own = scope["raw_path"].decode("latin-1") + "?" + scope["query_string"].decode("latin-1")
            answer.headers.append(("location", answer.fault.location or own))
        await send_answer(answer, scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive) -> Call:
        route = ROUTES.get(scope["path"])
        if route is None:
            message = "Not Found"
            raise BadRequestError(message, 404)
        method, read = route
        if scope["method"] != method:
            message = "Method Not Allowed"
            raise BadRequestError(message, 405)
        call = read(_query(scope)) if method == "GET" else read(await _body(receive))
        headers = dict(scope["headers"])
        key = headers[b"x-api-key"].decode("latin-1") if b"x-api-key" in headers else None
        request_id = headers.get(b"x-request-id", b"")[:MOST_REQUEST_ID].decode("latin-1") or None
        return replace(call, user=self._platform.user_of(key), has_key=key is not None, request_id=request_id)


def _query(scope: Scope) -> dict[str, str]:
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    query = dict(pairs)
    if len(query) < len(pairs):
        message = "a parameter is given twice; several tags are separated by commas"
        raise BadRequestError(message)
    return query


async def _body(receive: Receive) -> Any:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            text = "the body is too large"
            raise BadRequestError(text, 413)
        if not message.get("more_body"):
            break
    try:
        return json.loads(body)
    except ValueError:
        text = "the body is not JSON"
        raise BadRequestError(text) from None


def _tags(query: dict[str, str]) -> tuple[str, ...]:
    if "tags" not in query:
        message = "the parameter tags is missing"
        raise BadRequestError(message)
    return tuple(query["tags"].split(","))


def _reserve(query: dict[str, str]) -> Call:
    try:
        link_format = LinkFormat(query.get("format", LinkFormat.LINK_OBJECT))
    except ValueError:
        message = "format is link or linkObject"
        raise BadRequestError(message) from None
    return Call(CallKind.RESERVE, tags=_tags(query), format=link_format)


def _reset(query: dict[str, str]) -> Call:
    return Call(CallKind.RESET, tags=_tags(query))


def _replace(body: Any) -> Call:
    if not isinstance(body, list) or len(body) not in (1, 2):
        message = "the body is [certificateId] or [certificateId, passphrase]"
        raise BadRequestError(message)
    certificate_id, passphrase = body[0], body[1] if len(body) == 2 else None
    if not str(certificate_id).isdecimal() or not isinstance(passphrase, str | None):
        message = "certificateId is a number and passphrase a string"
        raise BadRequestError(message)
    return Call(CallKind.REPLACE, certificate_id=int(certificate_id), passphrase=passphrase)


def _claimed(kind: CallKind) -> Callable[[Any], Call]:
    def read(body: Any) -> Call:
        tags = body.get("tags") if isinstance(body, dict) else None
        if not isinstance(tags, list) or not tags or not all(isinstance(tag, str) for tag in tags):
            message = "tags is a list of strings"
            raise BadRequestError(message)
        try:
            rule = TagRule(body.get("tagRule", TagRule.AND))
        except ValueError:
            message = "tagRule is and or or"
            raise BadRequestError(message) from None
        return Call(kind, tags=tuple(tags), tag_rule=rule)

    return read


ROUTES: dict[str, tuple[str, Callable[[Any], Call]]] = {
    "/dispenser/distribution/reserveOne": ("GET", _reserve),
    "/dispenser/distribution/resetAll": ("GET", _reset),
    "/api/createCertificateRequestOwnershipLink": ("POST", _replace),
    "/certificate/getListOfSmartAssetsIdByTags": ("POST", _claimed(CallKind.LIST)),
    "/certificate/getCountOfSmartAssetsIdByTags": ("POST", _claimed(CallKind.COUNT)),
}
