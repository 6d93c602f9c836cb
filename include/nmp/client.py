"""The passport platform's HTTP API (NMP v1.7 to v2.1): the one module that calls it.

Pages: reserve-nfts and individual-links (reserve), reset-reserved-nfts (reset_all), check-nft-claiming-status,
count-nfts-by-tags and get-nfts-list-by-tags (claims), make-your-certificate-claimable (replace_link).

The reserve call is a GET with a side effect and without an idempotency key. So nothing here repeats a request: no
retry, no redirect, no proxy, no cookie; and the connection itself records the moment the request begins to leave,
because that moment, not the kind of an exception, decides whether a passport may have been consumed.
"""

import io
import json
import re
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.client import HTTPResponse as PlainHTTPResponse
from http.client import IncompleteRead
from ipaddress import ip_address
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import certifi
from requests import PreparedRequest, Request
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool, PoolManager, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.connection import create_connection

from include.nmp.answers import (
    BODY_LIMIT,
    LINK_HOSTS,
    CallFailure,
    Environment,
    LinkRules,
    RawAnswer,
    read_answer,
    why_no_answer,
    why_refused,
)

IDLE_LIMIT_SECONDS = 4.0
"""A kept connection that was idle longer is closed instead of used: Node's servers, for one, close theirs after 5 s."""

LISTING_LIMIT = 64 * 1024 * 1024
"""Bytes of a list of claimed certificates, which knows no paging: some five million ids."""

LISTING_SECONDS = 120.0
"""Total time of a call that is not a reservation; they walk whole tags."""

NO_SUCH_TAG = "passport-links-check-no-such-tag"
"""What `NmpClient.check` asks for: a tag that nobody has."""


_NUMBER = re.compile(r"[0-9]{1,78}")  # a token id has 256 bits


class NmpConfigurationError(ValueError):
    """The connection to the NMP is missing or wrong; one sentence that names what and the next step."""


class NmpError(Exception):
    """A call other than reserve did not succeed. Its text holds no key, link or body.

    ``possibly_done`` says whether the platform may have done what was asked all the same.
    """

    possibly_done = False


class NmpNotReachedError(NmpError):
    """The request never left."""


class NmpRefusedError(NmpError):
    """The platform answered and did not do it: 4xx."""


class NmpUncertainError(NmpError):
    """No answer, or one that does not say whether it was done: 3xx, 5xx, a timeout, a cut connection."""

    possibly_done = True


class NmpUnreadableError(NmpError):
    """It was done (200), but the answer is not what is documented."""

    possibly_done = True


@dataclass(frozen=True)
class NewLink:
    """The link that replaced another: of one certificate, to be kept like a password."""

    certificate_id: str
    link: str = field(repr=False)


@dataclass(frozen=True)
class NmpConnection:
    """Where the NMP is and with which key; ``base_url`` has a scheme and no trailing slash."""

    base_url: str
    api_key: str = field(repr=False)
    rules: LinkRules = field(default_factory=LinkRules)

    @classmethod
    def validated(
        cls,
        base_url: str,
        api_key: str | None,
        environment: str | None = None,
        link_hosts: Iterable[str] = (),
    ) -> "NmpConnection":
        """Check what a person configured; raises NmpConfigurationError with one sentence and never the key.

        ``environment`` is ``test`` or ``production``, ``link_hosts`` are bare host names; unset, both accept any link.
        """
        key = (api_key or "").strip()
        if not key:
            message = "the connection nmp has no API key: put it into the connection's password"
            raise NmpConfigurationError(message)
        if not key.isascii() or not key.isprintable():
            message = "the API key of the connection nmp holds characters that no HTTP header can carry: copy it again"
            raise NmpConfigurationError(message)
        known = environment or None
        if known is not None and known not in list(Environment):
            message = f"the connection nmp has the environment {known!r}: use test, production, or leave it out"
            raise NmpConfigurationError(message)
        return cls(_checked_url(base_url), key, LinkRules(known, _checked_hosts(link_hosts, known)))


