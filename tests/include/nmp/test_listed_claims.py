"""A list of claims is read from a real socket as it comes, within its time, and says whether it is complete."""

import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.nmp.client import ListedClaims, NmpClient
from include.nmp.errors import NmpError, NmpNotReachedError, NmpRefusedError, NmpUncertainError, NmpUnreadableError
from local.processes import wait_until
from sandbox.server import SandboxServer
from tests.include.nmp.raw_server import (
    AMPLE,
    KEY,
    SOON,
    Building,
    Serve,
    Server,
    Starting,
    always,
    answer,
    dripping,
    once,
    reset,
    then_hang,
    then_reset,
)

LIST = b'{"result":{"smartAssetsId":[479081,"95239832777",12'
WHOLE = LIST + b"]}}"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def read(nmp: NmpClient, seconds: float = AMPLE) -> tuple[list[str], ListedClaims]:
    with nmp.listed_claims("demo-gift", seconds=seconds) as listed:
        return list(listed), listed


@pytest.mark.parametrize(
    "data",
    [
        answer(WHOLE),
        CHUNKED + chunk(WHOLE[:33]) + chunk(WHOLE[33:]) + chunk(b""),
        b"HTTP/1.0 200 OK\r\n\r\n" + WHOLE,
        HEAD + WHOLE[:-2],  # the bracket shows that all ids came
    ],
    ids=["with its length", "in chunks", "to the end of the connection", "without its end"],
)
def test_a_list_with_its_bracket_is_complete(data: bytes, server: Starting, client: Building) -> None:
    nmp = server(once(data))
    ids, listed = read(client(nmp.url))
    assert ids == ["479081", "95239832777", "12"]
    assert (listed.complete, listed.why_cut) == (True, None)
    [request] = nmp.requests
    assert request.startswith("POST /certificate/getListOfSmartAssetsIdByTags HTTP/1.1\r\n")
    assert request.endswith('\r\n\r\n{"tags": ["demo-gift"], "tagRule": "and", "uniqueOwner": true}')
    assert f"x-api-key: {KEY}\r\n" in request


def test_a_list_is_read_over_tls(
    server: Starting, client: Building, server_tls: ssl.SSLContext, authority: Path
) -> None:
    nmp = server(always(answer(WHOLE)), server_tls)
    built = client(nmp.url, ca_bundle=authority)
    assert [read(built)[0] for _ in range(2)] == [["479081", "95239832777", "12"]] * 2


def test_ids_come_while_the_rest_of_the_list_is_still_to_come(server: Starting, client: Building) -> None:
    seen = threading.Event()

    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(HEAD + LIST)
        seen.wait(AMPLE)
        connection.sendall(b"3]}}")

    with client(server(serve).url).listed_claims("demo-gift", seconds=AMPLE) as listed:
        ids = iter(listed)
        assert [next(ids), next(ids)] == ["479081", "95239832777"]
        assert not listed.complete
        seen.set()
        assert list(ids) == ["123"]
        assert listed.complete


def test_after_the_bracket_nothing_is_waited_for(server: Starting, client: Building) -> None:
    started = time.monotonic()
    ids, listed = read(client(server(then_hang(HEAD + WHOLE)).url))
    assert (len(ids), listed.complete) == (3, True)
    assert time.monotonic() - started < AMPLE / 2


@pytest.mark.parametrize(
    ("serve", "why"),
    [
        (once(answer(LIST)), "the answer is incomplete"),
        (once(answer(WHOLE)[: -len(b"]}}")]), "the answer is incomplete (IncompleteRead)"),
        (once(CHUNKED + chunk(LIST)), "the answer is incomplete (IncompleteRead)"),
        (once(b"HTTP/1.0 200 OK\r\n\r\n" + LIST), "the answer is incomplete"),
        (then_hang(HEAD + LIST), "no complete answer came in time (TimeoutError)"),
        (dripping(HEAD + LIST, b"0"), "no complete answer came in time (TimeoutError)"),
    ],
    ids=["by a gateway", "short of its length", "between chunks", "with its connection", "by silence", "by a drip"],
)
def test_a_cut_list_gives_the_ids_that_are_certain_and_says_why(
    serve: Serve, why: str, server: Starting, client: Building
) -> None:
    nmp = server(serve)
    started = time.monotonic()
    ids, listed = read(client(nmp.url), SOON)
    assert ids == ["479081", "95239832777"]
    assert (listed.complete, listed.why_cut) == (False, why)
    assert time.monotonic() - started < SOON + 1
    assert len(nmp.requests) == 1


