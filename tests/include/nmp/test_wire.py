"""Requests to real sockets: every way in which a call can fail, and whether it may have been done."""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import include.nmp.client
import include.nmp.wire
from include.nmp.answers import CallFailure, LinkRules, RawAnswer, read_answer
from include.outcomes import AttemptOutcome
from tests.include.nmp.raw_server import (
    AMPLE,
    BODY,
    KEY,
    LINK,
    PHRASE,
    SOON,
    Building,
    Serve,
    Server,
    Starting,
    always,
    ambiguous,
    answer,
    call,
    dripping,
    not_sent,
    once,
    reset,
    then_hang,
    then_reset,
)


def test_a_chunked_answer_is_whole(server: Starting, client: Building) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:], b""))
    nmp = server(always(head + chunks))
    built = client(nmp.url)
    assert [call(built).body, call(built).body] == [BODY, BODY]
    assert nmp.connections == 1


def test_json_that_ends_with_its_connection_is_whole(server: Starting, client: Building) -> None:
    nmp = server(once(b"HTTP/1.0 200 OK\r\n\r\n" + BODY))
    assert call(client(nmp.url)) == RawAnswer(200, BODY, None, None, "")


def test_tls_works_and_keeps_its_connection(
    server: Starting, client: Building, server_tls: ssl.SSLContext, authority: Path
) -> None:
    nmp = server(always(answer()), server_tls)
    built = client(nmp.url, ca_bundle=authority)
    assert [call(built).status for _ in range(3)] == [200, 200, 200]
    assert (nmp.connections, len(nmp.requests)) == (1, 3)


def test_tls_answers_that_end_with_their_connection_are_read(
    server: Starting, client: Building, server_tls: ssl.SSLContext, authority: Path
) -> None:
    nmp = server(once(answer(BODY, "200 OK", "Connection: close")), server_tls)
    built = client(nmp.url, ca_bundle=authority)
    assert [call(built).body, call(built).body] == [BODY, BODY]


def test_many_threads_each_get_the_answer_of_their_own_call(server: Starting, client: Building) -> None:
    def echo(server: Server, connection: socket.socket) -> None:
        while True:
            path = server.read_request(connection).split(" ")[1]
            connection.sendall(answer(parse_qs(urlsplit(path).query)["tags"][0].encode()))

    nmp = server(echo)
    built = client(nmp.url)
    tags = [f"tag-{number}" for number in range(400)]
    with ThreadPoolExecutor(32) as threads:
        bodies = list(threads.map(lambda tag: call(built, tag=tag).body.decode(), tags))
    assert bodies == tags
    assert len(nmp.requests) == 400
    assert nmp.connections <= 32


# -- not sent -------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_not_sent(client: Building) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert not_sent(call(client(f"http://127.0.0.1:{port}"))) == "ConnectionRefusedError"


def test_a_name_that_does_not_resolve_is_not_sent(client: Building) -> None:
    assert not_sent(call(client("http://nmp.invalid"))) == "gaierror"


def test_a_name_that_no_dns_can_hold_is_not_sent(client: Building) -> None:
    not_sent(call(client(f"http://{'a' * 70}.example")))


