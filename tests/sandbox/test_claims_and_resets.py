"""What the NMP may do with claims, resets and replacements, and the documentation leaves open."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.answers import Answer
from sandbox.calls import Call, CustomerAct, LinkFormat, parse_link
from sandbox.errors import SandboxError
from sandbox.faults import CallKind, Fault, FaultRule
from sandbox.journal import Journal
from sandbox.platform import DEFAULT_USER, Platform
from sandbox.server import SandboxControl

from .conftest import Nmp

DONE, NOT_VALID = "done", "not_valid"
LIST = "/certificate/getListOfSmartAssetsIdByTags"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Shop:
    """A platform whose time passes on command, and its callers."""

    def __init__(self, journal: Journal | None = None, **switches: object) -> None:
        self.clock = Clock()
        self.platform = Platform(None, journal, self.clock)
        if switches:
            self.platform.set_switches(switches)

    def call(self, kind: CallKind, *tags: str, **options: Any) -> Answer:
        return self.platform.call(Call(kind, DEFAULT_USER, has_key=True, tags=tags, **options))

    def link(self, *tags: str) -> str:
        return self.call(CallKind.RESERVE, *tags, format=LinkFormat.LINK).body.decode()

    def reset(self, *tags: str) -> int:
        return int(json.loads(self.call(CallKind.RESET, *tags).body)["count"])

    def replace(self, link: str, passphrase: str | None = None) -> Answer:
        return self.call(CallKind.REPLACE, certificate_id=parse_link(link)[0], passphrase=passphrase)

    def claim(self, link: str) -> str:
        return self.platform.act(CustomerAct.CLAIM, *parse_link(link), link)

    def claimed(self, *tags: str) -> list[str]:
        return [str(id_) for id_ in json.loads(self.call(CallKind.LIST, *tags).body)["result"]["smartAssetsId"]]

    def count(self, *tags: str) -> int:
        return int(json.loads(self.call(CallKind.COUNT, *tags).body)["result"]["count"])

    def late(self, call: CallKind, seconds: float) -> None:
        self.platform.queue_fault(FaultRule(fault=Fault.LATE, call=call, seconds=seconds))

    def reserved(self, tag: str) -> int:
        return int(self.platform.counters()["tags"][tag]["reserved"])


def certificate(link: str) -> str:
    return str(parse_link(link)[0])


# -- resets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old_link", "passphrase", "after_the_reset", "when_given_again", "same_link"),
    [
        ("dies", "kept", NOT_VALID, DONE, True),
        ("dies", "new", NOT_VALID, NOT_VALID, False),
        ("until_given", "kept", DONE, DONE, True),
        ("until_given", "new", DONE, NOT_VALID, False),
        ("lives", "kept", DONE, DONE, True),
        ("lives", "new", DONE, DONE, False),
    ],
)
def test_the_old_link_dies_with_the_reset_or_when_it_is_given_again_or_lives(
    old_link: str, passphrase: str, after_the_reset: str, when_given_again: str, same_link: bool
) -> None:
    shop = Shop(old_link_after_reset=old_link, passphrase_after_reset=passphrase)
    first, second = shop.link("gift"), shop.link("gift")
    assert shop.reset("gift") == 2
    assert shop.claim(first) == after_the_reset
    if after_the_reset == NOT_VALID:  # it comes back before the second
        assert certificate(shop.link("gift")) == certificate(first)
    again = shop.link("gift")
    assert certificate(again) == certificate(second)
    assert (again == second) is same_link
    assert shop.claim(second) == when_given_again
    assert shop.claim(again) == (DONE if when_given_again == NOT_VALID else "already_claimed")


def test_a_link_that_died_with_a_reset_can_be_replaced() -> None:
    shop = Shop(old_link_after_reset="dies", mining_seconds=60)
    old = shop.link("gift")
    shop.reset("gift")
    new = json.loads(shop.replace(old).body)["link"]
    assert shop.claim(old) == NOT_VALID
    assert shop.claim(new) == DONE


def test_a_reset_of_one_tag_takes_the_passports_that_the_other_gave() -> None:
    shop = Shop()
    shop.platform.set_pool(("spring", "summer"), 2)
    spring, summer = shop.link("spring"), shop.link("summer")
    assert shop.claim(summer) == DONE
    assert shop.claimed("spring") == shop.claimed("summer") == [certificate(summer)]
    assert shop.reset("summer") == 1
    assert shop.link("summer") == spring


def test_customers_can_claim_while_a_reset_works() -> None:
    shop = Shop(claims_in_reset=[2, 3])
    links = {certificate(shop.link("gift")) for _ in range(10)}
    assert shop.reset("gift") == 8
    *_, early, early_too, reset, late, late_too, late_three = shop.platform.history()
    claims = [early, early_too, late, late_too, late_three]
    assert [(entry["kind"], entry["outcome"]) for entry in claims] == [("claim", "done")] * 5
    assert [entry["seq"] for entry in [*claims[:2], reset, *claims[2:]]] == [11, 12, 13, 14, 15, 16]
    claimed = {entry["certificate_id"] for entry in claims}
    assert set(reset["certificates"]) == links - {early["certificate_id"], early_too["certificate_id"]}
    assert set(shop.claimed("gift")) == claimed
    assert len(claimed) == 5
    assert shop.reset("gift") == 0


def test_a_claim_after_the_effect_of_a_reset_fails_if_the_link_died() -> None:
    shop = Shop(claims_in_reset=[0, 1], old_link_after_reset="dies")
    link = shop.link("gift")
    assert shop.reset("gift") == 1
    assert shop.platform.history()[-1]["outcome"] == NOT_VALID
    assert shop.claimed("gift") == []
    assert shop.link("gift") == link


def test_a_late_reset_takes_what_is_reserved_when_it_takes_effect() -> None:
    shop = Shop()
    shop.late(CallKind.RESET, 60)
    before = shop.link("gift")
    shop.call(CallKind.RESET, "gift", request_id="r1")
    assert shop.reserved("gift") == 1
    after = shop.link("gift")
    shop.clock.now += 59
    assert shop.reserved("gift") == 2
    shop.clock.now += 5
    assert shop.reserved("gift") == 0
    asked, _, carried_out = shop.platform.history()[1:]
    assert (asked["time"], asked["outcome"], asked["fault"], asked["certificates"]) == (1000.0, None, "late", None)
    assert (carried_out["time"], carried_out["outcome"], carried_out["fault"]) == (1060.0, None, "late")
    assert carried_out["certificates"] == [certificate(before), certificate(after)]
    assert asked["request_id"] == carried_out["request_id"] == "r1"
    assert shop.platform.counters()["requests"]["reset"] == 1
    assert shop.platform.counters()["faults"] == {"late": 1}


def test_late_effects_come_in_the_order_in_which_they_are_due() -> None:
    shop = Shop()
    link = shop.link("gift")
    shop.late(CallKind.RESET, 60)
    shop.late(CallKind.REPLACE, 30)
    shop.call(CallKind.RESET, "gift")
    shop.replace(link, "chosenphrase")
    shop.clock.now += 100
    assert [(entry["kind"], entry["time"]) for entry in shop.platform.history()[-2:]] == [
        ("replace", 1030.0),
        ("reset", 1060.0),
    ]
    assert shop.link("gift").endswith(",chosenphrase")


def test_a_late_effect_comes_also_after_a_restart_and_only_once(tmp_path: Path) -> None:
    first = Journal(tmp_path / "state")
    shop = Shop(first)
    shop.late(CallKind.RESET, 60)
    shop.late(CallKind.RESET, 600)
    links = [shop.link("gift") for _ in range(3)]
    shop.call(CallKind.RESET, "gift")
    shop.call(CallKind.RESET, "gift")
    shop.clock.now += 100
    assert shop.reserved("gift") == 0
    shop.platform.set_switches({"reset_returns_to": "back"})
    again = shop.link("gift")
    assert again not in links
    history = shop.platform.history()
    first.close()

    restarted = Shop(Journal(tmp_path / "state"))
    restarted.clock.now += 100
    assert restarted.platform.history() == history
    restarted.clock.now += 600
    assert restarted.platform.history()[-1]["certificates"] == [certificate(again)]
    assert restarted.reserved("gift") == 0


def test_a_late_reset_over_the_network_answers_nothing(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    nmp.reserved_link(tag)
    control.queue_fault("late", call="reset", seconds=0.3)
    with pytest.raises(requests.ConnectionError):
        nmp.reset(tag)
    assert control.counters()["tags"][tag] == {
        "size": 100_000,
        "reserved": 0,
        "claimed": 0,
        "free": 100_000,
        "epoch": 1,
    }


def test_a_slow_list_says_what_was_true_when_it_was_asked_for(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    nmp.reserved_link(tag)
    control.queue_fault("slow", call="list", seconds=0.3)
    began = time.monotonic()
    assert nmp.claimed([tag]) == []
    assert time.monotonic() - began >= 0.3


def test_a_silent_reset_and_a_lost_answer_of_one_have_taken_effect(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    for fault, options in (("hang", {"seconds": 0.1}), ("lost_answer", {}), ("slow", {"seconds": 0.1})):
        nmp.reserved_link(tag)
        control.queue_fault(fault, call="reset", **options)
        if fault == "slow":
            assert nmp.reset(tag).json() == {"count": 1}
        else:
            with pytest.raises(requests.ConnectionError):
                nmp.reset(tag)
        assert control.counters()["tags"][tag]["reserved"] == 0


# -- lists of claims ---------------------------------------------------------------------------------------------------


def test_a_claim_can_appear_later_in_the_list_and_the_count() -> None:
    shop = Shop(claims_lag_seconds=20)
    early, late = shop.link("gift"), shop.link("gift")
    shop.claim(early)
    shop.clock.now += 10
    shop.claim(late)
    assert (shop.claimed("gift"), shop.count("gift")) == ([], 0)
    shop.clock.now += 10
    assert (shop.claimed("gift"), shop.count("gift")) == ([certificate(early)], 1)
    shop.clock.now += 10
    assert (shop.claimed("gift"), shop.count("gift")) == ([certificate(early), certificate(late)], 2)


def test_a_list_can_be_short_with_its_bracket(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    links = [nmp.reserved_link(tag) for _ in range(5)]
    for link in links:
        control.claim(link)
    control.set_switches(earlier_claims={tag: 4})
    whole = nmp.claimed([tag])
    control.queue_fault("short_list", call="list")
    assert nmp.claimed([tag]) == whole[:2] + whole[4:6]
    assert nmp.claimed_count([tag]) == 9


def test_a_list_can_be_cut_by_a_gateway_that_says_nothing(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.set_switches(earlier_claims={tag: 10})
    control.queue_fault("cut", call="list")
    answer = nmp.call("POST", LIST, json={"tags": [tag]})
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.content.startswith(b'{"result":{"smartAssetsId":[')
    assert b"]" not in answer.content


def test_a_list_can_have_claims_of_long_ago(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    control.set_switches(earlier_claims={tag: 50_000, f"{tag}-other": 3}, extra_fields=True)
    link = nmp.reserved_link(tag)
    control.claim(link)
    ids = nmp.claimed([tag])
    assert len(ids) == len(set(ids)) == 50_001
    assert {len(str(id_)) for id_ in ids[:-1]} == {12}  # the sandbox's own have 11 at most
    assert str(ids[-1]) == certificate(link)
    assert nmp.claimed_count([tag]) == 50_001
    control.set_switches(earlier_claims={tag: 50_002, f"{tag}-other": 3})
    assert nmp.claimed([tag])[:50_000] == ids[:50_000]
    others = nmp.claimed([f"{tag}-other"])
    assert len(others) == 3
    assert not set(others) & set(ids)
    assert nmp.claimed([tag, f"{tag}-other"]) == []
    assert len(nmp.claimed([tag, f"{tag}-other"], "or")) == 50_006
    control.set_switches(ids_as_strings=True)
    assert nmp.claimed([f"{tag}-other"]) == [str(id_) for id_ in others]


def test_there_is_a_limit_to_claims_of_long_ago(control: SandboxControl) -> None:
    with pytest.raises(SandboxError, match="earlier_claims"):
        control.set_switches(earlier_claims={"gift": 10_000_001})


# -- replacements ------------------------------------------------------------------------------------------------------


USED_BEFORE, NOT_CURRENT = "nmp.back.certificate.usedBefore", "nmp.back.certificate.notCurrent"


@pytest.mark.parametrize(
    ("reading", "first", "repeated", "with_the_current_one"),
    [
        ("honoured", "chosen", "chosen", "current"),
        ("repeat_refused", "chosen", USED_BEFORE, USED_BEFORE),
        ("ignored", "made", "made", "made"),
        ("current", NOT_CURRENT, NOT_CURRENT, "made"),
    ],
)
def test_a_replacement_with_a_passphrase_can_be_read_in_four_ways(
    reading: str, first: str, repeated: str, with_the_current_one: str
) -> None:
    shop = Shop(chosen_passphrase=reading)
    link, other = shop.link("gift"), shop.link("gift")
    words = {"chosenphrase": "chosen", parse_link(other)[1]: "current"}

    def answered(answer: Answer) -> str:
        body = json.loads(answer.body)
        return words.get(body["passphrase"], "made") if answer.status == 200 else body["code"]

    assert answered(shop.replace(link, "chosenphrase")) == first
    assert shop.claim(link) == (DONE if first == NOT_CURRENT else NOT_VALID)
    assert answered(shop.replace(other, parse_link(other)[1])) == with_the_current_one
    third = shop.link("gift")
    assert [answered(shop.replace(third, "chosenphrase")) for _ in range(2)] == [first, repeated]


def test_a_repeat_that_is_honoured_changes_nothing() -> None:
    shop = Shop(mining_seconds=60)
    old = shop.link("gift")
    first = json.loads(shop.replace(old, "chosenphrase").body)
    shop.clock.now += 59
    assert json.loads(shop.replace(old, "chosenphrase").body) == first
    shop.clock.now += 1
    assert shop.claim(old) == NOT_VALID
    assert shop.claim(first["link"]) == DONE


def test_each_of_several_replaced_links_ends_in_its_own_time() -> None:
    shop = Shop(mining_seconds=60)
    links = [shop.link("gift")]
    for _ in range(2):
        links.append(json.loads(shop.replace(links[0]).body)["link"])
        shop.clock.now += 40
    opens = [
        shop.platform.act(CustomerAct.SCAN, *parse_link(link)) for link in links
    ]  # 80 s after the first replacement, 40 s after the second
    assert opens == [NOT_VALID, DONE, NOT_VALID]


def test_a_replacement_can_be_refused_with_any_status() -> None:
    shop = Shop(refused_replacement=409)
    link = shop.link("gift")
    shop.claim(link)
    assert shop.replace(link).status == 409
    assert json.loads(shop.replace(link).body)["code"] == "nmp.back.certificate.notOwner"


def test_a_lost_answer_of_a_replacement_has_ended_the_old_link(nmp: Nmp, control: SandboxControl, tag: str) -> None:
    link = nmp.reserved_link(tag)
    control.queue_fault("lost_answer", call="replace")
    with pytest.raises(requests.ConnectionError):
        nmp.replace(parse_link(link)[0], "chosenphrase")
    assert control.claim(link) == NOT_VALID
    assert control.claim(certificate_id=parse_link(link)[0], passphrase="chosenphrase") == DONE
