"""A raw HTTP server, what it can answer, and what a call to it may have come to."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from include.nmp.answers import CallFailure, LinkRules, RawAnswer, read_answer
from include.nmp.client import NmpClient
from include.outcomes import AttemptOutcome

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
        """Read one request and record it; raises ConnectionError at the end of the connection."""
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
Building = Callable[..., NmpClient]


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
    """Assert that a call was not sent, and give the class name of what stopped it."""
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
