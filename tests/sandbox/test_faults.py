"""Every fault does over a real socket what its name says, and the history knows whether a passport was given."""

import socket
import struct
import time
from typing import Any

import pytest
import requests
from pydantic import ValidationError

from sandbox.errors import SandboxError
from sandbox.faults import CallKind, Fault, FaultPlan, FaultRule
from sandbox.server import SandboxControl, SandboxServer

from .conftest import Nmp


def raw_reserve(server: SandboxServer, tag: str, limit: float = 5) -> tuple[bytes, str]:
    """What a bare socket receives for one reserveOne, and how it ended: closed, reset or open."""
    host, port = server.base_url.removeprefix("http://").split(":")
    request = (
        f"GET /dispenser/distribution/reserveOne?tags={tag} HTTP/1.1\r\nhost: {host}\r\nx-api-key: sandbox-key\r\n\r\n"
    )
    received = b""
    with socket.create_connection((host, int(port)), timeout=limit) as connection:
        connection.sendall(request.encode())
        try:
            while piece := connection.recv(4096):
                received += piece
        except ConnectionResetError:
            return received, "reset"
        except TimeoutError:
            return received, "open"
    return received, "closed"


def last(control: SandboxControl) -> dict[str, Any]:
    return control.history()[-1]


def given(control: SandboxControl, tag: str) -> int:
    return control.counters()["tags"].get(tag, {}).get("reserved", 0)


def test_a_lost_answer_ends_the_connection_without_a_byte_after_the_passport_is_gone(
    server: SandboxServer, control: SandboxControl, tag: str
) -> None:
    control.queue_fault("lost_answer")
    assert raw_reserve(server, tag) == (b"", "closed")
    assert given(control, tag) == 1
    assert (last(control)["fault"], last(control)["outcome"]) == ("lost_answer", None)
    assert last(control)["certificate_id"] is not None


def test_an_answer_can_be_lost_without_a_passport(server: SandboxServer, control: SandboxControl, tag: str) -> None:
    control.queue_fault("lost_answer", commit=False)
    assert raw_reserve(server, tag) == (b"", "closed")
    assert given(control, tag) == 0
    assert last(control)["certificate_id"] is None


def test_a_connection_reset_is_a_tcp_reset(server: SandboxServer, control: SandboxControl, tag: str) -> None:
    control.queue_fault("connection_reset")
    assert raw_reserve(server, tag) == (b"", "reset")
    assert given(control, tag) == 1


def test_a_hang_says_nothing_until_the_caller_gives_up(
    server: SandboxServer, control: SandboxControl, tag: str
) -> None:
    control.queue_fault("hang")
    assert raw_reserve(server, tag, limit=0.3) == (b"", "open")
    assert given(control, tag) == 1


def test_a_hang_ends_at_its_limit(server: SandboxServer, control: SandboxControl, tag: str) -> None:
    control.queue_fault("hang", seconds=0.2)
    began = time.monotonic()
    assert raw_reserve(server, tag) == (b"", "closed")
    assert 0.2 <= time.monotonic() - began < 4


def test_a_drip_gives_the_body_byte_by_byte(server: SandboxServer, control: SandboxControl, tag: str) -> None:
    control.queue_fault("drip", seconds=0.005)
    began = time.monotonic()
    received, end = raw_reserve(server, tag)
    assert end == "closed"
    assert time.monotonic() - began >= 0.5  # over 190 bytes
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: %d" % len(body) in head


def test_a_drip_outlasts_a_caller_that_gives_up(server: SandboxServer, control: SandboxControl, tag: str) -> None:
    control.queue_fault("drip", seconds=0.3)
    received, end = raw_reserve(server, tag, limit=0.1)
    assert end == "open"
    assert received.endswith(b"\r\n\r\n")  # the headers, and no byte of the body yet
    assert given(control, tag) == 1


def test_headers_can_drip_too(server: SandboxServer, control: SandboxControl, tag: str) -> None:
    control.queue_fault("drip_headers", seconds=0.3)
    assert raw_reserve(server, tag, limit=0.1) == (b"", "open")


def test_a_truncated_answer_promises_more_than_it_sends(
    server: SandboxServer, control: SandboxControl, tag: str
) -> None:
    control.queue_fault("truncated")
    received, end = raw_reserve(server, tag)
    head, _, body = received.partition(b"\r\n\r\n")
    promised = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert end == "closed"
    assert len(body) == promised // 2
    assert given(control, tag) == 1