def test_a_list_that_is_cut_by_a_reset_keeps_what_came(server: Starting, client: Building) -> None:
    read_some = threading.Event()

    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(HEAD + LIST)
        read_some.wait(AMPLE)
        reset(connection)

    with client(server(serve).url).listed_claims("demo-gift", seconds=AMPLE) as listed:
        ids = iter(listed)
        assert [next(ids), next(ids)] == ["479081", "95239832777"]
        read_some.set()
        assert list(ids) == []
    assert listed.why_cut in (
        "the connection ended before the answer did (ConnectionResetError)",
        "the answer is incomplete (IncompleteRead)",
    )


def test_a_list_without_end_ends_with_its_time(server: Starting, client: Building) -> None:
    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + LIST)
        while not server.over.is_set():
            connection.sendall(b",12" * 10_000)

    started = time.monotonic()
    ids, listed = read(client(server(serve).url), SOON)
    assert set(ids) == {"479081", "95239832777", "12"}
    assert listed.why_cut == "no complete answer came in time (TimeoutError)"
    assert time.monotonic() - started < SOON + 1


def waits(data: bytes, before: bytes = b"") -> Serve:
    """Answer after a silence that is longer than the read timeout of the clients here."""

    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(before)
        server.over.wait(2 * SOON)
        connection.sendall(data)

    return serve


@pytest.mark.parametrize("serve", [waits(answer(WHOLE)), waits(b"0]}}", HEAD + LIST)], ids=["at first", "in between"])
def test_an_nmp_that_is_silent_has_the_whole_time(serve: Serve, server: Starting, client: Building) -> None:
    ids, listed = read(client(server(serve).url, read_timeout=SOON))
    assert (len(ids), listed.complete) == (3, True)


def test_a_reset_that_is_silent_has_the_time_that_it_is_given(server: Starting, client: Building) -> None:
    serve = waits(answer(b'{"count": 5}'))
    assert client(server(serve).url, read_timeout=SOON).reset_all("demo-gift", seconds=AMPLE) == 5
    with pytest.raises(NmpUncertainError, match="no complete answer came in time"):
        client(server(serve).url, read_timeout=AMPLE).reset_all("demo-gift", seconds=SOON)


