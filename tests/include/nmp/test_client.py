"""The NMP client against real sockets: every way in which a call can go wrong, and what each leaves known."""

import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import include.nmp.client
from include.nmp.answers import CallFailure, LinkRules, RawAnswer, read_answer
from include.nmp.client import (
    NewLink,
    NmpClient,
    NmpConfigurationError,
    NmpConnection,
    NmpError,
    NmpNotReachedError,
    NmpRefusedError,
    NmpUncertainError,
    NmpUnreadableError,
)
from include.outcomes import AttemptOutcome
from sandbox.faults import Fault
from sandbox.server import SandboxServer
from sandbox.switches import Right

KEY = "11111111-canary-key-2222"
PHRASE = "canaryphrase"
LINK = f"https://test.arianee.net/440105186,{PHRASE}"
BODY = json.dumps({"certificateId": 440105186, "passphrase": PHRASE, "deeplink": {"link": LINK}}).encode()
SOON = 0.3  # seconds: the deadline of calls that must run into it
AMPLE = 10.0  # seconds: the deadline of calls that must not

Serve = Callable[["Server", socket.socket], None]


class Server:
    """A raw HTTP server on the loopback: each connection is served by a script, each request is written down."""

    def __init__(self, serve: Serve, tls: ssl.SSLContext | None) -> None:
        self._serve = serve
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.requests: list[str] = []
        self.connections = 0
        self.over = threading.Event()
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._converse, connection)

    def _converse(self, connection: socket.socket) -> None:
        self._open.append(connection)
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            self._serve(self, connection)
        except OSError:
            pass  # the client left, which many a test makes it do
        finally:
            connection.close()

    def read_request(self, connection: socket.socket) -> str:
        """Read one request and write it down; raises ConnectionError at the end of the connection."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more(connection)
        head, _, body = received.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        while lengths and len(body) < int(lengths[0]):
            body += self._more(connection)
        request = (head + b"\r\n\r\n" + body).decode()
        self.requests.append(request)
        return request

    @staticmethod
    def _more(connection: socket.socket) -> bytes:
        received = connection.recv(65536)
        if not received:
            raise ConnectionError
        return received

    def stop(self) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # a close alone would not wake a thread that reads
            connection.close()
        for thread in self._threads:
            thread.join(5)


Starting = Callable[..., Server]


@pytest.fixture
def server() -> Iterator[Starting]:
    """Start servers: ``server(script, tls=…)``."""
    with ExitStack() as stack:

        def start(serve: Serve, tls: ssl.SSLContext | None = None) -> Server:
            started = Server(serve, tls)
            stack.callback(started.stop)
            return started

        yield start


@pytest.fixture
def client() -> Iterator[Callable[..., NmpClient]]:
    """Build clients: ``client(url, **options)``."""
    with ExitStack() as stack:

        def build(url: str, **options: object) -> NmpClient:
            built = NmpClient(NmpConnection.validated(url, KEY), **options)  # type: ignore[arg-type]
            stack.callback(built.close)
            return built

        yield build


Building = Callable[..., NmpClient]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path_factory.mktemp("tls") / "authority.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem


@pytest.fixture(scope="session")
def server_tls(authority: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    return context


# -- scripts -----------------------------------------------------------------------------------------------------------


def answer(body: bytes = BODY, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def always(data: bytes) -> Serve:
    """Answer every request of a connection with the same bytes."""

    def serve(server: Server, connection: socket.socket) -> None:
        while True:
            server.read_request(connection)
            connection.sendall(data)

    return serve


def once(data: bytes) -> Serve:
    """Answer one request and end the connection."""

    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(data)

    return serve


def then_hang(data: bytes) -> Serve:
    """Answer one request and then say nothing more, with the connection open."""

    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(data)
        server.over.wait()

    return serve


def dripping(whole: bytes, drip: bytes) -> Serve:
    """Send the first part at once and the second byte by byte, each well within the read timeout, without end."""

    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(whole)
        while not server.over.wait(0.02):
            for byte in drip:
                connection.sendall(bytes([byte]))
                if server.over.wait(0.02):
                    return

    return serve


def then_reset(data: bytes) -> Serve:
    """Answer with some bytes and reset the connection (RST instead of FIN)."""

    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(data)
        reset(connection)

    return serve


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    connection.close()


def call(nmp: NmpClient, seconds: float = AMPLE, tag: str = "demo-gift") -> RawAnswer:
    return nmp.reserve(tag, deadline=time.monotonic() + seconds)


def not_sent(raw: RawAnswer) -> str:
    """Assert that a call provably never left, and give the class name of what stopped it."""
    assert (raw.status, raw.body, raw.failure) == (None, b"", CallFailure.NOT_SENT)
    assert read_answer(raw, LinkRules()).outcome is AttemptOutcome.NOT_SENT
    return raw.error


def ambiguous(raw: RawAnswer) -> CallFailure:
    """Assert that a call may have consumed a passport, and give why."""
    assert (raw.status, raw.body) == (None, b"")
    assert read_answer(raw, LinkRules()).outcome is AttemptOutcome.UNKNOWN
    assert raw.failure is not None
    assert raw.error.isidentifier()
    return raw.failure


# -- the call as it should be ------------------------------------------------------------------------------------------


def test_a_reservation_is_one_documented_get_with_the_key_in_its_header(server: Starting, client: Building) -> None:
    nmp = server(always(answer()))
    assert call(client(nmp.url)) == RawAnswer(200, BODY, None, None, "")
    [request] = nmp.requests
    lines = request.split("\r\n")
    assert lines[0] == "GET /dispenser/distribution/reserveOne?tags=demo-gift&format=linkObject HTTP/1.1"
    assert sorted(lines[1:-2]) == [
        "Accept-Encoding: identity",
        "Accept: application/json, text/plain;q=0.9, */*;q=0.1",
        "Cache-Control: no-store",
        f"Host: 127.0.0.1:{nmp.port}",
        "User-Agent: passport-links",
        f"x-api-key: {KEY}",
    ]


def test_a_base_path_is_kept_and_a_tag_is_encoded(server: Starting, client: Building) -> None:
    nmp = server(always(answer()))
    call(client(nmp.url + "/brand/nmp/"), tag="été & co/2026?#+")
    path = nmp.requests[0].split(" ")[1]
    assert urlsplit(path).path == "/brand/nmp/dispenser/distribution/reserveOne"
    assert parse_qs(urlsplit(path).query) == {"tags": ["été & co/2026?#+"], "format": ["linkObject"]}


@pytest.mark.parametrize("tag", ["a,b", ",", "", "  "])
def test_a_tag_that_would_mean_another_is_refused_before_any_call(tag: str, server: Starting, client: Building) -> None:
    nmp = server(always(answer()))
    built = client(nmp.url)
    for refused in (lambda: call(built, tag=tag), lambda: built.reset_all(tag), lambda: built.claimed_count(tag)):
        with pytest.raises(ValueError, match="cannot be sent"):
            refused()
    assert nmp.connections == 0


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


def test_the_text_format_is_taken_as_it_comes(server: Starting, client: Building) -> None:
    nmp = server(always(answer(LINK.encode() + b"\n", "200 OK", "Content-Type: application/octet-stream")))
    reading = read_answer(call(client(nmp.url)), LinkRules("test"))
    assert (reading.outcome, reading.link) == (AttemptOutcome.RESERVED, LINK)


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


# -- provably never left -----------------------------------------------------------------------------------------------


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

    monkeypatch.setattr("include.nmp.client.HTTPConnection.send", breaks_off)
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
    monkeypatch.setattr(include.nmp.client, "IDLE_LIMIT_SECONDS", 0.0)
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


# -- the other calls ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 5])
def test_a_reset_gives_the_count_that_the_platform_gave(count: int, server: Starting, client: Building) -> None:
    nmp = server(always(answer(b'{"count": %d}' % count)))
    assert client(nmp.url).reset_all("spring 2026") == count
    assert nmp.requests[0].startswith("GET /dispenser/distribution/resetAll?tags=spring+2026 HTTP/1.1\r\n")
    assert f"x-api-key: {KEY}\r\n" in nmp.requests[0]


def test_claimed_certificates_are_strings_whatever_they_were_sent_as(server: Starting, client: Building) -> None:
    body = b'{"result": {"smartAssetsId": [479081, 95239832777, "12", 123456789012345678901234567890]}}'
    nmp = server(always(answer(body)))
    assert client(nmp.url).claimed_certificates("demo-gift") == {
        "479081",
        "95239832777",
        "12",
        "123456789012345678901234567890",
    }
    head, _, sent = nmp.requests[0].partition("\r\n\r\n")
    assert head.startswith("POST /certificate/getListOfSmartAssetsIdByTags HTTP/1.1\r\n")
    assert json.loads(sent) == {"tags": ["demo-gift"], "tagRule": "and", "uniqueOwner": True}


def test_a_list_of_claims_may_be_far_longer_than_an_answer_of_reserve(server: Starting, client: Building) -> None:
    ids = list(range(10**10, 10**10 + 50_000))
    nmp = server(always(answer(json.dumps({"result": {"smartAssetsId": ids}}).encode())))
    assert len(client(nmp.url).claimed_certificates("demo-gift")) == 50_000


def test_a_wrong_tag_has_no_claims(server: Starting, client: Building) -> None:
    nmp = server(always(answer(b'{"result": {"smartAssetsId": []}}')))
    assert client(nmp.url).claimed_certificates("wrong") == set()


def test_claims_can_be_counted(server: Starting, client: Building) -> None:
    nmp = server(always(answer(b'{"result": {"count": 2}}')))
    assert client(nmp.url).claimed_count("demo-gift") == 2
    assert nmp.requests[0].startswith("POST /certificate/getCountOfSmartAssetsIdByTags HTTP/1.1\r\n")


def test_a_link_can_be_replaced(server: Starting, client: Building) -> None:
    link = "https://test.arianee.net/983002786,qoy7bdpri6me5"
    body = json.dumps({"certificateId": 983002786, "passphrase": "qoy7bdpri6me5", "link": link}).encode()
    nmp = server(always(answer(body)))
    replaced = client(nmp.url).replace_link("983002786")
    assert replaced == NewLink("983002786", link)
    assert "qoy7bdpri6me5" not in repr(replaced)
    head, _, sent = nmp.requests[0].partition("\r\n\r\n")
    assert head.startswith("POST /api/createCertificateRequestOwnershipLink HTTP/1.1\r\n")
    assert sent == "[983002786]"


def test_a_replacement_for_another_certificate_is_not_taken(server: Starting, client: Building) -> None:
    nmp = server(always(answer(LINK.encode())))
    with pytest.raises(NmpUnreadableError):
        client(nmp.url).replace_link("1")
    with pytest.raises(ValueError, match="is not a number"):
        client(nmp.url).replace_link("1,abc")
    assert len(nmp.requests) == 1


OTHER_CALLS: dict[str, Callable[[NmpClient], object]] = {
    "reset": lambda nmp: nmp.reset_all("demo-gift"),
    "list": lambda nmp: nmp.claimed_certificates("demo-gift"),
    "count": lambda nmp: nmp.claimed_count("demo-gift"),
    "replace": lambda nmp: nmp.replace_link("440105186"),
    "check": lambda nmp: nmp.check(),
}


@pytest.mark.parametrize("other_call", OTHER_CALLS.values(), ids=OTHER_CALLS.keys())
@pytest.mark.parametrize(
    ("serve", "kind", "words", "possibly_done"),
    [
        (always(answer(BODY, "401 Unauthorized")), NmpRefusedError, "the API key was not accepted", False),
        (always(answer(BODY, "403 Forbidden")), NmpRefusedError, "lacks a right", False),
        (always(answer(BODY, "404 Not Found")), NmpRefusedError, "no such route; check the base URL", False),
        (always(answer(BODY, "400 Bad Request")), NmpRefusedError, "the request was not understood", False),
        (
            always(answer(BODY, "500 Internal Server Error")),
            NmpUncertainError,
            "done all the same: it answered 500",
            True,
        ),
        (always(answer(BODY, "302 Found", "Location: /x")), NmpUncertainError, "it answered 302", True),
        (then_hang(b""), NmpUncertainError, "no complete answer came in time", True),
        (once(answer()[:-1]), NmpUncertainError, "the answer was cut short", True),
        (always(answer(b'{"x": "' + PHRASE.encode() + b'"}')), NmpUnreadableError, "not in the documented form", True),
        (always(answer(PHRASE.encode())), NmpUnreadableError, "not in the documented form", True),
        (
            always(answer(b'{"result": {"count": "-1", "smartAssetsId": [1.5]}, "count": null}')),
            NmpUnreadableError,
            "",
            True,
        ),
    ],
)
def test_what_goes_wrong_is_one_error_that_says_whether_it_may_have_been_done(
    other_call: Callable[[NmpClient], object],
    serve: Serve,
    kind: type[NmpError],
    words: str,
    possibly_done: bool,
    server: Starting,
    client: Building,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(include.nmp.client, "LISTING_SECONDS", SOON)
    nmp = server(serve)
    with pytest.raises(kind) as raised:
        other_call(client(nmp.url))
    text = str(raised.value)
    assert words in text
    assert raised.value.possibly_done is possibly_done
    assert PHRASE not in text
    assert KEY not in text
    assert len(nmp.requests) == 1


def test_an_nmp_that_is_not_there_is_named_with_its_host(client: Building) -> None:
    with pytest.raises(NmpNotReachedError) as raised:
        client("http://nmp.invalid:8080/base").reset_all("demo-gift")
    assert str(raised.value) == (
        "the reset of tag 'demo-gift' failed at the NMP nmp.invalid:8080: the host's name could not be resolved "
        "(gaierror)"
    )


def test_a_check_reserves_nothing_and_says_what_it_could_not_prove(server: Starting, client: Building) -> None:
    nmp = server(always(answer(b'{"result": {"count": 0}}')))
    assert client(nmp.url).check() == (
        f"The NMP at 127.0.0.1:{nmp.port} answers and its API key may read claims (certRead). Whether the key may "
        "reserve (certCreate) and reset cannot be seen without consuming a passport. The key travels unencrypted "
        "(http)."
    )
    [request] = nmp.requests
    assert request.startswith("POST /certificate/getCountOfSmartAssetsIdByTags ")


def test_a_check_does_not_trust_an_nmp_that_counts_claims_of_no_tag(server: Starting, client: Building) -> None:
    nmp = server(always(answer(b'{"result": {"count": 3}}')))
    with pytest.raises(NmpUnreadableError, match="counts 3 claims for a tag that does not exist"):
        client(nmp.url).check()


# -- what a person configures ------------------------------------------------------------------------------------------


def test_a_connection_is_tidied_and_hides_its_key() -> None:
    connection = NmpConnection.validated(
        " https://nmp.example:8443/base/ ", f" {KEY}\n", "test", [" Links.Brand.Example", "", "links.brand.example"]
    )
    assert connection == NmpConnection(
        "https://nmp.example:8443/base", KEY, LinkRules("test", ("links.brand.example",))
    )
    assert KEY not in repr(connection)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"api_key": None}, "the connection nmp has no API key: put it into the connection's password"),
        ({"api_key": "  "}, "has no API key"),
        ({"api_key": KEY + "\r\nx: y"}, "holds characters that no HTTP header can carry"),
        ({"api_key": KEY + "é"}, "holds characters that no HTTP header can carry"),
        ({"base_url": ""}, "the host of the connection nmp is ''"),
        ({"base_url": "nmp.example"}, "is 'nmp.example': write it with its scheme, like https://nmp.example"),
        ({"base_url": "ftp://nmp.example"}, "write it with its scheme"),
        ({"base_url": "https://"}, "names no host"),
        ({"base_url": "https:///base"}, "names no host"),
        ({"base_url": "https://nmp example"}, "names no host"),
        ({"base_url": "https://nmp.example:port"}, "is no URL"),
        ({"base_url": "https://[::1"}, "is no URL"),
        ({"base_url": f"https://:{KEY}@nmp.example"}, "put the API key into the password"),
        ({"base_url": f"https://nmp.example?key={KEY}"}, "put the API key into the password"),
        ({"base_url": f"https://nmp.example#{KEY}"}, "put the API key into the password"),
        ({"environment": "prod"}, "has the environment 'prod': use test, production, or leave it out"),
        ({"link_hosts": ["https://a.b"]}, "link_hosts of the connection nmp has 'https://a.b': write bare host names"),
        (
            {"environment": "test", "link_hosts": ["arianee.net"]},
            "its environment is test and its link_hosts has arian",
        ),
    ],
)
def test_a_wrong_connection_is_one_clear_sentence_without_the_key(fields: dict[str, object], words: str) -> None:
    given = {"base_url": "https://nmp.example", "api_key": KEY, **fields}
    with pytest.raises(NmpConfigurationError) as raised:
        NmpConnection.validated(**given)  # type: ignore[arg-type]
    assert words in str(raised.value)
    assert KEY not in str(raised.value)
    assert "\n" not in str(raised.value)


# -- against the sandbox, the NMP as documented ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as running:
        running.start(seed=7)
        yield running


@pytest.fixture
def sandbox_client(sandbox: SandboxServer) -> Iterator[NmpClient]:
    built = NmpClient(NmpConnection.validated(sandbox.base_url, sandbox.api_key, "test"))
    yield built
    sandbox.control().clear_faults()
    built.close()


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault.LOST_ANSWER, AttemptOutcome.UNKNOWN),
        (Fault.CONNECTION_RESET, AttemptOutcome.UNKNOWN),
        (Fault.HANG, AttemptOutcome.UNKNOWN),
        (Fault.DRIP, AttemptOutcome.UNKNOWN),
        (Fault.DRIP_HEADERS, AttemptOutcome.UNKNOWN),
        (Fault.TRUNCATED, AttemptOutcome.UNKNOWN),
        (Fault.SERVER_ERROR_BEFORE, AttemptOutcome.UNKNOWN),
        (Fault.SERVER_ERROR_AFTER, AttemptOutcome.UNKNOWN),
        (Fault.TOO_MANY_REQUESTS, AttemptOutcome.THROTTLED),
        (Fault.UNAVAILABLE, AttemptOutcome.THROTTLED),
        (Fault.REDIRECT, AttemptOutcome.REDIRECTED),
        (Fault.HTML_ERROR, AttemptOutcome.UNKNOWN),
        (Fault.RUBBISH, AttemptOutcome.UNREADABLE),
        (Fault.WRONG_HOST, AttemptOutcome.WRONG_LINK),
        (Fault.DUPLICATE, AttemptOutcome.RESERVED),
    ],
)
def test_every_fault_of_the_sandbox_is_read_by_the_table_after_exactly_one_call(
    fault: Fault, outcome: AttemptOutcome, sandbox: SandboxServer, sandbox_client: NmpClient
) -> None:
    control = sandbox.control()
    tag = f"fault-{fault.value}"
    assert call(sandbox_client, tag=tag).status == 200
    before = len(list(control.history()))
    control.queue_fault(fault.value)
    raw = call(sandbox_client, SOON, tag)
    assert read_answer(raw, sandbox_client.connection.rules).outcome is outcome
    assert len(list(control.history())) - before == 1
    assert call(sandbox_client, tag=tag).status == 200


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"ids_as_strings": True, "extra_fields": True},
        {"deeplink": "string"},
        {"link_fields": 3},
        {"link_fields": 4, "link_method": True, "link_query": "a=b"},
        {"passphrase_digits": True},
        {"object_content_type": "text/html"},
        {"link_host": "links.brand.example"},
    ],
)
def test_every_form_of_answer_that_the_sandbox_knows_is_a_link(
    switches: dict[str, object], sandbox: SandboxServer, sandbox_client: NmpClient
) -> None:
    control = sandbox.control()
    former = control.switches()
    control.set_switches(**switches)
    try:
        reading = read_answer(call(sandbox_client), sandbox_client.connection.rules)
    finally:
        control.set_switches(**{name: former[name] for name in switches})
    assert reading.outcome is AttemptOutcome.RESERVED
    assert reading.link is not None
    assert f"/{reading.certificate_id}," in reading.link


def test_the_other_calls_agree_with_what_the_sandbox_did(sandbox: SandboxServer, sandbox_client: NmpClient) -> None:
    control = sandbox.control()
    control.create_pool("whole-life", 3)
    rules = sandbox_client.connection.rules
    first, second, third = (read_answer(call(sandbox_client, tag="whole-life"), rules) for _ in range(3))
    assert read_answer(call(sandbox_client, tag="whole-life"), rules).outcome is AttemptOutcome.OUT_OF_STOCK
    assert sandbox_client.claimed_certificates("whole-life") == set()
    control.claim(first.link)
    assert sandbox_client.claimed_certificates("whole-life") == {first.certificate_id}
    assert sandbox_client.claimed_count("whole-life") == 1
    replaced = sandbox_client.replace_link(str(second.certificate_id))
    assert (replaced.certificate_id, replaced.link != second.link) == (second.certificate_id, True)
    assert third.certificate_id not in {first.certificate_id, second.certificate_id}
    assert sandbox_client.reset_all("whole-life") == 2
    assert sandbox_client.reset_all("whole-life") == 0
    assert sandbox_client.reset_all("no such tag") == 0


def test_a_check_tells_a_wrong_key_and_a_missing_right_apart(sandbox: SandboxServer) -> None:
    def check(key: str) -> str:
        built = NmpClient(NmpConnection.validated(sandbox.base_url, key))
        try:
            return built.check()
        finally:
            built.close()

    before = sandbox.control().counters()
    assert "may read claims" in check(sandbox.api_key)
    with pytest.raises(NmpRefusedError, match="401: the API key was not accepted"):
        check("wrong-key")
    with pytest.raises(NmpRefusedError, match="403: the API key is not known or lacks a right"):
        check(sandbox.control().add_key("reserver", [Right.CERT_CREATE]))
    assert sandbox.control().counters()["reservations"] == before["reservations"]