@pytest.mark.parametrize(
    ("fault", "options", "status", "gives"),
    [
        ("server_error_before", {}, 500, 0),
        ("server_error_before", {"status": 504}, 504, 0),
        ("server_error_after", {}, 500, 1),
        ("server_error_after", {"status": 502}, 502, 1),
        ("too_many_requests", {}, 429, 0),
        ("unavailable", {}, 503, 0),
        ("redirect", {"status": 307}, 307, 0),
        ("html_error", {}, 502, 0),
        ("html_error", {"status": 200, "commit": True}, 200, 1),
        ("rubbish", {}, 200, 1),
        ("wrong_host", {}, 200, 1),
    ],
)
def test_an_answer_in_error_consumes_what_its_name_says(
    nmp: Nmp, control: SandboxControl, tag: str, fault: str, options: dict[str, Any], status: int, gives: int
) -> None:
    control.queue_fault(fault, **options)
    assert nmp.reserve(tag).status_code == status
    assert given(control, tag) == gives
    assert (last(control)["fault"], last(control)["outcome"]) == (fault, status)


@pytest.mark.parametrize(
    ("fault", "options", "header"),
    [
        ("too_many_requests", {}, None),
        ("too_many_requests", {"retry_after": 7}, "7"),
        ("too_many_requests", {"retry_after": "Mon, 23 Nov 2026 02:00:00 GMT"}, "Mon, 23 Nov 2026 02:00:00 GMT"),
        ("unavailable", {}, "1"),
    ],
)
def test_a_throttled_caller_is_told_when_to_come_back_or_not(
    nmp: Nmp, control: SandboxControl, tag: str, fault: str, options: dict[str, Any], header: str | None
) -> None:
    control.queue_fault(fault, **options)
    assert nmp.reserve(tag).headers.get("retry-after") == header