class NmpClient:
    """Calls one NMP; one per process serves any number of threads at once.

    Takes a checked connection; ``connect_timeout`` (name lookup, TCP and TLS together) and ``read_timeout`` (the
    longest silence) are seconds. ``ca_bundle`` is a PEM file that replaces the trusted authorities, which are otherwise
    the system's and certifi's. Environment variables for proxies, .netrc and CA bundles are not read.
    """

    def __init__(
        self,
        connection: NmpConnection,
        *,
        connect_timeout: float = 5,
        read_timeout: float = 25,
        pool_size: int = 64,
        ca_bundle: Path | None = None,
    ) -> None:
        self.connection = connection
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._lookups = _Lookups()
        self._adapter = _Adapter(pool_size, _trust(ca_bundle) if connection.base_url.startswith("https:") else None)

    def reserve(self, tag: str, *, deadline: float) -> RawAnswer:
        """Ask for one passport of a tag: ``GET /dispenser/distribution/reserveOne``, exactly once.

        ``deadline`` is on ``time.monotonic()`` and holds for the whole call, name lookup and a dripping answer
        included; it is checked again just before the first byte leaves. Gives back the answer unparsed; raises
        ValueError for a tag that cannot be sent, and nothing for trouble on the way.
        """
        return self._call("GET", "/dispenser/distribution/reserveOne", deadline, tag=tag, format="linkObject")

    def reset_all(self, tag: str) -> int:
        """Take back what is reserved and unclaimed under a tag: ``GET /dispenser/distribution/resetAll``.

        Gives the count that the platform gave, which need not be all of them; 0 also for a tag that does not exist.
        Raises NmpError; where that is ``possibly_done``, the reset may have happened.
        """
        doing = f"the reset of tag {tag!r}"
        deadline = time.monotonic() + LISTING_SECONDS
        raw = self._call("GET", "/dispenser/distribution/resetAll", deadline, tag=tag)
        return _count(self._answered(raw, doing), doing)

    def claimed_certificates(self, tag: str) -> set[str]:
        """Ids of all passports ever claimed under a tag: ``POST /certificate/getListOfSmartAssetsIdByTags``.

        An unknown tag gives an empty set. Raises NmpError.
        """
        doing = f"the list of claimed passports of tag {tag!r}"
        result = self._claims("/certificate/getListOfSmartAssetsIdByTags", tag, doing)
        ids = result.get("smartAssetsId") if isinstance(result, dict) else None
        if not isinstance(ids, list) or not all(isinstance(value, str) and _NUMBER.fullmatch(value) for value in ids):
            raise _unreadable(doing)
        return set(ids)

    def claimed_count(self, tag: str) -> int:
        """How many passports were ever claimed under a tag: ``POST /certificate/getCountOfSmartAssetsIdByTags``.

        An unknown tag gives 0. Raises NmpError.
        """
        doing = f"the count of claimed passports of tag {tag!r}"
        return _count(self._claims("/certificate/getCountOfSmartAssetsIdByTags", tag, doing), doing)

    def replace_link(self, certificate_id: str) -> NewLink:
        """End the link of one passport by giving it another: ``POST /api/createCertificateRequestOwnershipLink``.

        An on-chain transaction: it costs, and the old link ends once it is mined. Raises ValueError for an id that is
        no number, else NmpError.
        """
        if not _NUMBER.fullmatch(certificate_id):
            message = f"the certificate id {certificate_id!r} is not a number: take it from passport_ops.passport"
            raise ValueError(message)
        doing = f"the new link of certificate {certificate_id}"
        deadline = time.monotonic() + LISTING_SECONDS
        path = "/api/createCertificateRequestOwnershipLink"
        raw = self._call("POST", path, deadline, body=[int(certificate_id)])
        if raw.status == 200:
            reading = read_answer(raw, self.connection.rules)
            if reading.link is None or reading.certificate_id != certificate_id:
                raise _unreadable(doing)
            return NewLink(certificate_id, reading.link)
        raise self._problem(raw, doing)

    def check(self) -> str:
        """Try host and key without reserving; gives one or two sentences on what that proved and what it could not.

        Counts the claims of a tag that nobody has, which needs the right certRead. Raises NmpError.
        """
        claimed = self.claimed_count(NO_SUCH_TAG)
        if claimed:
            message = f"the NMP at {self._host} counts {claimed} claims for a tag that does not exist: it ignores tags"
            raise NmpUnreadableError(message)
        plain = "" if self.connection.base_url.startswith("https:") else " The key travels unencrypted (http)."
        return (
            f"The NMP at {self._host} answers and its API key may read claims (certRead). Whether the key may reserve "
            f"(certCreate) and reset cannot be seen without consuming a passport.{plain}"
        )

    def close(self) -> None:
        """Close the connections that are kept for the next call."""
        self._adapter.close()

    @property
    def _host(self) -> str:
        return urlsplit(self.connection.base_url).netloc

    def _claims(self, path: str, tag: str, doing: str) -> Any:
        _checked_tag(tag)
        body = {"tags": [tag], "tagRule": "and", "uniqueOwner": True}
        raw = self._call("POST", path, time.monotonic() + LISTING_SECONDS, body=body, limit=LISTING_LIMIT)
        answer = self._answered(raw, doing)
        return answer.get("result") if isinstance(answer, dict) else None

    def _answered(self, raw: RawAnswer, doing: str) -> Any:
        """The JSON of a 200, with numbers as strings."""
        if raw.status != 200:
            raise self._problem(raw, doing)
        try:
            return json.loads(raw.body, parse_int=str, parse_float=str, parse_constant=str)
        except (ValueError, RecursionError):
            raise _unreadable(doing) from None

    def _problem(self, raw: RawAnswer, doing: str) -> NmpError:
        """What stands between a call and its 200, as one of the errors."""
        failed = f"{doing} failed at the NMP {self._host}"
        if raw.failure is CallFailure.NOT_SENT:
            return NmpNotReachedError(f"{failed}: {why_no_answer(raw)}")
        if raw.status is None:
            return NmpUncertainError(f"{failed}, or was done all the same: {why_no_answer(raw)}")
        if 400 <= raw.status < 500:
            return NmpRefusedError(f"{failed}: {why_refused(raw.status)}")
        return NmpUncertainError(f"{failed}, or was done all the same: it answered {raw.status}")

    def _call(
        self,
        method: str,
        path: str,
        deadline: float,
        *,
        tag: str | None = None,
        body: object = None,
        limit: int = BODY_LIMIT,
        **params: str,
    ) -> RawAnswer:
        """Send one request, once; gives what came of it and never raises for trouble on the way."""
        query = params if tag is None else {"tags": _checked_tag(tag), **params}
        headers = {
            "x-api-key": self.connection.api_key,
            "Accept": "application/json, text/plain;q=0.9, */*;q=0.1",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
            "User-Agent": "passport-links",
        }
        url = self.connection.base_url + path
        request = Request(method, url, headers=headers, params=query, json=body).prepare()
        call = _Call(deadline, self._connect_timeout, self._read_timeout, self._lookups)
        try:
            with call.under_way():
                return self._adapter.exchange(request, limit)
        except Exception as trouble:  # whatever it is, only `call.left` decides what it means
            cause = _root_cause(trouble)
            failure = _failure(cause) if call.left else CallFailure.NOT_SENT
            return RawAnswer(None, b"", None, failure, type(cause).__name__)


