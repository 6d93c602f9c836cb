"""The checker against ledgers that really broke a promise: small broken variants at work, and rows tampered with."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.campaigns import Campaign
from include.claims.syncing import apply_claims
from include.ledger import granting, settling
from include.ledger.calls import CallLedger
from include.ledger.intents import Intent
from include.ledger.run_starts import RunStart
from include.ledger.states import ReservationState
from include.ledger.transitions import Answered, Step, settle_link
from include.nmp.answers import LinkRules, RawAnswer, Reading, read_answer
from include.nmp.client import NmpClient
from include.nmp.connection import NmpConnection
from include.outcomes import AttemptOutcome
from include.reserving import EngineSettings, OrderResult, ReservingEngine
from include.resets import resetting
from include.resets.resetting import ResetDone, reset_tag
from include.warehouse.publishing import load_links
from local.processes import PROJECT
from sandbox.checker import RULES, Report, check, examine
from sandbox.server import SandboxControl, SandboxServer
from tests.builders.world import DAY, World, an_answer, order, world

A, R = AttemptOutcome, ReservationState


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        server.start(seed=3)
        yield server


@dataclass
class Shop:
    """A ledger, an NMP, and the part of its history that belongs to this test."""

    here: World
    nmp: NmpClient
    control: SandboxControl
    since: int

    def call(self, intent: Intent) -> Reading:
        return read_answer(self.raw(intent.tag), LinkRules())

    def raw(self, tag: str = "gift") -> RawAnswer:
        return self.nmp.reserve(tag, deadline=time.monotonic() + 5)

    def reserve(self, run: RunStart, key: str, by: CallLedger | None = None) -> Reading:
        """The whole life of one order, as the engine lives it."""
        intent = self.here.intend(run, key, by=by)
        reading = self.call(intent)
        self.here.answer(intent, reading, by=by)
        return reading

    def check(self) -> Report:
        return check(self.here.uri, self.control.history(self.since))

    def broken(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """What the checker found: promise and rows by sentence."""
        return {found.sentence: (found.promise, found.rows) for found in self.check().violations}


@pytest.fixture
def shop(warehouse: str, sandbox: SandboxServer) -> Iterator[Shop]:
    control = sandbox.control()
    control.set_switches(latency_ms=4)  # two milliseconds on either side of the effect: clocks can tell what was first
    nmp = NmpClient(NmpConnection(sandbox.base_url, sandbox.api_key))
    with world(warehouse) as here:
        yield Shop(here, nmp, control, control.counters()["last_seq"])
    control.clear_faults()
    nmp.close()


def only(shop: Shop, *sentences: str) -> dict[str, tuple[int, tuple[str, ...]]]:
    found = shop.broken()
    assert set(found) == set(sentences)
    return found


# -- nothing to find ---------------------------------------------------------------------------------------------------


def test_a_ledger_that_keeps_its_promises_under_every_fault_is_left_alone(
    shop: Shop, sandbox: SandboxServer, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.control.set_faults(
        [
            {"fault": "lost_answer", "probability": 0.1},
            {"fault": "server_error_before", "probability": 0.05},
            {"fault": "server_error_after", "probability": 0.05},
            {"fault": "connection_reset", "probability": 0.05},
            {"fault": "truncated", "probability": 0.05},
            {"fault": "duplicate", "probability": 0.03, "limit": 2},
            {"fault": "rubbish", "probability": 0.02, "limit": 2},
        ]
    )
    keys = [f"A{n:03}" for n in range(60)]
    run = shop.here.planned(*keys, max_calls_per_order=6, max_unknown_per_run=1000)
    engine = ReservingEngine(shop.here.uri, shop.nmp, LinkRules(), EngineSettings(8, 5, 10))
    try:
        outcomes = engine.reserve_all(run, keys)
    finally:
        engine.close()
    load_links(shop.here.uri, closes=[DAY], run_id="run")
    report = shop.check()
    assert report.violations == ()
    assert report.links == sum(outcome.result is OrderResult.SERVED for outcome in outcomes) >= 50
    assert report.received <= report.given_out <= report.received + report.possible
    assert report.verdict.startswith("the promises hold: 60 orders, ")


def test_a_reset_that_gives_certificates_to_other_orders_is_no_violation(shop: Shop) -> None:
    run = shop.here.planned()
    shop.here.register(order("A1", tag="reset-me"), order("B2", tag="reset-me"))
    shop.reserve(run, "A1")
    shop.nmp.reset_all("reset-me")
    shop.here.reset("reset-me")
    assert shop.reserve(run, "B2").outcome is A.RESERVED
    assert shop.check().violations == ()
    first, second = shop.here.passports()
    assert first[0] == second[0], "the sandbox hands a reset passport to the next order"


# -- broken variants at work -------------------------------------------------------------------------------------------


def test_an_intent_that_is_committed_after_its_call_is_caught(shop: Shop) -> None:
    run = shop.here.planned("A1")
    raw = shop.raw()
    intent = shop.here.intend(run, "A1")
    shop.here.answer(intent, read_answer(raw, LinkRules()))
    found = shop.broken()
    promise, (row,) = found["a request was sent without a committed intent"]
    assert promise == 3
    assert row.startswith("tag gift, request at 1")


def test_a_client_that_repeats_a_call_on_its_own_is_caught(shop: Shop) -> None:
    run = shop.here.planned("A1")
    shop.control.queue_fault("lost_answer")
    intent = shop.here.intend(run, "A1")
    assert shop.call(intent).outcome is A.UNKNOWN
    shop.here.answer(intent, shop.call(intent))
    found = only(
        shop,
        "a request was sent without a committed intent",
        "a passport was given and is lost: no row has it, and no unknown outcome explains it",
    )
    assert sorted(promise for promise, _ in found.values()) == [2, 3]


def test_a_call_that_never_left_does_not_excuse_one_without_an_intent(shop: Shop) -> None:
    run = shop.here.planned("A1", "B2")
    shop.here.answer(shop.here.intend(run, "A1"), an_answer(A.NOT_SENT))
    intent = shop.here.intend(run, "B2")
    shop.control.queue_fault("server_error_before", times=2)
    shop.call(intent)
    shop.here.answer(intent, shop.call(intent))
    only(shop, "a request was sent without a committed intent")


def test_a_call_after_its_lease_is_caught(shop: Shop) -> None:
    run = shop.here.planned("A1")
    intent = shop.here.intend(run, "A1")
    shop.here.end_leases()
    time.sleep(0.005)  # past the tolerance between two clocks
    shop.here.answer(intent, shop.call(intent))
    promise, rows = only(shop, "a request was sent after the lease of its intent ended")[
        "a request was sent after the lease of its intent ended"
    ]
    assert (promise, len(rows)) == (4, 1)


def test_a_ledger_without_a_fence_is_caught(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shop.here.planned("A1", max_calls_per_order=9)
    late = shop.here.intend(run, "A1")
    shop.here.end_leases()
    shop.here.intend(run, "A1", by=shop.here.worker("worker 2"))
    monkeypatch.setattr(Answered, "on_time", True)
    shop.here.answer(late, an_answer(A.THROTTLED))
    shop.here.intend(run, "A1", by=shop.here.worker("worker 3"))
    found = only(shop, "an order was called for during the lease of an earlier call")
    promise, (row,) = found["an order was called for during the lease of an earlier call"]
    assert promise == 4
    assert row.startswith("order_key A1, former_attempt_id ")


def test_a_certificate_that_is_given_to_two_orders_is_caught(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shop.here.planned("A1", "B2")
    for index in ("passport_live_certificate", "passport_live_link"):
        shop.here.rows.execute(f"drop index passport_ops.{index}")
    monkeypatch.setattr(settling, "settle_link", lambda answered, _: settle_link(answered, None))
    shop.reserve(run, "A1")
    shop.control.queue_fault("duplicate")
    reading = shop.reserve(run, "B2")
    found = only(shop, "a certificate is live twice")
    assert found == {
        "a certificate is live twice": (1, (f"certificate_id {reading.certificate_id}, order_keys [A1, B2]",))
    }


def test_an_order_that_got_two_links_is_caught(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shop.here.planned("A1")
    shop.here.rows.execute("drop index passport_ops.passport_live_order")
    monkeypatch.setattr(granting, "next_step", _never_looks)
    shop.reserve(run, "A1")
    shop.reserve(run, "A1")
    found = shop.broken()
    assert set(found) == {
        "an order has two live links",
        "an order and its passport do not agree",
        "an intent was committed for an order that had a link",
    }
    assert found["an intent was committed for an order that had a link"][0] == 5


def test_a_passport_that_is_forgotten_is_named(shop: Shop) -> None:
    run = shop.here.planned("A1")
    intent = shop.here.intend(run, "A1")
    reading = shop.call(intent)
    shop.here.answer(intent, an_answer(A.REFUSED))
    sentence = "a passport was given and is lost: no row has it, and no unknown outcome explains it"
    promise, (row,) = only(shop, sentence)[sentence]
    assert promise == 2
    assert row.startswith(f"certificate_id {reading.certificate_id}, tag gift, history entry ")
    report = shop.check()
    assert (report.given_out, report.received, report.possible) == (1, 0, 0)


def test_an_unknown_outcome_explains_one_passport_and_no_more(shop: Shop) -> None:
    run = shop.here.planned("A1", "B2")
    for key, outcome in (("A1", A.UNKNOWN), ("B2", A.REFUSED)):
        intent = shop.here.intend(run, key)
        shop.call(intent)
        shop.here.answer(intent, an_answer(outcome))
    ((_, rows),) = shop.broken().values()
    assert len(rows) == 1


def test_an_unknown_outcome_of_another_tag_or_time_explains_nothing(shop: Shop) -> None:
    run = shop.here.planned("A1", "B2")
    forgotten = shop.here.intend(run, "A1")
    shop.call(forgotten)
    shop.here.answer(forgotten, an_answer(A.REFUSED))
    shop.here.answer(shop.here.intend(run, "B2"), an_answer(A.UNKNOWN))
    ((_, rows),) = shop.broken().values()
    assert len(rows) == 1


def _never_looks(order: Any, *_: Any, **__: Any) -> Step:
    """A grant that looks at leases and at nothing else."""
    return Step.LEASED if order.state is R.CALLING else Step.CALL


def test_an_intent_after_the_stop_of_its_run_is_caught(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shop.here.planned("A1", "B2", opened=False)
    shop.here.answer(shop.here.intend(run, "A1"), an_answer(A.REFUSED))
    monkeypatch.setattr(granting, "next_step", _never_looks)
    shop.reserve(run, "B2")
    promise, (row,) = only(shop, "an intent began after its run stopped")["an intent began after its run stopped"]
    assert promise == 5
    assert row.startswith("order_key B2, attempt_id ")


def test_an_intent_for_a_tag_that_is_marked_empty_is_caught(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shop.here.planned("A1", "B2")
    shop.here.answer(shop.here.intend(run, "A1"), an_answer(A.OUT_OF_STOCK))
    monkeypatch.setattr(granting, "next_step", _never_looks)
    shop.reserve(run, "B2")
    only(shop, "an intent began after its tag was marked empty")


def test_an_intent_during_a_reset_is_caught(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shop.here.planned("A1")
    shop.here.rows.execute("update passport_ops.tag set state = 'resetting'")
    shop.here.rows.execute(
        "insert into passport_ops.tag_reset (tag, run_id, epoch, dry_run) values ('gift', 'reset', 0, false)"
    )
    monkeypatch.setattr(granting, "next_step", _never_looks)
    shop.reserve(run, "A1")
    assert only(shop, "an intent began during a reset of its tag")
    shop.here.rows.execute("update passport_ops.tag_reset set state = 'done', finished_at = '2020-01-01'")
    assert shop.broken() == {}


# -- rows tampered with ------------------------------------------------------------------------------------------------

LOADED = "insert into passport.links (order_key, state, certificate_id, link) "


@pytest.mark.parametrize(
    ("damage", "promise", "sentence"),
    [
        (
            ["update passport_ops.passport set link_sha256 = 'x'"],
            2,
            "a passport was received that the NMP never gave for that call",
        ),
        (
            [
                "insert into passport_ops.passport (certificate_id, link_sha256, tag, epoch, state, received_at) "
                "values ('1', 'x', 'gift', 0, 'spare', now())"
            ],
            2,
            "a passport was received that the NMP never gave for that call",
        ),
        (
            [
                "update passport_ops.passport set state = 'claimed'",
                "update passport_ops.reservation set state = 'claimed'",
            ],
            2,
            "a passport is claimed in the ledger, but nobody claimed it",
        ),
        (
            ["insert into passport_ops.answer (attempt_id) select attempt_id from passport_ops.attempt"],
            3,
            "a raw answer that was read was not erased",
        ),
        (["insert into passport_ops.answer (attempt_id) values (0)"], 3, "a raw answer that was read was not erased"),
        (
            ["update passport_ops.reservation set fence = 0"],
            4,
            "a fence was used twice, or an order's fence became lower",
        ),
        (
            ["update passport_ops.tag set epoch = 1"],
            1,
            "a passport from before a reset of its tag can still be given to an order",
        ),
        (
            ["update passport_ops.reservation set state = 'pending', passport_id = null"],
            1,
            "an order and its passport do not agree",
        ),
        (
            ["update passport_ops.passport set state = 'ended', order_key = order_key"],
            6,
            "a passport ended and its link was not erased",
        ),
        (["delete from passport.links"], 8, "what is published is not what the ledger has"),
        (["update passport.links set link = 'https://other'"], 8, "what is published is not what the ledger has"),
        (["update passport.links set state = 'claimed'"], 8, "what is published is not what the ledger has"),
        (
            [LOADED + "values ('Z9', 'reserved', '1', 'https://test.arianee.net/1,x')"],
            8,
            "what is published is not what the ledger has",
        ),
        (
            [
                "drop index passport.links_certificate",
                LOADED + "select 'Z9', 'reserved', certificate_id, 'other' from passport.links",
            ],
            1,
            "a certificate is published for two orders",
        ),
    ],
)
def test_damage_to_a_sound_ledger_is_named(shop: Shop, damage: list[str], promise: int, sentence: str) -> None:
    shop.reserve(shop.here.planned("A1"), "A1")
    load_links(shop.here.uri, closes=[DAY], run_id="run")
    assert shop.broken() == {}
    for statement in damage:
        shop.here.rows.execute(statement)
    found = shop.broken()
    assert found[sentence][0] == promise
    assert found[sentence][1]


def test_a_fence_that_two_calls_had_is_caught(shop: Shop) -> None:
    run = shop.here.planned("A1")
    shop.control.queue_fault("server_error_before")
    shop.reserve(run, "A1")
    shop.reserve(run, "A1")
    shop.here.rows.execute("drop index passport_ops.attempt_fence")
    shop.here.rows.execute("update passport_ops.attempt set fence = 1")
    sentence = "a fence was used twice, or an order's fence became lower"
    promise, (row,) = only(shop, sentence)[sentence]
    assert promise == 4
    assert row.startswith("order_key A1, fence 1, attempt_ids [")


def test_a_link_that_two_certificates_share_is_caught(shop: Shop) -> None:
    run = shop.here.planned("A1", "B2")
    shop.reserve(run, "A1")
    shop.reserve(run, "B2")
    shop.here.rows.execute("drop index passport_ops.passport_live_link")
    shop.here.rows.execute("update passport_ops.passport set link_sha256 = 'x'")
    assert shop.broken()["a link is live under two certificates"][0] == 1


def test_a_change_that_waits_to_be_published_is_no_violation(shop: Shop) -> None:
    run = shop.here.planned("A1")
    shop.reserve(run, "A1")
    assert shop.broken() == {}


def test_a_reset_that_takes_a_young_link_is_caught(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.reserve(shop.here.planned("A1"), "A1")
    monkeypatch.setattr(resetting, "what_blocks_now", lambda *_: None)  # whatever its age
    reset_tag(
        shop.here.uri, shop.nmp, "gift", run_id="reset", campaigns=[], synced_since=datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert shop.here.state("A1") is R.RESET
    found = only(shop, "a reset took a link back before its stale_after was over")
    ((promise, (row,)),) = found.values()
    assert (promise, "order_key A1" in row) == (7, True)


def test_a_day_that_says_to_be_whole_and_is_not_is_caught(shop: Shop) -> None:
    run = shop.here.planned("A1", "B2")
    shop.reserve(run, "A1")
    load_links(shop.here.uri, closes=[DAY], run_id="run")
    only(shop)
    shop.here.rows.execute("update passport.days set published = 2, lacking = 0, complete = true")
    found = only(shop, "a published day does not count the links that are published")
    ((promise, (row,)),) = found.values()
    assert (promise, "counted 2, published 1" in row) == (8, True)


class OneTakenBack:
    def reset_all(self, _: str) -> int:
        return 1


def really_reset(here: World) -> None:
    blink = timedelta(microseconds=1)
    campaigns = [Campaign(name="gift", tag="gift", products="*", stale_after=blink, requeue=True, reset="when_stale")]
    here.rows.execute("update passport_ops.reservation set stale_after = '1 microsecond'")
    here.rows.execute("update passport_ops.tag set claims_synced_at = clock_timestamp()")
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    done = reset_tag(here.uri, OneTakenBack(), "gift", run_id="reset", campaigns=campaigns, synced_since=long_ago)
    assert isinstance(done, ResetDone)


def test_the_checker_leaves_an_order_alone_whose_first_link_is_claimed_after_two_resets(shop: Shop) -> None:
    here = shop.here
    run = here.planned("A1")
    here.served(run, "A1", "101")
    really_reset(here)
    here.served(run, "A1", "102")
    really_reset(here)
    apply_claims(here.rows, "gift", ["101"], seen_at=here.one("select clock_timestamp()"), run_id="sync")
    assert here.state("A1") is R.CLAIMED
    found = examine(here.rows, []).violations
    assert [str(violation) for violation in found if violation.promise == 5] == []


def test_the_checker_leaves_a_call_alone_that_was_begun_before_its_orders_claim_was_written(shop: Shop) -> None:
    here = shop.here
    run = here.requeued("A1", "101")
    seen_at = here.one("select clock_timestamp()")  # the list is here, its writing waits
    here.answer(here.intend(run, "A1"), an_answer(A.UNKNOWN))
    apply_claims(here.rows, "gift", ["101"], seen_at=seen_at, run_id="sync")
    assert here.state("A1") is R.CLAIMED
    found = examine(here.rows, []).violations
    assert [str(violation) for violation in found if violation.promise == 5] == []


def test_every_rule_is_broken_by_some_test_above() -> None:
    here = (PROJECT / "tests" / "sandbox" / "test_checker.py").read_text()
    assert [rule.sentence for rule in RULES if f'"{rule.sentence}"' not in here] == []


# -- the command -------------------------------------------------------------------------------------------------------


def run_checker(warehouse: str, sandbox: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sandbox.checker", "--warehouse", warehouse, "--sandbox", sandbox]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_the_command_gives_one_line_and_every_violation_without_a_link(warehouse: str) -> None:
    with SandboxServer() as sandbox, world(warehouse) as here:
        sandbox.start()
        nmp = NmpClient(NmpConnection(sandbox.base_url, sandbox.api_key))
        shop = Shop(here, nmp, sandbox.control(), 0)
        link = shop.reserve(here.planned("A1"), "A1").link or ""
        sound = run_checker(warehouse, sandbox.base_url)
        here.rows.execute("update passport_ops.tag set epoch = 1")
        broken = run_checker(warehouse, sandbox.base_url)
        nmp.close()
    assert (sound.returncode, broken.returncode) == (0, 1)
    assert sound.stdout == (
        "the promises hold: 1 orders, 1 with a link; 1 passports given out, 1 received, 0 calls of unknown outcome\n"
    )
    assert broken.stdout.splitlines()[0].startswith("1 violations (1 rows): 1 orders")
    assert "promise 1: a passport from before a reset of its tag can still be given to an order" in broken.stdout
    assert link not in broken.stdout
    assert link.rpartition(",")[2] not in broken.stdout


def test_the_command_says_when_nobody_can_say(warehouse: str) -> None:
    silent = run_checker(warehouse, "http://127.0.0.1:9")
    assert silent.returncode == 2
    assert silent.stderr.startswith("the sandbox at http://127.0.0.1:9 does not answer")