@pytest.fixture
def full_backlog() -> Iterator[int]:
    """The port of a listener that accepts nobody and whose queue is full: the kernel drops every further SYN."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize(("connect_timeout", "seconds"), [(SOON, AMPLE), (AMPLE, SOON)])
def test_a_connection_that_is_not_made_in_time_is_not_sent(
    connect_timeout: float, seconds: float, full_backlog: int, client: Building
) -> None:
    started = time.monotonic()
    raw = call(client(f"http://127.0.0.1:{full_backlog}", connect_timeout=connect_timeout), seconds)
    assert not_sent(raw) == "TimeoutError"
    assert SOON <= time.monotonic() - started < SOON + 1


def test_a_name_lookup_that_hangs_cannot_outlast_the_deadline_and_is_shared(
    client: Building, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The one thing here that is replaced: a resolver that hangs cannot be had without root.
    over, lookups = threading.Event(), []

    def hang(*args: object, **kwargs: object) -> list[object]:
        lookups.append(args)
        over.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    built = client("http://nmp.example")
    started = time.monotonic()
    try:
        with ThreadPoolExecutor(8) as threads:
            errors = {not_sent(raw) for raw in threads.map(lambda _: call(built, SOON), range(8))}
    finally:
        over.set()
    assert errors == {"TimeoutError"}
    assert SOON <= time.monotonic() - started < SOON + 1
    assert len(lookups) == 1


def test_the_second_address_of_a_name_is_tried_when_the_first_refuses(
    server: Starting, client: Building, monkeypatch: pytest.MonkeyPatch
) -> None:
    nmp = server(always(answer()))
    real = socket.getaddrinfo

    def two(host: str, *args: object, **kwargs: object) -> list[object]:
        addresses = ("127.0.0.2", "127.0.0.1") if host == "nmp.example" else (host,)
        return [entry for address in addresses for entry in real(address, *args, **kwargs)]  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    assert call(client(f"http://nmp.example:{nmp.port}")).status == 200
    assert nmp.connections == 1


def test_a_deadline_that_has_passed_opens_no_connection(server: Starting, client: Building) -> None:
    nmp = server(always(answer()))
    assert not_sent(call(client(nmp.url), -1)) == "DeadlinePassedError"
    assert nmp.connections == 0


def test_a_deadline_that_has_passed_sends_nothing_on_a_kept_connection(server: Starting, client: Building) -> None:
    nmp = server(always(answer()))
    built = client(nmp.url)
    assert call(built).status == 200
    assert not_sent(call(built, -1)) == "DeadlinePassedError"
    assert call(built).status == 200
    assert len(nmp.requests) == 2


def no_handshake(server: Server, connection: socket.socket) -> None:
    server.over.wait()


def handshake_drip(server: Server, connection: socket.socket) -> None:
    """The first record of a TLS 1.2 handshake, one byte at a time."""
    for byte in b"\x16\x03\x03\x40\x00\x02" + b"\x00" * 10_000:
        connection.sendall(bytes([byte]))
        if server.over.wait(0.02):
            return


def no_tls(server: Server, connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\nplain HTTP on a TLS port")


@pytest.mark.parametrize(
    ("serve", "error"),
    [
        (no_tls, "SSLError"),
        (no_handshake, "TimeoutError"),
        (handshake_drip, "TimeoutError"),
        (lambda _, connection: connection.recv(65536), "SSLEOFError"),
        (lambda _, connection: reset(connection), "ConnectionResetError"),
    ],
    ids=["speaks plain HTTP", "hangs", "drips", "ends", "resets"],
)
def test_a_tls_handshake_that_fails_is_not_sent(
    serve: Serve, error: str, server: Starting, client: Building, authority: Path
) -> None:
    nmp = server(serve)
    started = time.monotonic()
    built = client(nmp.url.replace("http:", "https:"), ca_bundle=authority, connect_timeout=SOON)
    assert not_sent(call(built)) == error
    assert time.monotonic() - started < SOON + 1


def test_a_tls_handshake_cannot_outlast_the_deadline(server: Starting, client: Building, authority: Path) -> None:
    nmp = server(no_handshake)
    started = time.monotonic()
    not_sent(call(client(nmp.url.replace("http:", "https:"), ca_bundle=authority, connect_timeout=AMPLE), SOON))
    assert SOON <= time.monotonic() - started < SOON + 1


def test_a_certificate_that_nobody_trusts_is_not_sent(
    server: Starting, client: Building, server_tls: ssl.SSLContext, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(authority))
    nmp = server(always(answer()), server_tls)
    assert not_sent(call(client(nmp.url))) == "SSLCertVerificationError"
    assert nmp.requests == []


def test_a_certificate_of_another_host_is_not_sent(
    server: Starting, client: Building, server_tls: ssl.SSLContext, authority: Path
) -> None:
    nmp = server(always(answer()), server_tls)
    raw = call(client(nmp.url.replace("127.0.0.1", "localhost"), ca_bundle=authority))
    assert not_sent(raw) == "SSLCertVerificationError"
    assert nmp.requests == []


# -- possibly consumed -------------------------------------------------------------------------------------------------


def test_a_connection_reset_before_the_request_is_read_is_ambiguous(server: Starting, client: Building) -> None:
    def serve(server: Server, connection: socket.socket) -> None:
        connection.recv(1)
        reset(connection)

    nmp = server(serve)
    assert ambiguous(call(client(nmp.url))) is CallFailure.RESET
    assert nmp.connections == 1


def test_a_connection_reset_after_the_request_is_read_is_ambiguous(server: Starting, client: Building) -> None:
    nmp = server(then_reset(b""))
    assert ambiguous(call(client(nmp.url))) is CallFailure.RESET
    assert len(nmp.requests) == 1


def test_a_request_whose_sending_breaks_off_is_ambiguous(
    server: Starting, client: Building, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(connection: Any, data: bytes) -> None:
        connection.sock.sendall(data)
        raise ConnectionResetError

    monkeypatch.setattr("include.nmp.wire.HTTPConnection.send", breaks_off)
    nmp = server(once(answer()))
    assert ambiguous(call(client(nmp.url))) is CallFailure.RESET


def test_an_answer_that_is_lost_is_ambiguous_and_not_asked_for_again(server: Starting, client: Building) -> None:
    nmp = server(once(b""))
    assert ambiguous(call(client(nmp.url))) is CallFailure.RESET
    assert len(nmp.requests) == 1


def test_a_lost_answer_on_a_kept_connection_is_not_asked_for_again(server: Starting, client: Building) -> None:
    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(answer())
        server.read_request(connection)

    nmp = server(serve)
    built = client(nmp.url)
    assert call(built).status == 200
    assert ambiguous(call(built)) is CallFailure.RESET
    assert (nmp.connections, len(nmp.requests)) == (1, 2)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SLOW = {
    "says nothing": then_hang(b""),
    "hangs in its status line": then_hang(b"HTTP/1.1 2"),
    "hangs in its headers": then_hang(b"HTTP/1.1 200 OK\r\nX-A: "),
    "hangs in its body": then_hang(HEAD + BODY),
    "hangs before the last chunk": then_hang(CHUNKED + b"1\r\n{\r\n"),
    "drips a status line": dripping(b"", b"HTTP/1.1 200 OK" + b" " * 9_000),
    "drips headers": dripping(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "drips a body": dripping(HEAD, b"x"),
    "drips chunks": dripping(CHUNKED, b"1\r\nx\r\n"),
    "drips a body without end": dripping(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x"),
    "drips 100 Continue": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("over_tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("serve", SLOW.values(), ids=SLOW.keys())
def test_an_nmp_that_is_slow_in_any_way_cannot_outlast_the_deadline(
    serve: Serve, over_tls: bool, server: Starting, client: Building, server_tls: ssl.SSLContext, authority: Path
) -> None:
    nmp = server(serve, server_tls if over_tls else None)
    built = client(nmp.url, ca_bundle=authority)
    started = time.monotonic()
    assert ambiguous(call(built, SOON)) is CallFailure.TIMEOUT
    assert SOON <= time.monotonic() - started < SOON + 1
    assert len(nmp.requests) == 1


def test_a_flood_of_interim_answers_cannot_outlast_the_deadline(server: Starting, client: Building) -> None:
    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        while not server.over.is_set():
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    started = time.monotonic()
    assert ambiguous(call(client(server(serve).url), SOON)) is CallFailure.TIMEOUT
    assert time.monotonic() - started < SOON + 1


def test_silence_longer_than_the_read_timeout_ends_a_call_before_its_deadline(
    server: Starting, client: Building
) -> None:
    started = time.monotonic()
    assert ambiguous(call(client(server(then_hang(HEAD)).url, read_timeout=SOON))) is CallFailure.TIMEOUT
    assert SOON <= time.monotonic() - started < SOON + 1


def test_the_late_answer_of_a_call_is_not_taken_for_the_next_ones(server: Starting, client: Building) -> None:
    late = threading.Event()

    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        if len(server.requests) == 1:
            late.wait()
            connection.sendall(answer(b"late"))
        else:
            connection.sendall(answer(b"own"))

    nmp = server(serve)
    built = client(nmp.url)
    assert ambiguous(call(built, SOON)) is CallFailure.TIMEOUT
    late.set()
    assert call(built).body == b"own"


@pytest.mark.parametrize(
    "data",
    [
        answer()[:-1],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        CHUNKED + b"%x\r\n%s" % (len(BODY), BODY[:20]),
        CHUNKED + b"%x\r\n%s\r\n" % (len(BODY), BODY),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + LINK.encode()[:-4],
        b"HTTP/1.0 200 OK\r\n\r\n" + BODY[:-20],
        b"HTTP/1.0 200 OK\r\n\r\n",
        answer(b'{"code": "nmp.back.dispenser.oneToOne.noNFTsToSend"}', "400 Bad Request")[:-1],
    ],
)
def test_an_answer_that_is_cut_short_is_ambiguous(data: bytes, server: Starting, client: Building) -> None:
    nmp = server(once(data))
    assert ambiguous(call(client(nmp.url))) is CallFailure.TRUNCATED
    assert len(nmp.requests) == 1


def test_an_answer_that_is_cut_by_a_reset_is_ambiguous(server: Starting, client: Building) -> None:
    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(HEAD + b"x")
        reset(connection)

    assert ambiguous(call(client(server(serve).url))) in (CallFailure.RESET, CallFailure.TRUNCATED)


@pytest.mark.parametrize(
    "data",
    [
        LINK.encode() + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 OK 200\r\n\r\n",
        b"HTTP/1.1 20000 OK\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46\r\n",
        b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ],
)
def test_what_is_not_http_is_ambiguous(data: bytes, server: Starting, client: Building) -> None:
    nmp = server(once(data))
    assert ambiguous(call(client(nmp.url))) in (CallFailure.BROKEN, CallFailure.RESET)
    assert len(nmp.requests) == 1


# -- answers that say no, and odd ones ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("location", ["{other}/elsewhere", "/elsewhere", "http://[bad", "", "ftp://x/\x80"])
def test_a_redirect_is_reported_and_not_followed(
    status: str, location: str, server: Starting, client: Building
) -> None:
    other = server(always(answer()))
    nmp = server(always(answer(b"moved", status, "Location: " + location.format(other=other.url))))
    raw = call(client(nmp.url))
    assert (raw.status, raw.failure) == (int(status[:3]), None)
    assert read_answer(raw, LinkRules()).outcome is AttemptOutcome.REDIRECTED
    assert (len(nmp.requests), other.connections) == (1, 0)


@pytest.mark.parametrize(
    ("status", "header", "outcome", "wait"),
    [
        ("429 Too Many Requests", "Retry-After: 0", AttemptOutcome.THROTTLED, 0.0),
        ("429 Too Many Requests", "X-A: b", AttemptOutcome.THROTTLED, None),
        ("503 Service Unavailable", "Retry-After: 2", AttemptOutcome.THROTTLED, 2.0),
        ("503 Service Unavailable", "X-A: b", AttemptOutcome.UNKNOWN, None),
        ("500 Internal Server Error", "X-A: b", AttemptOutcome.UNKNOWN, None),
        ("413 Content Too Large", "Retry-After: 0", AttemptOutcome.REFUSED, None),
        ("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"', AttemptOutcome.REFUSED, None),
        ("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="x"', AttemptOutcome.REFUSED, None),
        ("408 Request Timeout", "Connection: close", AttemptOutcome.REFUSED, None),
    ],
)
def test_an_answer_that_says_no_is_given_back_after_one_request(
    status: str, header: str, outcome: AttemptOutcome, wait: float | None, server: Starting, client: Building
) -> None:
    nmp = server(always(answer(b"{}", status, header)))
    reading = read_answer(call(client(nmp.url)), LinkRules())
    assert (reading.outcome, reading.retry_after) == (outcome, wait)
    assert len(nmp.requests) == 1


@pytest.mark.parametrize("status", ["401 Unauthorized", "429 Too Many Requests", "302 Found", "204 No Content"])
def test_where_the_status_decides_a_body_that_never_comes_changes_nothing(
    status: str, server: Starting, client: Building
) -> None:
    nmp = server(then_hang(f"HTTP/1.1 {status}\r\nContent-Length: 10\r\n\r\n".encode()))
    raw = call(client(nmp.url), SOON)
    assert (raw.status, raw.body, raw.failure) == (int(status[:3]), b"", None)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_huge_body_is_cut_off_unreadable_and_consumed(head: bytes, server: Starting, client: Building) -> None:
    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(head + b'{"x": "')
        while not server.over.is_set():
            connection.sendall(b"x" * 65_536)

    nmp = server(serve)
    if b"Length" in head:
        raw = call(client(nmp.url))
        assert (raw.status, len(raw.body)) == (200, 65_537)
        assert read_answer(raw, LinkRules()).outcome is AttemptOutcome.UNREADABLE
    else:
        assert ambiguous(call(client(nmp.url))) is CallFailure.TRUNCATED
    assert nmp.connections == 1


def test_a_huge_chunk_is_cut_off_unreadable_and_consumed(server: Starting, client: Building) -> None:
    nmp = server(then_hang(CHUNKED + b"20000\r\n" + b"x" * 0x20000 + b"\r\n"))
    raw = call(client(nmp.url))
    assert (raw.status, len(raw.body)) == (200, 65_537)


def test_a_compressed_answer_is_kept_as_it_came(server: Starting, client: Building) -> None:
    nmp = server(always(answer(b"\x1f\x8b\x08\x00", "200 OK", "Content-Encoding: gzip")))
    assert call(client(nmp.url)) == RawAnswer(200, b"\x1f\x8b\x08\x00", None, None, "")


# -- kept connections --------------------------------------------------------------------------------------------------


def test_a_connection_is_kept_for_the_next_call(server: Starting, client: Building) -> None:
    nmp = server(always(answer()))
    built = client(nmp.url)
    assert [call(built).status for _ in range(5)] == [200] * 5
    assert nmp.connections == 1


def test_a_kept_connection_that_the_nmp_closed_makes_no_ambiguous_call(server: Starting, client: Building) -> None:
    closed = threading.Event()

    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(answer())
        connection.close()
        closed.set()

    nmp = server(serve)
    built = client(nmp.url)
    for _ in range(5):
        closed.clear()
        assert call(built).status == 200
        assert closed.wait(5)
    assert nmp.connections == 5


def test_a_connection_that_was_idle_for_long_is_not_used_again(
    server: Starting, client: Building, monkeypatch: pytest.MonkeyPatch
) -> None:
    nmp = server(always(answer()))
    built = client(nmp.url)
    call(built)
    monkeypatch.setattr(include.nmp.wire, "IDLE_LIMIT_SECONDS", 0.0)
    call(built)
    assert nmp.connections == 2


@pytest.mark.parametrize(
    "first",
    [
        answer() + answer(b"nobody's"),
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(b"nobody's"),
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n" + answer(b"nobody's"),
        b"HTTP/1.1 304 Not Modified\r\n\r\n" + answer(b"nobody's"),
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        answer(b"", "302 Found", "Location: /x"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n" + b"x" * 65_537,
    ],
)
def test_what_follows_an_answer_is_not_taken_for_the_next_calls(
    first: bytes, server: Starting, client: Building
) -> None:
    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(first if len(server.requests) == 1 else answer(b"own"))
        server.read_request(connection)
        connection.sendall(answer(b"second on its connection"))

    nmp = server(serve)
    built = client(nmp.url)
    call(built)
    assert call(built).body == b"own"
    assert nmp.connections == 2


# -- nothing from the environment, nothing into a log ------------------------------------------------------------------


def test_proxy_variables_netrc_and_cookies_are_ignored(
    server: Starting, client: Building, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proxy = server(always(answer()))
    nmp = server(always(answer(BODY, "200 OK", "Set-Cookie: session=1; Path=/")))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv(name.upper(), proxy.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    built = client(nmp.url)
    call(built)
    call(built)
    assert proxy.connections == 0
    assert len(nmp.requests) == 2
    for request in nmp.requests:
        assert "authorization:" not in request.lower()
        assert "cookie:" not in request.lower()


@pytest.mark.parametrize(
    "data",
    [
        answer(),
        answer(BODY, "302 Found", f"Location: {LINK}"),
        answer(BODY, "500 Internal Server Error"),
        b"HTTP/1.1 200 OK\r\n" + LINK.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n " + PHRASE.encode() + b"\r\n" + PHRASE.encode() + b"\r\n\r\nabc",
        b"HTTP/1.1 " + LINK.encode() + b"\r\n\r\n",
        LINK.encode() + b"\r\n",
        CHUNKED + PHRASE.encode() + b"\r\n",
    ],
)
def test_neither_key_nor_link_reaches_a_log_or_a_repr(
    data: bytes, server: Starting, client: Building, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    built = client(server(once(data)).url)
    raw = call(built)
    shown = caplog.text + repr(raw) + repr(read_answer(raw, LinkRules())) + repr(built) + repr(built.connection)
    assert PHRASE not in shown
    assert KEY not in shown
