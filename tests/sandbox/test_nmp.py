"""The sandbox answers as the NMP's documentation writes, over a real socket."""

import re
import socket

import pytest
import requests

from sandbox.server import SandboxControl, SandboxServer

from .conftest import Nmp

EMPTY = {
    "name": "API Error",
    "description": "No NFT found to distribute",
    "code": "nmp.back.dispenser.oneToOne.noNFTsToSend",
    "httpCode": 400,
}
LINK = r"https://test\.arianee\.net/[1-9][0-9]{8,10},[a-z0-9]{12}"


def test_reserve_one_gives_a_link_object(nmp: Nmp, tag: str) -> None:
    answer = nmp.reserve(tag)
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert set(body) == {"method", "certificateId", "passphrase", "deeplink"}
    assert body["method"] == "requestOwnership"
    assert isinstance(body["certificateId"], int)
    assert body["deeplink"] == {
        "certificateId": body["certificateId"],
        "passphrase": body["passphrase"],
        "link": f"https://test.arianee.net/{body['certificateId']},{body['passphrase']}",
    }


def test_reserve_one_gives_a_plain_link_when_asked(nmp: Nmp, tag: str) -> None:
    answer = nmp.reserve(tag, "link")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(LINK, answer.text)


def test_an_empty_pool_and_an_unknown_tag_answer_the_same(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.set_switches(auto_pool=False)
    control.create_pool(tag, 1)
    assert nmp.reserve(tag).status_code == 200
    empty, unknown = nmp.reserve(tag), nmp.reserve(tag + "-unknown")
    assert (empty.status_code, empty.json()) == (400, EMPTY)
    assert (unknown.status_code, unknown.json()) == (400, EMPTY)
    assert tag + "-unknown" not in control.counters()["tags"]


def test_an_unknown_tag_gets_a_pool_of_the_given_size_on_first_sight(
    nmp: Nmp, control: SandboxControl, tag: str
) -> None:
    control.set_switches(auto_pool_size=2)
    assert [nmp.reserve(tag).status_code for _ in range(3)] == [200, 200, 400]


def test_tags_are_case_sensitive(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.set_switches(auto_pool=False)
    control.create_pool(tag, 5)
    assert nmp.reserve(tag.upper()).status_code == 400


def test_reset_all_gives_the_count_and_zero_for_a_wrong_tag(nmp: Nmp, tag: str) -> None:
    links = [nmp.reserved_link(tag) for _ in range(3)]
    assert len(set(links)) == 3
    answer = nmp.reset(tag)
    assert (answer.status_code, answer.json()) == (200, {"count": 3})
    assert nmp.reset(tag).json() == {"count": 0}
    assert nmp.reset(tag + "-wrong").json() == {"count": 0}


def test_a_reset_leaves_claimed_passports_alone(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    claimed, _ = nmp.reserved_link(tag), nmp.reserved_link(tag)
    assert control.claim(claimed) == "done"
    assert nmp.reset(tag).json() == {"count": 1}
    assert len(nmp.claimed([tag])) == 1


def test_after_a_reset_the_old_link_still_claims_and_the_next_order_gets_it_too(
    nmp: Nmp, control: SandboxControl, tag: str
) -> None:
    link = nmp.reserved_link(tag)
    nmp.reset(tag)
    assert nmp.reserved_link(tag) == link
    assert control.claim(link) == "done"


def test_a_claim_is_for_good_and_the_first_one_wins(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    body = nmp.reserve(tag).json()
    id_, passphrase = body["certificateId"], body["passphrase"]
    assert control.claim(certificate_id=id_, passphrase="wrongwrongww") == "not_valid"
    assert nmp.claimed([tag]) == []
    assert control.claim(certificate_id=id_, passphrase=passphrase) == "done"
    assert control.claim(body["deeplink"]["link"]) == "already_claimed"
    assert nmp.claimed([tag]) == [id_]
    assert nmp.claimed_count([tag]) == 1


def test_lists_join_tags_by_and_or_or(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    both = f"{tag}-a,{tag}-b"
    control.create_pool([f"{tag}-a", f"{tag}-b"], 1)
    control.create_pool(f"{tag}-a", 1)
    first = nmp.reserve(both).json()
    second = nmp.reserve(f"{tag}-a").json()
    assert first["certificateId"] != second["certificateId"]
    for body in (first, second):
        control.claim(body["deeplink"]["link"])
    assert nmp.claimed([f"{tag}-a", f"{tag}-b"], "and") == [first["certificateId"]]
    assert nmp.claimed([f"{tag}-a", f"{tag}-b"], "or") == [first["certificateId"], second["certificateId"]]
    assert nmp.claimed([tag + "-wrong"]) == []


def test_replacing_a_link_ends_the_old_one(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    body = nmp.reserve(tag).json()
    answer = nmp.replace(body["certificateId"]).json()
    assert answer["certificateId"] == body["certificateId"]
    assert len(answer["passphrase"]) == 13
    assert answer["link"] == f"https://test.arianee.net/{body['certificateId']},{answer['passphrase']}"
    assert control.claim(body["deeplink"]["link"]) == "not_valid"
    assert control.claim(answer["link"]) == "done"


def test_a_replacement_can_name_its_passphrase(nmp: Nmp, tag: str) -> None:
    body = nmp.reserve(tag).json()
    assert nmp.replace(body["certificateId"], "my-own").json()["passphrase"] == "my-own"


def test_a_claimed_or_unknown_passport_cannot_get_a_new_link(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    body = nmp.reserve(tag).json()
    control.claim(body["deeplink"]["link"])
    assert nmp.replace(body["certificateId"]).status_code == 500
    assert nmp.replace(1).status_code == 500


@pytest.mark.parametrize(
    ("key", "status", "body"),
    [(None, 401, {"message": "Unauthorized"}), ("wrong", 401, {"message": "Unauthorized"})],
)
def test_a_caller_without_a_known_key_gets_nothing(
    nmp: Nmp, control: SandboxControl, tag: str, key: str | None, status: int, body: dict[str, str]
) -> None:
    before = control.counters()["reservations"]
    answer = Nmp(nmp.base_url, key).reserve(tag)
    assert (answer.status_code, answer.json()) == (status, body)
    assert control.counters()["reservations"] == before


def test_a_key_does_only_what_its_rights_say(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    reader = Nmp(nmp.base_url, control.add_key("reader", ["certRead"]))
    creator = Nmp(nmp.base_url, control.add_key("creator", ["certCreate"]))
    assert reader.claimed([tag]) == []
    answer = reader.reserve(tag)
    assert (answer.status_code, answer.json()) == (403, {"message": "no user"})
    assert reader.reset(tag).status_code == 403
    assert creator.reserve(tag).status_code == 200
    assert creator.call("POST", "/certificate/getListOfSmartAssetsIdByTags", json={"tags": [tag]}).status_code == 403


def test_a_new_key_of_a_user_revokes_the_former(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    former = control.add_key("marketing")
    latter = control.add_key("marketing")
    assert Nmp(nmp.base_url, former).reserve(tag).status_code == 401
    assert Nmp(nmp.base_url, latter).reserve(tag).status_code == 200
    control.remove_key("marketing")
    assert Nmp(nmp.base_url, latter).reserve(tag).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/dispenser/distribution/reserveOne", {}, 400),
        ("GET", "/dispenser/distribution/reserveOne?tags=a&tags=b", {}, 400),
        ("GET", "/dispenser/distribution/reserveOne?tags=a&format=pdf", {}, 400),
        ("POST", "/dispenser/distribution/reserveOne?tags=a", {}, 405),
        ("HEAD", "/dispenser/distribution/reserveOne?tags=a", {}, 405),
        ("GET", "/dispenser/distribution/reserveTwo?tags=a", {}, 404),
        ("POST", "/api/createCertificateRequestOwnershipLink", {"json": {"id": 1}}, 400),
        ("POST", "/api/createCertificateRequestOwnershipLink", {"json": ["1x"]}, 400),
        ("POST", "/certificate/getListOfSmartAssetsIdByTags", {"json": {"tags": "a"}}, 400),
        ("POST", "/certificate/getListOfSmartAssetsIdByTags", {"data": "no json"}, 400),
        ("POST", "/certificate/getListOfSmartAssetsIdByTags", {"json": {"tags": ["a"], "tagRule": "xor"}}, 400),
    ],
)
def test_what_the_documentation_does_not_allow_is_refused_and_does_nothing(
    nmp: Nmp, control: SandboxControl, method: str, path: str, options: dict[str, object], status: int
) -> None:
    before = control.counters()["last_seq"]
    answer = nmp.call(method, path, **options)
    assert answer.status_code == status
    assert control.counters()["last_seq"] == before


def test_two_requests_sent_at_once_on_one_connection_both_get_their_answer(server: SandboxServer, tag: str) -> None:
    host, port = server.base_url.removeprefix("http://").split(":")
    request = (
        f"GET /dispenser/distribution/reserveOne?tags={tag}&format=link HTTP/1.1\r\n"
        f"host: {host}\r\nx-api-key: sandbox-key\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall((request + "\r\n" + request + "connection: close\r\n\r\n").encode())
        received = b""
        while piece := connection.recv(4096):
            received += piece
    assert len(set(re.findall(LINK.encode(), received))) == 2


def test_the_history_keeps_the_callers_own_name_for_a_call(server: SandboxServer, control: SandboxControl) -> None:
    url = server.base_url + "/dispenser/distribution/reserveOne?tags=named"
    requests.get(url, headers={"x-api-key": "sandbox-key", "x-request-id": "attempt-17"}, timeout=10)
    assert control.history()[-1]["request_id"] == "attempt-17"
