"""A TCP proxy whose connections can go silent: nothing arrives any more, and nobody is told (no FIN, no RST)."""

import contextlib
import ctypes
import socket
import struct
import threading
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
SO_ATTACH_FILTER = 26  # Linux; the module socket has no name for it
CHUNK_BYTES = 65_536


class Silence(StrEnum):
    """What a client still hears of a connection that was cut."""

    LOST = "lost"
    """Nothing, as from a host that lost its power: no data, no acknowledgement, no answer to a keepalive."""
    STUCK = "stuck"
    """The kernel still acknowledges what is sent and answers keepalives, as that of a pooler which is stopped."""


@dataclass(eq=False)
class _Link:
    """One connection through the proxy: the client's socket, the server's, and whether it was cut."""

    client: socket.socket
    server: socket.socket
    client_port: int
    is_cut: bool = False


class SilentProxy:
    """Forwards connections to ``port`` on the loopback address until they are cut. A context manager.

    >>> with SilentProxy(postgres.port) as proxy:
    ...     connection = psycopg.connect(make_conninfo(uri, port=proxy.port))
    ...     proxy.cut()  # the connection is silent; new ones work

    Connections that were cut stay open, on both sides, until the end.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        """Where the proxy listens, on the loopback address."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="silent-proxy", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _end(self._listener)
        with self._lock:
            for link in self._links:
                _end(link.client)
                _end(link.server)
            self._links.clear()

    def client_ports(self) -> list[int]:
        """List the clients' own ports of the connections that work at this moment: they tell whose process it is."""
        with self._lock:
            return sorted(link.client_port for link in self._links if not link.is_cut)

    def cut(self, client_ports: Collection[int] | None = None, silence: Silence = Silence.LOST) -> int:
        """Silence the present connections of these clients, or of all; give how many. New connections work."""
        with self._lock:
            chosen = [
                link
                for link in self._links
                if not link.is_cut and (client_ports is None or link.client_port in client_ports)
            ]
            for link in chosen:
                link.is_cut = True
                if silence is Silence.LOST:
                    _drop_all_packets(link.client)
                    _drop_all_packets(link.server)
        return len(chosen)

    # ---- within ------------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, (_, client_port) = self._listener.accept()
            except OSError:
                return  # the proxy ends
            try:
                server = socket.create_connection((HOST, self._target))
            except OSError:
                _end(client)  # no server there: the client sees that its connection ends
                continue
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(client, server, client_port)
            with self._lock:
                self._links.add(link)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(link, source, sink), daemon=True).start()

    def _forward(self, link: _Link, source: socket.socket, sink: socket.socket) -> None:
        """Forward one direction until one side ends, which ends the other, or until the connection is cut."""
        with contextlib.suppress(OSError):
            while (data := source.recv(CHUNK_BYTES)) and not link.is_cut:
                sink.sendall(data)
        with self._lock:
            if not link.is_cut:
                self._links.discard(link)
                _end(link.client)
                _end(link.server)


def _drop_all_packets(side: socket.socket) -> None:
    """Let the kernel drop each packet that arrives for this socket, before it acknowledges anything.

    A socket filter of one instruction, "keep 0 bytes". It needs no rights and no packet filter of the machine.
    """
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    side.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(instruction)))


def _end(side: socket.socket) -> None:
    """Close a socket, also for a thread that waits on it."""
    with contextlib.suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
    side.close()