# -- what a person configured, and what an answer counts ---------------------------------------------------------------

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def _checked_url(base_url: str) -> str:
    """The base URL without trailing slash; names it in an error only where it cannot hold a secret."""
    try:
        parts = urlsplit(base_url.strip())
        _ = parts.port  # raises where it is no number
    except ValueError:
        message = "the host of the connection nmp is no URL: write it like https://nmp.example"
        raise NmpConfigurationError(message) from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        message = (
            "the host of the connection nmp holds more than scheme, host, port and path: write it like "
            "https://nmp.example and put the API key into the password"
        )
    elif parts.scheme not in ("http", "https"):
        message = f"the host of the connection nmp is {base_url!r}: write it with its scheme, like https://nmp.example"
    elif not parts.hostname or re.search(r"[^!-~]", base_url.strip()):
        message = (
            f"the host of the connection nmp is {base_url!r}, which names no host: write it like https://nmp.example"
        )
    else:
        return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    raise NmpConfigurationError(message)


def _checked_hosts(link_hosts: Iterable[str], environment: str | None) -> tuple[str, ...]:
    hosts = tuple(dict.fromkeys(host.strip().lower() for host in link_hosts if host.strip()))
    for host in hosts:
        if not _HOST.fullmatch(host):
            message = f"link_hosts of the connection nmp has {host!r}: write bare host names, like links.brand.example"
            raise NmpConfigurationError(message)
        for other, its_hosts in LINK_HOSTS.items():
            if environment and other != environment and host in its_hosts:
                message = (
                    f"the connection nmp contradicts itself: its environment is {environment} and its link_hosts has "
                    f"{host}, a host of {other.value}"
                )
                raise NmpConfigurationError(message)
    return hosts


def _checked_tag(tag: str) -> str:
    if "," in tag or not tag.strip():
        message = f"the tag {tag!r} cannot be sent: the NMP reads a comma as two tags and needs at least one"
        raise ValueError(message)
    return tag