def test_following_a_redirect_calls_again(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.queue_fault("redirect")
    url = f"{nmp.base_url}/dispenser/distribution/reserveOne?tags={tag}"
    answer = requests.get(url, headers={"x-api-key": "sandbox-key"}, timeout=10)
    assert [step.status_code for step in answer.history] == [302]
    assert answer.status_code == 200
    assert given(control, tag) == 1


def test_a_gateway_page_is_html_and_rubbish_is_no_answer(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.queue_fault("html_error")
    page = nmp.reserve(tag)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    control.queue_fault("rubbish")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        nmp.reserve(tag).json()


def test_a_link_can_be_of_another_host(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.queue_fault("wrong_host")
    assert nmp.reserve(tag).json()["deeplink"]["link"].startswith("https://arianee.net/")
    control.queue_fault("wrong_host", host="evil.example")
    assert nmp.reserved_link(tag).startswith("https://evil.example/")


def test_a_live_certificate_can_be_given_twice_and_consumes_nothing(
    nmp: Nmp, control: SandboxControl, tag: str
) -> None:
    control.queue_fault("duplicate", tag=tag)
    first = nmp.reserved_link(tag)  # nothing is live yet: the fault waits
    assert nmp.reserved_link(tag) == first
    assert nmp.reserved_link(tag) != first
    entries = control.history()[-3:]
    assert [(entry["fault"], entry["repeated"]) for entry in entries] == [
        (None, False),
        ("duplicate", True),
        (None, False),
    ]
    assert given(control, tag) == 2


def test_an_empty_pool_stays_empty_under_faults(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.create_pool(tag, 0)
    control.queue_fault("server_error_after")
    control.queue_fault("rubbish")
    assert [nmp.reserve(tag).status_code for _ in range(2)] == [500, 400]
    assert given(control, tag) == 0


def test_a_queue_serves_its_faults_in_order_to_the_calls_they_are_for(
    nmp: Nmp, control: SandboxControl, tag: str
) -> None:
    control.queue_fault("server_error_before", times=2, tag=tag)
    control.queue_fault("too_many_requests", tag=tag)
    control.queue_fault("unavailable", call="reset")
    assert nmp.reserve(tag + "-other").status_code == 200
    assert [rule["limit"] for rule in control.faults()["queue"]] == [2, 1, 1]
    assert [nmp.reserve(tag).status_code for _ in range(4)] == [500, 500, 429, 200]
    assert [nmp.reset(tag).status_code for _ in range(2)] == [503, 200]
    assert control.faults()["queue"] == []


@pytest.mark.parametrize("call", ["reset", "replace", "list", "count"])
def test_every_call_can_have_a_fault(nmp: Nmp, control: SandboxControl, tag: str, call: str) -> None:
    certificate_id = nmp.reserve(tag).json()["certificateId"]
    control.queue_fault("lost_answer", call=call)
    calls = {
        "reset": lambda: nmp.reset(tag),
        "replace": lambda: nmp.replace(certificate_id),
        "list": lambda: nmp.claimed([tag]),
        "count": lambda: nmp.claimed_count([tag]),
    }
    with pytest.raises(requests.ConnectionError):
        calls[call]()
    assert (last(control)["kind"], last(control)["fault"]) == (call, "lost_answer")


def test_a_refused_caller_uses_up_no_fault(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.queue_fault("server_error_before")
    assert Nmp(nmp.base_url, "wrong").reserve(tag).status_code == 401
    assert nmp.reserve(tag).status_code == 500


def test_a_mix_strikes_its_share_and_counts_it(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    before = control.counters()["faults"].get("too_many_requests", 0)
    control.set_faults([{"fault": "too_many_requests", "probability": 0.5, "limit": 10}])
    statuses = [nmp.reserve(tag).status_code for _ in range(60)]
    assert statuses.count(429) == 10
    assert control.counters()["faults"]["too_many_requests"] - before == 10


@pytest.mark.parametrize(
    "rules",
    [
        [{"fault": "hang", "probability": 0.6}, {"fault": "drip", "probability": 0.6}],
        [{"fault": "no_such_fault"}],
        [{"fault": "duplicate", "call": "reset"}],
        [{"fault": "duplicate", "commit": False}],
        [{"fault": "late"}],
        [{"fault": "late", "call": "list"}],
        [{"fault": "short_list", "call": "count"}],
        [{"fault": "short_list", "call": "list", "commit": False}],
        [{"fault": "hang", "status": 500}],
        [{"fault": "hang", "probability": 0}],
    ],
)
def test_faults_that_cannot_be_are_refused_and_none_is_set(
    control: SandboxControl, rules: list[dict[str, Any]]
) -> None:
    with pytest.raises(SandboxError, match="422"):
        control.set_faults(rules)
    assert control.faults() == {"mix": [], "queue": []}


# --- the plan alone ----------------------------------------------------------------------------------------------

MIX = [
    FaultRule(fault=Fault.LOST_ANSWER, probability=0.05),
    FaultRule(fault=Fault.TOO_MANY_REQUESTS, probability=0.01, burst=4),
    FaultRule(fault=Fault.DUPLICATE, probability=0.01, limit=1),
    FaultRule(fault=Fault.HANG, probability=0.5, call=CallKind.RESET),
]


def schedule(seed: int, calls: int, kind: CallKind = CallKind.RESERVE) -> list[str | None]:
    plan = FaultPlan(seed)
    plan.set_mix(MIX)
    drawn = [plan.draw(kind, ("a",), can_repeat=True) for _ in range(calls)]
    return [rule.fault if rule else None for rule in drawn]


def test_a_seed_reproduces_the_schedule_and_another_gives_another() -> None:
    assert schedule(1, 2000) == schedule(1, 2000)
    assert schedule(1, 2000) != schedule(2, 2000)


def test_probabilities_are_kept_over_many_calls() -> None:
    faults = schedule(3, 20_000)
    assert 900 < faults.count("lost_answer") < 1100  # 5 % of 20,000
    assert faults.count("duplicate") == 1
    assert faults.count("hang") == 0  # that one is for resets
    assert 9_700 < schedule(3, 20_000, CallKind.RESET).count("hang") < 10_300


def test_a_burst_strikes_so_many_calls_in_a_row() -> None:
    faults = schedule(4, 2000)
    first = faults.index("too_many_requests")
    assert faults[first : first + 4] == ["too_many_requests"] * 4


def test_faults_set_later_keep_the_lots_of_the_calls_to_come() -> None:
    early, late = FaultPlan(5), FaultPlan(5)
    early.set_mix(MIX[:1])
    drawn_early = [early.draw(CallKind.RESERVE, ("a",), can_repeat=True) for _ in range(500)]
    for _ in range(250):
        assert late.draw(CallKind.RESERVE, ("a",), can_repeat=True) is None
    late.set_mix(MIX[:1])
    assert [late.draw(CallKind.RESERVE, ("b",), can_repeat=True) for _ in range(250)] == drawn_early[250:]


def test_a_rule_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ValidationError, match="strikes only reserve"):
        FaultRule(fault=Fault.WRONG_HOST, call=CallKind.LIST)


def test_a_client_that_resets_its_own_connection_harms_nobody(server: SandboxServer, nmp: Nmp, tag: str) -> None:
    host, port = server.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(b"GET /dispenser/distribution/reserveOne?tags=")
    assert nmp.reserve(tag).status_code == 200
