"""One HTTP request on the network, sent exactly once and limited by a deadline.

The reserve call is a GET with a side effect and without an idempotency key. So nothing here repeats a request: no
retry, no redirect, no proxy, no cookie. The connection itself records the moment before the first byte is sent: that
moment, not the class of an exception, decides whether a passport may have been consumed.

``requests`` prepares the request, ``urllib3`` and ``http.client`` speak HTTP; the classes here add the deadline to
every step of theirs.
"""

import io
import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPResponse as PlainHTTPResponse
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import certifi
from requests import PreparedRequest, Request
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool, PoolManager, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.connection import create_connection

from include.nmp.answers import CallFailure, RawAnswer
from include.nmp.lookups import Lookups

PIECE_LIMIT = 64 * 1024
"""Bytes of an answer that are read at once when it is read piece by piece."""

IDLE_LIMIT_SECONDS = 4.0
"""A kept connection that was idle longer is closed instead of used: servers on Node, for one, close theirs after 5 s.
"""


class Wire:
    """Send requests to one host; serves any number of threads at once.

    The timeouts are seconds: ``connect_timeout`` for name lookup, TCP and TLS together, ``read_timeout`` for the
    longest silence. ``pool_size`` connections at most are kept for the next request. ``ca_bundle`` (PEM) replaces the
    trusted authorities.
    """

    def __init__(
        self, connect_timeout: float, read_timeout: float, *, pool_size: int, encrypted: bool, ca_bundle: Path | None
    ) -> None:
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._lookups = Lookups()
        self._adapter = _Adapter(pool_size, _trust(ca_bundle) if encrypted else None)

    def exchange(
        self, request: Request, deadline: float, limit: int, *, read_timeout: float | None = None
    ) -> RawAnswer:
        """Send one request, once, and give what came back; raises nothing for a failure on the network.

        ``deadline`` is on ``time.monotonic()``, ``limit`` in bytes: of a longer body ``limit`` and one more are kept.
        ``read_timeout`` replaces the one of the wire.
        """
        call = self._call(deadline, read_timeout)
        prepared = request.prepare()
        try:
            with call.under_way():
                return self._adapter.exchange(prepared, limit)
        except Exception as error:  # only `call.sent` decides what it means
            return _failed(error, sent=call.sent)

    def stream(self, request: Request, deadline: float, *, read_timeout: float | None = None) -> "Stream":
        """Send one request, once, and give its answer to be read piece by piece; raises nothing, as `exchange`.

        Use it in a ``with`` block: it closes the connection.
        """
        call = self._call(deadline, read_timeout)
        prepared = request.prepare()
        try:
            with call.under_way():
                body = self._adapter.begin(prepared)
        except Exception as error:
            return Stream(_failed(error, sent=call.sent))
        return Stream(RawAnswer(body.status, b"", body.headers.get("Retry-After")), body)

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        self._adapter.close()

    def _call(self, deadline: float, read_timeout: float | None) -> "_Call":
        longest_silence = self._read_timeout if read_timeout is None else read_timeout
        return _Call(deadline, self._connect_timeout, longest_silence, self._lookups)


class Stream:
    """One answer that is read piece by piece.

    ``answer`` has no body; a failure of the connection while the body is read is put into it.
    """

    def __init__(self, answer: RawAnswer, body: HTTPResponse | None = None) -> None:
        self.answer = answer
        self._body = body

    def pieces(self) -> Iterator[bytes]:
        """Give the body in pieces of at most 64 KiB as they come, until it ends or fails; raises nothing."""
        try:
            while self._body is not None and (piece := self._body.read1(PIECE_LIMIT, decode_content=False)):
                yield piece
        except Exception as error:
            self.answer = _failed(error, sent=True)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        if self._body is not None:
            self._body.close()
            self._body.release_conn()


class DeadlinePassedError(Exception):
    """The deadline came before anything was sent."""


class _UnknownEndError(Exception):
    """No header says where the body ends, and the body does not show it either."""


@dataclass
class _Call:
    """One request under way: its limits, and whether its first byte may have been sent."""

    deadline: float  # on time.monotonic()
    connect_timeout: float
    read_timeout: float
    lookups: Lookups
    sent: bool = False

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Let the connection that serves this thread find the call."""
        token = _CALL.set(self)
        try:
            yield
        finally:
            _CALL.reset(token)

    def begin_sending(self) -> None:
        """Record that the next byte may be sent; raises DeadlinePassedError if it is too late."""
        if not self.sent and time.monotonic() >= self.deadline:
            raise DeadlinePassedError
        self.sent = True

    def seconds_left(self, until: float) -> float:
        """Give the seconds until ``until`` or the deadline, whichever is first; raises if none are left."""
        seconds = min(until, self.deadline) - time.monotonic()
        if seconds > 0:
            return seconds
        raise TimeoutError if self.sent or until < self.deadline else DeadlinePassedError


_CALL: ContextVar[_Call] = ContextVar("nmp_call")


class _WatchedReader(io.RawIOBase):
    """Read a socket so that each read ends by the call's deadline, also when the bytes come one by one."""

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
        self._sock.settimeout(self._call.seconds_left(time.monotonic() + self._call.read_timeout))
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

    def has_more(self) -> bool:
        """Say whether TLS has decrypted bytes that nobody has read."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0


class _WatchedStream(io.BufferedReader):
    """Buffer a _WatchedReader; bytes after the answer must not be read as the next call's answer."""

    def __init__(self, reader: _WatchedReader) -> None:
        super().__init__(reader)
        self._reader = reader

    def close(self) -> None:
        if not self.closed:
            self._reader.end()
            if self.peek(1) or self._reader.has_more():
                self._reader.shut_down()
        super().close()


