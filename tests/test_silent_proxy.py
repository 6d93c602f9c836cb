"""The proxy that tests cut connections with: what each side of a cut connection sees, and what goes on."""

import errno
import fcntl
import select
import socket
import struct
import termios
from collections.abc import Iterator

import pytest

from tests.silent_proxy import HOST, Silence, SilentProxy

MOMENT = 0.3  # seconds in which an event on the loopback address would have come


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(5)
        yield listener


@pytest.fixture
def proxy(server: socket.socket) -> Iterator[SilentProxy]:
    with SilentProxy(server.getsockname()[1]) as made:
        yield made


def connected(proxy: SilentProxy, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A client's end and the server's end of a connection that has carried a byte each way."""
    client = socket.create_connection((HOST, proxy.port), timeout=5)
    answering, _ = server.accept()
    answering.settimeout(5)
    for source, sink in ((client, answering), (answering, client)):
        source.sendall(b"a")
        assert sink.recv(10) == b"a"
    return client, answering


def hears(*sides: socket.socket) -> list[socket.socket]:
    """Those of the sides that have data, an end or an error to read within a moment."""
    return select.select(sides, [], [], MOMENT)[0]


def is_acknowledged(side: socket.socket) -> bool:
    """Whether the other side's kernel acknowledged all that this side sent: ``TIOCOUTQ`` counts the rest."""
    (unacknowledged,) = struct.unpack("i", fcntl.ioctl(side, termios.TIOCOUTQ, struct.pack("i", 0)))
    return unacknowledged == 0


@pytest.mark.parametrize(("silence", "acknowledged"), [(Silence.LOST, False), (Silence.STUCK, True)])
def test_neither_side_of_a_connection_that_was_cut_hears_anything(
    proxy: SilentProxy, server: socket.socket, silence: Silence, acknowledged: bool
) -> None:
    client, answering = connected(proxy, server)
    assert proxy.cut(silence=silence) == 1
    client.sendall(b"question")
    answering.sendall(b"answer")
    assert hears(client, answering) == []
    assert is_acknowledged(client) is acknowledged
    assert is_acknowledged(answering) is acknowledged
    client.close()
    assert hears(answering) == []


def test_keepalives_notice_a_server_that_is_lost_and_not_one_that_is_stuck(
    proxy: SilentProxy, server: socket.socket
) -> None:
    ended = {}
    for silence in Silence:
        client, _ = connected(proxy, server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
            client.setsockopt(socket.IPPROTO_TCP, option, 1)
        proxy.cut(silence=silence)
        readable = select.select([client], [], [], 3)[0]
        ended[silence] = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if readable else None
    assert ended == {Silence.LOST: errno.ETIMEDOUT, Silence.STUCK: None}


def test_only_the_chosen_client_is_cut_and_a_new_connection_works(proxy: SilentProxy, server: socket.socket) -> None:
    cut, answering_cut = connected(proxy, server)
    spared, answering_spared = connected(proxy, server)
    cut_port, spared_port = cut.getsockname()[1], spared.getsockname()[1]
    assert proxy.client_ports() == sorted([cut_port, spared_port])
    assert proxy.cut([cut_port]) == 1
    assert proxy.client_ports() == [spared_port]
    cut.sendall(b"b")
    spared.sendall(b"b")
    assert hears(answering_cut, answering_spared) == [answering_spared]
    connected(proxy, server)


def test_what_a_side_ends_itself_ends_on_the_other_side(proxy: SilentProxy, server: socket.socket) -> None:
    client, answering = connected(proxy, server)
    client.close()
    assert answering.recv(10) == b""
    client, answering = connected(proxy, server)
    answering.close()
    assert client.recv(10) == b""


def test_a_client_finds_its_connection_ended_while_there_is_no_server(
    proxy: SilentProxy, server: socket.socket
) -> None:
    server.close()
    client = socket.create_connection((HOST, proxy.port), timeout=5)
    assert client.recv(10) == b""


def test_cut_connections_end_when_the_proxy_ends(server: socket.socket) -> None:
    with SilentProxy(server.getsockname()[1]) as proxy:
        client, answering = connected(proxy, server)
        proxy.cut(silence=Silence.STUCK)
    assert client.recv(10) == b""
    assert answering.recv(10) == b""
