"""Each point the NMP's documentation leaves open can be read either way."""

import re
import time

import pytest

from sandbox.errors import SandboxError
from sandbox.server import SandboxControl

from .conftest import Nmp


def test_ids_can_be_strings(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.set_switches(ids_as_strings=True)
    body = nmp.reserve(tag).json()
    assert isinstance(body["certificateId"], str)
    assert isinstance(body["deeplink"]["certificateId"], str)
    control.claim(body["deeplink"]["link"])
    assert nmp.claimed([tag]) == [body["certificateId"]]


def test_deeplink_can_be_a_string(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.set_switches(deeplink="string")
    body = nmp.reserve(tag).json()
    assert body["deeplink"] == f"https://test.arianee.net/{body['certificateId']},{body['passphrase']}"


@pytest.mark.parametrize(
    ("switches", "pattern"),
    [
        ({"link_fields": 3}, r"https://test\.arianee\.net/\d+,\w{12},testnet"),
        ({"link_fields": 4}, r"https://test\.arianee\.net/\d+,\w{12},testnet,0x[0-9a-f]{40}"),
        ({"link_method": True}, r"https://test\.arianee\.net/requestOwnership/\d+,\w{12}"),
        ({"link_host": "brand.example"}, r"https://brand\.example/\d+,\w{12}"),
        ({"link_query": "lang=fr"}, r"https://test\.arianee\.net/\d+,\w{12}\?lang=fr"),
        ({"passphrase_digits": True}, r"https://test\.arianee\.net/\d+,\d{12}"),
        ({"passphrase_length": 13}, r"https://test\.arianee\.net/\d+,\w{13}"),
        ({"trailing_newline": True}, r"https://test\.arianee\.net/\d+,\w{12}\n"),
    ],
)
def test_a_link_can_have_another_form_and_claims_all_the_same(
    nmp: Nmp, control: SandboxControl, tag: str, switches: dict[str, object], pattern: str
) -> None:
    control.set_switches(**switches)
    link = nmp.reserved_link(tag)
    assert re.fullmatch(pattern, link)
    assert control.claim(link) == "done"


def test_content_types_and_unknown_fields_can_differ(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.set_switches(link_content_type="text/html", object_content_type="text/json", extra_fields=True)
    assert nmp.reserve(tag, "link").headers["content-type"] == "text/html"
    answer = nmp.reserve(tag)
    assert answer.headers["content-type"] == "text/json"
    assert "undocumented" in answer.json()


def test_a_passport_that_was_reset_can_come_back_with_a_new_passphrase(
    nmp: Nmp, control: SandboxControl, tag: str
) -> None:
    control.set_switches(passphrase_after_reset="new")
    old = nmp.reserve(tag).json()
    nmp.reset(tag)
    new = nmp.reserve(tag).json()
    assert new["certificateId"] == old["certificateId"]
    assert new["passphrase"] != old["passphrase"]
    assert control.claim(old["deeplink"]["link"]) == "not_valid"
    assert control.claim(new["deeplink"]["link"]) == "done"


def test_passports_that_were_reset_can_queue_up_behind_the_others(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.create_pool(tag, 2)
    control.set_switches(reset_returns_to="back")
    first = nmp.reserved_link(tag)
    nmp.reset(tag)
    assert nmp.reserved_link(tag) != first
    assert nmp.reserved_link(tag) == first


def test_reset_all_can_reset_only_some(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.set_switches(reset_scope="some")
    for _ in range(40):
        nmp.reserved_link(tag)
    count = nmp.reset(tag).json()["count"]
    assert 1 <= count <= 40
    assert control.counters()["tags"][tag]["reserved"] == 40 - count
    entry = control.history()[-1]
    assert len(entry["certificates"]) == count


@pytest.mark.parametrize(("right", "status"), [("certCreate", 403), ("certRead", 200), (None, 200)])
def test_reset_all_can_need_any_right(
    nmp: Nmp, control: SandboxControl, tag: str, right: str | None, status: int
) -> None:
    control.set_switches(reset_right=right)
    reader = Nmp(nmp.base_url, control.add_key("reader", ["certRead"]))
    assert reader.reset(tag).status_code == status


@pytest.mark.parametrize(("rule", "statuses"), [("and", [200, 400]), ("or", [200, 200])])
def test_several_tags_can_mean_and_or_or(
    nmp: Nmp, control: SandboxControl, tag: str, rule: str, statuses: list[int]
) -> None:
    control.set_switches(tag_rule=rule, auto_pool=False)
    control.create_pool([f"{tag}-a", f"{tag}-b"], 1)
    control.create_pool(f"{tag}-a", 1)
    assert [nmp.reserve(f"{tag}-a,{tag}-b").status_code for _ in range(2)] == statuses


def test_the_second_reading_gives_one_link_to_everybody_until_someone_scans_or_claims(
    nmp: Nmp, control: SandboxControl, tag: str
) -> None:
    control.set_switches(consume_on="claim")
    control.create_pool(tag, 3)
    first = nmp.reserved_link(tag)
    assert nmp.reserved_link(tag) == first
    assert [entry["repeated"] for entry in control.history()[-2:]] == [False, True]
    assert control.scan(first) == "done"
    second = nmp.reserved_link(tag)
    assert second != first
    assert control.claim(second) == "done"
    assert nmp.reserved_link(tag) not in (first, second)
    assert control.counters()["tags"][tag] == {"size": 3, "reserved": 1, "claimed": 1, "free": 1, "epoch": 0}


@pytest.mark.parametrize(("switch", "status"), [(False, 400), (True, 200)])
def test_reserve_one_can_give_a_passport_that_is_already_claimed(
    nmp: Nmp, control: SandboxControl, tag: str, switch: bool, status: int
) -> None:
    control.set_switches(reserve_claimed=switch)
    control.create_pool(tag, 1)
    link = nmp.reserved_link(tag)
    nmp.reset(tag)
    assert control.claim(link) == "done"  # by the old link, while the passport is back in its pool
    assert nmp.reserve(tag).status_code == status


def test_an_old_link_can_live_on_until_its_replacement_is_mined(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.set_switches(mining_seconds=3600)
    body = nmp.reserve(tag).json()
    new_link = nmp.replace(body["certificateId"]).json()["link"]
    assert control.claim(new_link) == "not_valid"
    assert control.claim(body["deeplink"]["link"]) == "done"


@pytest.mark.parametrize(
    ("refusal", "content"),
    [
        ({"status": 403, "body": {}}, b"{}"),
        ({"status": 401, "body": "<html>who are you?</html>"}, b"<html>who are you?</html>"),
    ],
)
def test_a_refusal_can_look_like_anything(
    nmp: Nmp, control: SandboxControl, tag: str, refusal: dict[str, object], content: bytes
) -> None:
    control.set_switches(no_key=refusal, wrong_key=refusal, no_right=refusal)
    creator = control.add_key("creator", ["certCreate"])
    list_path = "/certificate/getListOfSmartAssetsIdByTags"
    for answer in (
        Nmp(nmp.base_url, None).reserve(tag),
        Nmp(nmp.base_url, "wrong").reserve(tag),
        Nmp(nmp.base_url, creator).call("POST", list_path, json={"tags": [tag]}),
    ):
        assert (answer.status_code, answer.content) == (refusal["status"], content)


def test_an_answer_can_take_its_time(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    assert control.set_switches(latency_ms=200)["latency_ms"] == [200, 200]
    began = time.monotonic()
    nmp.reserve(tag)
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(
    "switches", [{"latency_ms": [5, 1]}, {"link_fields": 5}, {"no_such_switch": 1}, {"object_content_type": "a\r\nb"}]
)
def test_a_switch_that_cannot_be_is_named_and_nothing_changes(
    control: SandboxControl, switches: dict[str, object]
) -> None:
    before = control.switches()
    with pytest.raises(SandboxError, match=next(iter(switches))):
        control.set_switches(auto_pool=False, **switches)
    assert control.switches() == before
