"""The calls of the NMP client, against a raw server and against the sandbox."""

import json
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

import include.nmp.client
import include.nmp.wire
from include.nmp.answers import LinkRules, RawAnswer, read_answer
from include.nmp.client import NewLink, NmpClient
from include.nmp.connection import NmpConnection
from include.nmp.errors import (
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
from tests.include.nmp.raw_server import (
    BODY,
    KEY,
    LINK,
    PHRASE,
    SOON,
    Building,
    Serve,
    Starting,
    always,
    answer,
    call,
    once,
    then_hang,
)

# -- the reserve call --------------------------------------------------------------------------------------------------


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


def test_the_text_format_is_taken_as_it_comes(server: Starting, client: Building) -> None:
    nmp = server(always(answer(LINK.encode() + b"\n", "200 OK", "Content-Type: application/octet-stream")))
    reading = read_answer(call(client(nmp.url)), LinkRules("test"))
    assert (reading.outcome, reading.link) == (AttemptOutcome.RESERVED, LINK)


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
        (always(answer(BODY, "401 Unauthorized")), NmpRefusedError, "the NMP did not accept the API key", False),
        (always(answer(BODY, "403 Forbidden")), NmpRefusedError, "lacks a right", False),
        (always(answer(BODY, "404 Not Found")), NmpRefusedError, "no such route; check the base URL", False),
        (always(answer(BODY, "400 Bad Request")), NmpRefusedError, "the NMP did not understand the request", False),
        (
            always(answer(BODY, "500 Internal Server Error")),
            NmpUncertainError,
            "may have been done or not: it answered 500",
            True,
        ),
        (always(answer(BODY, "302 Found", "Location: /x")), NmpUncertainError, "it answered 302", True),
        (then_hang(b""), NmpUncertainError, "no complete answer came in time", True),
        (once(answer()[:-1]), NmpUncertainError, "the answer is incomplete", True),
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
        "the reset of tag 'demo-gift' failed at the NMP nmp.invalid:8080: the host name of the connection nmp "
        "could not be resolved (gaierror)"
    )


def test_a_check_reserves_nothing_and_says_what_it_could_not_prove(server: Starting, client: Building) -> None:
    nmp = server(always(answer(b'{"result": {"count": 0}}')))
    assert client(nmp.url).check() == (
        f"The NMP at 127.0.0.1:{nmp.port} answers and its API key may read claims (certRead). Only a call that "
        "consumes a passport could show whether the key may reserve (certCreate) and reset. The key is sent "
        "unencrypted (http)."
    )
    [request] = nmp.requests
    assert request.startswith("POST /certificate/getCountOfSmartAssetsIdByTags ")


def test_a_check_does_not_trust_an_nmp_that_counts_claims_of_no_tag(server: Starting, client: Building) -> None:
    nmp = server(always(answer(b'{"result": {"count": 3}}')))
    with pytest.raises(NmpUnreadableError, match="counts 3 claims for a tag that does not exist"):
        client(nmp.url).check()


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
        (Fault.CUT, AttemptOutcome.UNREADABLE),
        (Fault.SLOW, AttemptOutcome.UNKNOWN),
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
    with pytest.raises(NmpRefusedError, match="401: the NMP did not accept the API key"):
        check("wrong-key")
    with pytest.raises(NmpRefusedError, match="403: the API key is unknown or lacks a right"):
        check(sandbox.control().add_key("reserver", [Right.CERT_CREATE]))
    assert sandbox.control().counters()["reservations"] == before["reservations"]