def _count(answer: Any, doing: str) -> int:
    count = answer.get("count") if isinstance(answer, dict) else None
    if not isinstance(count, str) or not _NUMBER.fullmatch(count):
        raise _unreadable(doing)
    return int(count)


def _unreadable(doing: str) -> NmpUnreadableError:
    return NmpUnreadableError(f"{doing} was answered with 200, but not in the documented form")


# -- one call on the wire ----------------------------------------------------------------------------------------------


class DeadlinePassedError(Exception):
    """The deadline came while nothing had left yet."""


class _EndUnknownError(Exception):
    """Nothing says where the body ends, and it does not show it either."""


@dataclass
class _Call:
    """One request under way: its limits, and whether its first byte may have left."""

    deadline: float  # on time.monotonic()
    connect_timeout: float
    read_timeout: float
    lookups: "_Lookups"
    left: bool = False

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Let the connection that serves this thread find the call."""
        token = _CALL.set(self)
        try:
            yield
        finally:
            _CALL.reset(token)

    def leave(self) -> None:
        """To be called just before the first byte; raises DeadlinePassedError where it is too late."""
        if not self.left and time.monotonic() >= self.deadline:
            raise DeadlinePassedError
        self.left = True

    def patience(self, until: float) -> float:
        """Seconds that the next step may take, not beyond ``until`` and the deadline; raises where none are left."""
        seconds = min(until, self.deadline) - time.monotonic()
        if seconds > 0:
            return seconds
        raise TimeoutError if self.left or until < self.deadline else DeadlinePassedError


_CALL: ContextVar[_Call] = ContextVar("nmp_call")


class _Lookups:
    """Name lookups that a caller can stop waiting for: getaddrinfo knows no timeout, so it runs in a thread.

    Calls that wait for the same name share one lookup; a lookup that hangs costs one thread, not one per call.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._under_way: dict[str, Future[list[str]]] = {}

    def addresses(self, host: str, patience: float) -> list[str]:
        """The host's addresses, in the system's order; raises gaierror, or TimeoutError after ``patience`` seconds."""
        try:
            return [str(ip_address(host))]
        except ValueError:
            pass
        with self._lock:
            found = self._under_way.get(host)
            if found is None:
                found = self._under_way[host] = Future()
                Thread(target=self._look_up, args=(host, found), name="nmp-lookup", daemon=True).start()
        return found.result(timeout=patience)

    def _look_up(self, host: str, found: Future[list[str]]) -> None:
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found.set_result(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))
        except Exception as trouble:  # gaierror, or UnicodeError for a name that no DNS can hold
            found.set_exception(trouble)
        finally:
            with self._lock:
                del self._under_way[host]


class _WatchedReader(io.RawIOBase):
    """Reads a socket so that every single read ends by the call's deadline: what drips cannot outlast it."""

    def __init__(self, stream: io.RawIOBase, sock: socket.socket, call: _Call) -> None:
        self._stream = stream
        self._sock = sock
        self._call = call
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._ended:
            return 0
        self._sock.settimeout(self._call.patience(time.monotonic() + self._call.read_timeout))
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()

    def end(self) -> None:
        """Read nothing more from the socket."""
        self._ended = True

    def shut_down(self) -> None:
        """Make the connection useless for a further call."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def holds_more(self) -> bool:
        """Whether TLS has decrypted bytes that nobody has read."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0


class _WatchedStream(io.BufferedReader):
    """The buffer over a _WatchedReader; what it holds beyond the answer must not pass for the next call's answer."""

    def __init__(self, reader: _WatchedReader) -> None:
        super().__init__(reader)
        self._reader = reader

    def close(self) -> None:
        if not self.closed:
            self._reader.end()
            if self.peek(1) or self._reader.holds_more():
                self._reader.shut_down()
        super().close()


