"""The platform's rules without HTTP: pools, uniqueness, determinism, threads, history."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from sandbox.answers import Answer
from sandbox.calls import ActOutcome, Call, CustomerAct, LinkFormat, parse_link
from sandbox.faults import CallKind
from sandbox.journal import Journal
from sandbox.platform import DEFAULT_USER, Platform


def reserve(platform: Platform, *tags: str) -> Answer:
    return platform.call(Call(CallKind.RESERVE, DEFAULT_USER, has_key=True, tags=tags, format=LinkFormat.LINK))


def links(platform: Platform, tag: str, count: int) -> list[str]:
    return [reserve(platform, tag).body.decode() for _ in range(count)]


def test_ids_have_9_to_11_digits_and_nothing_is_given_twice() -> None:
    given = links(Platform(1), "gift", 20_000)
    ids = [link.rsplit("/", 1)[1].split(",")[0] for link in given]
    passphrases = [link.split(",")[1] for link in given]
    assert len(set(ids)) == len(set(passphrases)) == 20_000
    assert {len(id_) for id_ in ids} == {9, 10, 11}
    assert all(re.fullmatch("[a-z0-9]{12}", passphrase) for passphrase in passphrases)


def test_a_seed_decides_the_links_whatever_other_tags_do_meanwhile() -> None:
    alone = links(Platform(5), "gift", 50)
    busy = Platform(5)
    mixed = []
    for _ in range(50):
        links(busy, "other", 2)
        mixed += links(busy, "gift", 1)
    assert mixed == alone
    assert links(Platform(6), "gift", 50) != alone


def test_many_threads_get_each_passport_once_and_the_last_one_once() -> None:
    platform = Platform()
    platform.set_pool(("gift",), 500)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: reserve(platform, "gift"), range(800)))
    bodies = [answer.body for answer in answers if answer.status == 200]
    assert len(bodies) == len(set(bodies)) == 500
    assert [entry["seq"] for entry in platform.history()] == list(range(1, 801))


def test_many_threads_claim_one_link_and_one_wins() -> None:
    platform = Platform()
    id_, passphrase = parse_link(links(platform, "gift", 1)[0])
    with ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(lambda _: platform.act(CustomerAct.CLAIM, id_, passphrase), range(64)))
    assert outcomes.count(ActOutcome.DONE) == 1
    assert outcomes.count(ActOutcome.ALREADY_CLAIMED) == 63


def test_a_pool_grows_and_shrinks_but_not_below_what_was_handed_out() -> None:
    platform = Platform()
    assert platform.set_pool(("gift",), 5) == {"size": 5, "reserved": 0, "claimed": 0, "free": 5}
    links(platform, "gift", 3)
    assert platform.set_pool(("gift",), 10) == {"size": 10, "reserved": 3, "claimed": 0, "free": 7}
    assert platform.set_pool(("gift",), 1) == {"size": 3, "reserved": 3, "claimed": 0, "free": 0}
    assert reserve(platform, "gift").status == 400


@pytest.mark.parametrize(("tags", "size"), [((), 1), (("",), 1), (("a,b",), 1), (("a",), -1)])
def test_a_pool_that_cannot_be_is_refused(tags: tuple[str, ...], size: int) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        Platform().set_pool(tags, size)


def test_the_history_says_who_got_what_when_and_holds_no_link() -> None:
    times = iter(float(second) for second in range(1000, 1010))
    platform = Platform(clock=lambda: next(times))
    link = links(platform, "gift", 1)[0]
    id_, passphrase = parse_link(link)
    platform.call(Call(CallKind.RESET, DEFAULT_USER, has_key=True, tags=("gift",)))
    links(platform, "gift", 1)
    platform.act(CustomerAct.CLAIM, id_, passphrase, link)
    history = platform.history()
    fingerprint = sha256(link.encode()).hexdigest()
    nothing = {"fault": None, "repeated": False, "certificates": None, "request_id": None}
    given = {**nothing, "certificate_id": str(id_), "link_sha256": fingerprint, "tag": "gift"}
    taken = {**nothing, "certificate_id": None, "link_sha256": None, "tag": "gift", "certificates": [str(id_)]}
    assert history == [
        {**given, "seq": 1, "time": 1000.0, "kind": "reserve", "outcome": 200, "epoch": 0},
        {**taken, "seq": 2, "time": 1001.0, "kind": "reset", "outcome": 200, "epoch": 0},
        {**given, "seq": 3, "time": 1002.0, "kind": "reserve", "outcome": 200, "epoch": 1},
        {**given, "seq": 4, "time": 1003.0, "kind": "claim", "outcome": "done", "epoch": 1},
    ]
    assert passphrase not in json.dumps(history)
    assert platform.history(since=3) == history[3:]
    assert platform.history(since=1, limit=2) == history[1:3]


def test_counters_add_up() -> None:
    platform = Platform()
    platform.set_pool(("a",), 3)
    platform.set_pool(("a", "b"), 2)
    given = links(platform, "b", 3)[:2] + links(platform, "a", 1)
    platform.act(CustomerAct.CLAIM, *parse_link(given[0]))
    platform.call(Call(CallKind.RESERVE, None, has_key=False, tags=("a",)))
    assert platform.counters() == {
        "requests": {"reserve": 5, "reset": 0, "replace": 0, "list": 0, "count": 0},
        "refused": 1,
        "reservations": 3,
        "claims": 1,
        "faults": {},
        "tags": {
            "a": {"size": 5, "reserved": 2, "claimed": 1, "free": 2, "epoch": 0},
            "b": {"size": 2, "reserved": 1, "claimed": 1, "free": 0, "epoch": 0},
        },
        "last_seq": 6,
    }


def test_a_replay_leads_to_the_same_platform(tmp_path: Path) -> None:
    first = Journal(tmp_path / "state")
    platform = Platform(3, first)
    platform.set_switches({"reset_scope": "some", "passphrase_after_reset": "new", "consume_on": "claim"})
    given = links(platform, "gift", 2)
    platform.act(CustomerAct.SCAN, *parse_link(given[0]))
    platform.set_switches({"consume_on": "call"})
    links(platform, "gift", 30)
    for _ in range(3):
        platform.call(Call(CallKind.RESET, DEFAULT_USER, has_key=True, tags=("gift",)))
        links(platform, "gift", 5)
    first.close()
    again = Platform(None, Journal(tmp_path / "state"))
    assert again.restored
    assert again.history() == platform.history()
    assert again.counters() == platform.counters()
    assert links(again, "gift", 40) == links(platform, "gift", 40)


@pytest.mark.parametrize(
    ("link", "found"),
    [
        ("https://test.arianee.net/440105186,v6lsj4vhg5dx", (440105186, "v6lsj4vhg5dx")),
        ("https://test.arianee.net/requestOwnership/440105186,v6lsj4vhg5dx", (440105186, "v6lsj4vhg5dx")),
        ("https://brand.example/440105186,v6lsj4vhg5dx,testnet,0x1?lang=fr\n", (440105186, "v6lsj4vhg5dx")),
        ("https://test.arianee.net/95239832777,123456789012", (95239832777, "123456789012")),
    ],
)
def test_a_link_is_read_in_all_its_forms(link: str, found: tuple[int, str]) -> None:
    assert parse_link(link) == found


@pytest.mark.parametrize("link", ["", "https://test.arianee.net/", "https://test.arianee.net/abc,def", "440105186"])
def test_what_is_no_link_is_refused_without_being_repeated(link: str) -> None:
    with pytest.raises(ValueError, match="this is not a link") as error:
        parse_link(link)
    assert link == "" or link not in str(error.value)