@pytest.mark.parametrize(
    ("serve", "kind", "words"),
    [
        (always(answer(WHOLE, "401 Unauthorized")), NmpRefusedError, "the NMP did not accept the API key"),
        (always(answer(WHOLE, "403 Forbidden")), NmpRefusedError, "lacks a right"),
        (always(answer(WHOLE, "404 Not Found")), NmpRefusedError, "no such route; check the base URL"),
        (then_hang(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n"), NmpRefusedError, "lacks a right"),
        (always(answer(WHOLE, "500 Internal Server Error")), NmpUncertainError, "it answered 500"),
        (always(answer(WHOLE, "302 Found", "Location: /x")), NmpUncertainError, "it answered 302"),
        (always(answer(b"", "204 No Content")), NmpUncertainError, "it answered 204"),
        (then_hang(b""), NmpUncertainError, "no complete answer came in time"),
        (dripping(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), NmpUncertainError, "no complete answer came in time"),
        (then_reset(b""), NmpUncertainError, "the connection ended before the answer did"),
        (always(answer(b"<html>busy</html>")), NmpUnreadableError, "not in the documented form"),
        (always(answer(b'{"result":{"count":2}}')), NmpUnreadableError, "not in the documented form"),
        (always(answer(LIST + b",null]}}")), NmpUnreadableError, "not in the documented form"),
    ],
)
def test_without_a_list_there_is_one_error(
    serve: Serve, kind: type[NmpError], words: str, server: Starting, client: Building
) -> None:
    nmp = server(serve)
    started = time.monotonic()
    with pytest.raises(kind, match=words) as raised:
        read(client(nmp.url), SOON)
    assert type(raised.value) is kind
    assert str(raised.value).startswith("the list of claimed passports of tag 'demo-gift' ")
    assert time.monotonic() - started < SOON + 1
    assert len(nmp.requests) == 1


def test_an_nmp_that_is_not_there_is_not_reached(client: Building) -> None:
    with pytest.raises(NmpNotReachedError, match="could not be resolved"):
        read(client("http://nmp.invalid"))


def test_a_long_list_needs_no_more_memory_than_a_short_one(server: Starting, client: Building) -> None:
    some = b",".join(b"%d" % number for number in range(10**11, 10**11 + 10_000))

    def serve(server: Server, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(b'HTTP/1.0 200 OK\r\n\r\n{"result":{"smartAssetsId":[')
        for _ in range(30):
            connection.sendall(some + b",")
        connection.sendall(b"7]}}")

    nmp = client(server(serve).url)
    tracemalloc.start()
    try:
        with nmp.listed_claims("demo-gift", seconds=AMPLE * 6) as listed:
            ids = sum(1 for _ in listed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (ids, listed.complete) == (300_001, True)
    assert peak < 3_000_000  # bytes; the ids alone would be 18 million


# -- against the sandbox -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as running:
        running.start(seed=7, config={"switches": {"earlier_claims": {"demo-gift": 20_000}}})
        yield running


@pytest.fixture
def all_ids(sandbox: SandboxServer, client: Building) -> list[str]:
    ids, listed = read(client(sandbox.base_url, key=sandbox.api_key))
    assert (len(ids), listed.complete) == (20_000, True)
    return ids


# The whole list has 260,030 bytes: 28 before the first id, and 13 for each with its comma. Half of it ends after 9,999.
@pytest.mark.parametrize(
    ("fault", "options", "found", "complete"),
    [
        ("slow", {"seconds": 2 * SOON}, 20_000, True),
        ("truncated", {}, 9_999, False),
        ("cut", {}, 9_999, False),
        ("drip", {"seconds": 0.01}, 0, False),
        ("short_list", {}, 10_000, True),  # the count of the claims tells
    ],
)
def test_what_the_sandbox_does_to_a_list_is_seen(
    fault: str,
    options: dict[str, float],
    found: int,
    complete: bool,
    sandbox: SandboxServer,
    client: Building,
    all_ids: list[str],
) -> None:
    nmp = client(sandbox.base_url, key=sandbox.api_key, read_timeout=SOON)
    sandbox.control().queue_fault(fault, call="list", **options)
    ids, listed = read(nmp, SOON if fault == "drip" else AMPLE)
    assert (ids, listed.complete) == (all_ids[:found], complete)
    assert nmp.claimed_count("demo-gift") == 20_000


@pytest.mark.parametrize("fault", ["hang", "lost_answer", "connection_reset", "server_error_after", "html_error"])
def test_without_an_answer_of_the_sandbox_there_is_no_list(
    fault: str, sandbox: SandboxServer, client: Building
) -> None:
    sandbox.control().queue_fault(fault, call="list")
    with pytest.raises(NmpUncertainError):
        read(client(sandbox.base_url, key=sandbox.api_key), SOON)


def test_a_late_reset_is_uncertain_and_takes_effect_after_the_client_has_gone(
    sandbox: SandboxServer, client: Building
) -> None:
    nmp, control = client(sandbox.base_url, key=sandbox.api_key), sandbox.control()
    nmp.reserve("late", deadline=time.monotonic() + AMPLE)
    control.queue_fault("late", call="reset", seconds=3 * SOON)
    with pytest.raises(NmpUncertainError, match="no complete answer came in time"):
        nmp.reset_all("late", seconds=SOON)
    asked = control.history()[-1]
    assert (asked["kind"], asked["certificates"]) == ("reset", None)
    assert wait_until(lambda: control.counters()["tags"]["late"]["reserved"] == 0, AMPLE)
    assert control.history()[-1]["time"] == asked["time"] + 3 * SOON