class _WatchedResponse(PlainHTTPResponse):
    """http.client's response, read through a _WatchedReader."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = _WatchedStream(_WatchedReader(self.fp.detach(), sock, _CALL.get()))

    def begin(self, *args: Any, **kwargs: Any) -> None:
        super().begin(*args, **kwargs)
        # urllib3 logs header lines that it cannot parse, and in a mangled answer such a line may be the link.
        self.headers.set_payload("")
        self.headers.defects.clear()
        # After 1xx, 204 and redirects more may follow that would pass for the next call's answer.
        if self.status != 200 and self.status < 400:
            self.will_close = True


class _WatchedConnection(HTTPConnection):
    """A connection that keeps to the limits of the call it serves, and tells it when the request leaves."""

    response_class = _WatchedResponse
    last_used = 0.0  # time.monotonic() of the last answer

    def _new_conn(self) -> socket.socket:
        """Connect within the connect timeout, which each further address shares; TLS gets what is left of it."""
        call = _CALL.get()
        until = time.monotonic() + call.connect_timeout
        addresses = call.lookups.addresses(self.host.strip("[]"), call.patience(until))
        for position, address in enumerate(addresses):
            others = len(addresses) - position - 1
            try:
                sock = create_connection(
                    (address, self.port), call.patience(until) / (others + 1), socket_options=self.socket_options
                )
            except OSError:
                if not others:
                    raise
            else:
                sock.settimeout(call.patience(until))
                return sock
        raise ConnectionRefusedError  # no address at all

    @property
    def is_connected(self) -> bool:
        """Whether a kept connection may be used again: not closed, nothing unread, and not idle for long."""
        return super().is_connected and time.monotonic() - self.last_used < IDLE_LIMIT_SECONDS

    def send(self, data: Any) -> None:
        """Send bytes of the request; before the first of them the call decides whether it is too late."""
        if self.sock is None:
            self.connect()
        call = _CALL.get()
        call.leave()
        self.sock.settimeout(call.patience(call.deadline))
        super().send(data)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 has it
        """The answer's status and headers."""
        response = super().getresponse()
        self.last_used = time.monotonic()
        return response


class _WatchedTLSConnection(_WatchedConnection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _WatchedConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTLSConnection


class _Adapter(HTTPAdapter):
    """requests' transport without its Session, which keeps cookies and reads ahead into redirects."""

    def __init__(self, pool_size: int, trust: ssl.SSLContext | None) -> None:
        self._trust = trust
        super().__init__(pool_connections=1, pool_maxsize=pool_size, max_retries=Retry(0, read=False))

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        """Called by requests: the pool of watched connections, which never waits for a free one."""
        self.poolmanager = PoolManager(connections, maxsize=maxsize, block=block, ssl_context=self._trust, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Called by requests: nothing to do, the one TLS context of the pool verifies (loading it per call is slow)."""

    def exchange(self, request: PreparedRequest, limit: int) -> RawAnswer:
        """Send a request and read its answer, of whose body at most ``limit`` bytes and one more are kept."""
        call = _CALL.get()
        answer: HTTPResponse = self.send(request, stream=True, timeout=(call.connect_timeout, call.read_timeout)).raw
        whole = False
        try:
            says_its_end = bool(answer.chunked) or answer.length_remaining is not None
            body, whole = _body(answer, limit)
            if answer.status == 200 and not says_its_end and not _is_json(body):
                raise _EndUnknownError
            return RawAnswer(answer.status, body, answer.headers.get("Retry-After"))
        finally:
            if not whole:
                answer.close()
            answer.release_conn()


def _body(answer: HTTPResponse, limit: int) -> tuple[bytes, bool]:
    """The body and whether it is whole. Where the status alone decides, a body that fails to come is no failure."""
    body = bytearray()
    try:
        while len(body) <= limit and (chunk := answer.read(limit + 1 - len(body), decode_content=False)):
            body += chunk
    except Exception:
        if answer.status in (200, 400):
            raise
        return b"", False
    return bytes(body), len(body) <= limit


def _is_json(body: bytes) -> bool:
    """Whether a body shows by itself that it is whole."""
    try:
        return isinstance(json.loads(body), dict | str)
    except (ValueError, RecursionError):
        return False


def _trust(ca_bundle: Path | None) -> ssl.SSLContext:
    if ca_bundle is not None:
        return ssl.create_default_context(cafile=ca_bundle)
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _root_cause(trouble: BaseException) -> BaseException:
    """What requests and urllib3 wrapped: the innermost exception."""
    inner = [getattr(trouble, "reason", None), *reversed(trouble.args), trouble.__cause__]
    wrapped = next((cause for cause in inner if isinstance(cause, BaseException)), None)
    return trouble if wrapped is None else _root_cause(wrapped)


def _failure(cause: BaseException) -> CallFailure:
    """What went wrong after the request may have left; only words for a person hang on it, all are ambiguous."""
    if isinstance(cause, TimeoutError):
        return CallFailure.TIMEOUT
    if isinstance(cause, IncompleteRead | _EndUnknownError):
        return CallFailure.TRUNCATED
    if isinstance(cause, OSError):  # ConnectionError and, over TLS, SSLError
        return CallFailure.RESET
    return CallFailure.BROKEN