class _WatchedResponse(PlainHTTPResponse):
    """The response of http.client, read through a _WatchedReader."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = _WatchedStream(_WatchedReader(self.fp.detach(), sock, _CALL.get()))

    def begin(self, *args: Any, **kwargs: Any) -> None:
        super().begin(*args, **kwargs)
        # urllib3 logs header lines that it cannot parse, and in a broken answer such a line may be the link.
        self.headers.set_payload("")
        self.headers.defects.clear()
        # After 1xx, 204 and redirects more bytes may come; the next call would read them as its answer.
        if self.status != 200 and self.status < 400:
            self.will_close = True


class _WatchedConnection(HTTPConnection):
    """A connection that keeps the limits of the call that it serves, and tells the call when sending begins."""

    response_class = _WatchedResponse
    last_used = 0.0  # time.monotonic() of the last answer

    def _new_conn(self) -> socket.socket:
        """Connect within the connect timeout, shared by all addresses; TLS gets the rest of it."""
        call = _CALL.get()
        until = time.monotonic() + call.connect_timeout
        addresses = call.lookups.addresses(self.host.strip("[]"), call.seconds_left(until))
        for position, address in enumerate(addresses):
            others = len(addresses) - position - 1
            try:
                sock = create_connection(
                    (address, self.port), call.seconds_left(until) / (others + 1), socket_options=self.socket_options
                )
            except OSError:
                if not others:
                    raise
            else:
                sock.settimeout(call.seconds_left(until))
                return sock
        raise ConnectionRefusedError  # the name has no address

    @property
    def is_connected(self) -> bool:
        """Whether a kept connection may be used again: open, nothing unread, and not idle for long."""
        return super().is_connected and time.monotonic() - self.last_used < IDLE_LIMIT_SECONDS

    def send(self, data: Any) -> None:
        """Send bytes of the request; before the first of them the call decides whether it is too late."""
        if self.sock is None:
            self.connect()
        call = _CALL.get()
        call.begin_sending()
        self.sock.settimeout(call.seconds_left(call.deadline))
        super().send(data)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 has it
        """Give the answer's status and headers."""
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
    """The transport of requests without its Session, which keeps cookies and reads the bodies of redirects."""

    def __init__(self, pool_size: int, trust: ssl.SSLContext | None) -> None:
        self._trust = trust
        super().__init__(pool_connections=1, pool_maxsize=pool_size, max_retries=Retry(0, read=False))

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        """Make the pool of watched connections, which never waits for a free one; requests calls it."""
        self.poolmanager = PoolManager(connections, maxsize=maxsize, block=block, ssl_context=self._trust, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the one TLS context of the pool verifies, and loading one per call is slow; requests calls it."""

    def begin(self, request: PreparedRequest) -> HTTPResponse:
        """Send a request and give its answer, unread; raises what requests, urllib3 and the socket raise."""
        call = _CALL.get()
        answer: HTTPResponse = self.send(request, stream=True, timeout=(call.connect_timeout, call.read_timeout)).raw
        return answer

    def exchange(self, request: PreparedRequest, limit: int) -> RawAnswer:
        """Send a request and read its answer; raises as `begin`."""
        answer = self.begin(request)
        whole = False
        try:
            says_its_end = bool(answer.chunked) or answer.length_remaining is not None
            body, whole = _body(answer, limit)
            if answer.status == 200 and not says_its_end and not _is_json(body):
                raise _UnknownEndError
            return RawAnswer(answer.status, body, answer.headers.get("Retry-After"))
        finally:
            if not whole:
                answer.close()
            answer.release_conn()


def _body(answer: HTTPResponse, limit: int) -> tuple[bytes, bool]:
    """Read the body; gives it and whether it is whole.

    Where the status alone decides what the answer means, a body that does not come is no failure.
    """
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
    """Say whether a body is an object or a string in JSON, which shows by itself that it is whole."""
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


def _root_cause(error: BaseException) -> BaseException:
    """Give the innermost exception, which requests and urllib3 wrapped."""
    inner = [getattr(error, "reason", None), *reversed(error.args), error.__cause__]
    wrapped = next((cause for cause in inner if isinstance(cause, BaseException)), None)
    return error if wrapped is None else _root_cause(wrapped)


def _failed(error: Exception, *, sent: bool) -> RawAnswer:
    cause = _root_cause(error)
    return RawAnswer(None, b"", None, _failure(cause) if sent else CallFailure.NOT_SENT, type(cause).__name__)


def _failure(cause: BaseException) -> CallFailure:
    """Name what went wrong after the request may have been sent; all kinds mean the same, only the words differ."""
    if isinstance(cause, TimeoutError):
        return CallFailure.TIMEOUT
    if isinstance(cause, IncompleteRead | _UnknownEndError):
        return CallFailure.TRUNCATED
    if isinstance(cause, OSError):  # ConnectionError and, over TLS, SSLError
        return CallFailure.RESET
    return CallFailure.BROKEN
