"""A link of the wrong host or environment: a passport all the same, withheld until the connection accepts its link."""

import pytest

from include.attention.deciding import Action, resolve
from include.claims.syncing import apply_claims
from include.ledger.granting import Intent
from include.ledger.run_starts import RunStart
from include.ledger.states import ReservationState
from include.ledger.transitions import Step
from include.nmp.answers import LinkRules, RawAnswer, read_answer
from include.outcomes import AttemptOutcome
from tests.builders.world import World, a_link, attempt_of

A, R = AttemptOutcome, ReservationState
WRONG = LinkRules("test", ("links.brand.example",))
CORRECTED = LinkRules("test", ("links.brand.example", "test.arianee.net"))


def link(certificate: str) -> RawAnswer:
    return RawAnswer(200, f"https://test.arianee.net/{certificate},secret{certificate}".encode())


def withheld(here: World, key: str = "A1", certificate: str = "77") -> tuple[RunStart, Intent]:
    """An order that is held because its link is of the wrong host, and the call that brought it."""
    run = here.planned(key)
    intent = here.intend(run, key)
    here.ledger.keep_answers({intent.attempt_id: link(certificate)})
    (settled,) = here.ledger.settle({intent.attempt_id: read_answer(link(certificate), WRONG)})
    assert (settled.outcome, settled.state) == (A.WRONG_LINK, R.HELD)
    return run, intent


def read_again(here: World, attempt_ids: list[int], rules: LinkRules) -> None:
    """What the engine does with the calls of a grant whose answers must be read first."""
    here.ledger.settle({key: read_answer(raw, rules) for key, raw in here.ledger.kept_answers(attempt_ids).items()})


def released(here: World, rules: LinkRules, *keys: str, clear: int = 1) -> RunStart:
    """Releases the orders, and lets a new start of the run read what was withheld from them."""
    run = attempt_of(clear=clear)
    resolve(here.rows, list(keys), Action.RELEASE, "the connection is corrected")
    grant = here.grant(run, *keys)
    assert (grant.intents, {refusal.step for refusal in grant.refusals}) == ([], {Step.WAIT})
    read_again(here, grant.unread, rules)
    return run


def stock(here: World, column: str) -> int:
    return int(here.one(f"select {column} from passport.tag_stock where tag = 'gift'"))


def test_a_readable_link_that_is_not_accepted_is_a_passport_with_its_reason(here: World) -> None:
    run, intent = withheld(here)
    assert here.passports() == [("77", "withheld", "A1")]
    assert here.one("select link from passport_ops.passport") == "https://test.arianee.net/77,secret77"
    assert (here.answers_left(), stock(here, "received"), stock(here, "withheld")) == (0, 1, 1)
    reason = (
        "200: a passport was consumed, but the host of its link is not in link_hosts (links.brand.example); correct "
        "the connection nmp, then release the order"
    )
    assert (here.reason("A1"), here.stop_reason(run)) == (reason, reason)
    assert here.one("select detail from passport_ops.attempt") == reason
    assert here.refused(run, "A1").step is Step.DONE
    assert here.ledger.settle({intent.attempt_id: read_answer(link("77"), WRONG)}) != []
    assert here.passports() == [("77", "withheld", "A1")]


def test_a_release_after_the_connection_was_corrected_uses_the_passport_without_a_call(here: World) -> None:
    withheld(here)
    run = released(here, CORRECTED, "A1")
    refusal = here.refused(run, "A1")
    assert (refusal.step, refusal.state) == (Step.DONE, R.RESERVED)
    assert here.passports() == [("77", "assigned", "A1")]
    assert here.one("select outcome from passport_ops.attempt") == "reserved"
    assert (stock(here, "received"), stock(here, "live"), stock(here, "withheld")) == (1, 1, 0)


def test_a_release_without_a_correction_hands_nothing_out_and_asks_for_another_link(here: World) -> None:
    withheld(here)
    run = released(here, WRONG, "A1")
    grant = here.grant(run, "A1")
    assert [intent.order_key for intent in grant.intents] == ["A1"]
    here.answer(grant.intents[0], a_link("78"))
    assert here.passports() == [("77", "withheld", "A1"), ("78", "assigned", "A1")]


def test_what_was_withheld_twice_is_one_link_and_one_spare_after_the_correction(here: World) -> None:
    withheld(here)
    run = released(here, WRONG, "A1")
    (intent,) = here.grant(run, "A1").intents
    here.ledger.settle({intent.attempt_id: read_answer(link("78"), WRONG)})
    released(here, CORRECTED, "A1", clear=2)
    assert sorted(here.passports()) == [("77", "assigned", "A1"), ("78", "spare", None)]


def test_a_held_order_is_not_served_by_what_was_withheld_before_a_person_decides(here: World) -> None:
    run, _ = withheld(here)
    grant = here.grant(attempt_of(clear=1), "A1")
    assert (grant.unread, [refusal.step for refusal in grant.refusals]) == ([], [Step.DONE])
    assert here.ledger.unread_answers() == []
    assert here.refused(run, "A1").state is R.HELD


@pytest.mark.parametrize("rules", [WRONG, CORRECTED])
def test_a_passport_is_read_again_once_by_two_engines_at_a_time(here: World, rules: LinkRules) -> None:
    _, intent = withheld(here)
    run = released(here, rules, "A1")
    read_again(here, [intent.attempt_id], rules)
    assert len(here.grant(run, "A1").intents) == (1 if rules is WRONG else 0)
    assert [certificate for certificate, _, _ in here.passports()] == ["77"]


def test_a_withheld_passport_whose_certificate_another_order_has_is_a_duplicate(here: World) -> None:
    withheld(here)
    other = here.planned("A1", "B2", run_id="other")
    here.served(other, "B2", "77")
    run = released(here, CORRECTED, "A1")
    assert here.passports() == [("77", "ended", "A1"), ("77", "assigned", "B2")]
    assert here.one("select end_reason = 'duplicate' and link is null from passport_ops.passport where state = 'ended'")
    assert here.intend(run, "A1").order_key == "A1"


def test_a_withheld_passport_whose_certificate_is_a_spare_gives_its_order_the_spare(here: World) -> None:
    withheld(here)
    run = here.planned("A1", "B2", run_id="other")
    here.spare(run, "B2", "77", own="1")
    resolve(here.rows, ["A1"], Action.RELEASE, "the connection is corrected")
    read_again(here, here.grant(run, "A1").unread, CORRECTED)
    assert sorted(here.passports()) == [("1", "assigned", "B2"), ("77", "assigned", "A1"), ("77", "ended", "A1")]


def test_a_late_link_that_is_not_accepted_is_withheld_and_moves_nothing(here: World) -> None:
    run = here.planned("A1")
    late = here.intend(run, "A1")
    here.end_leases()
    here.served(run, "A1", "1")
    here.ledger.settle({late.attempt_id: read_answer(link("77"), WRONG)})
    assert here.passports() == [("1", "assigned", "A1"), ("77", "withheld", "A1")]
    assert here.state("A1") is R.RESERVED


def test_a_withheld_passport_that_somebody_claims_is_never_used(here: World) -> None:
    withheld(here)
    apply_claims(here.rows, "gift", ["77"], seen_at=here.one("select clock_timestamp()"), run_id="sync")
    assert here.passports() == [("77", "ended", "A1")]
    resolve(here.rows, ["A1"], Action.RELEASE, "ask again")
    assert here.grant(attempt_of(clear=1), "A1").unread == []


def test_a_wrong_link_of_before_a_reset_of_its_tag_is_ended(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.reset()
    here.ledger.settle({intent.attempt_id: read_answer(link("77"), WRONG)})
    assert here.passports() == [("77", "ended", "A1")]
    assert here.one("select end_reason = 'old_epoch' and link is null from passport_ops.passport")


def test_a_wrong_link_that_an_older_version_kept_as_a_raw_answer_becomes_a_passport(here: World) -> None:
    _, intent = withheld(here)
    here.rows.execute("delete from passport_ops.passport")
    here.ledger.keep_answers({intent.attempt_id: link("77")})
    here.end_leases()
    here.rows.execute("update passport_ops.attempt set lease_until = clock_timestamp()")
    left = here.ledger.unread_answers()
    assert left == [intent.attempt_id]
    read_again(here, left, WRONG)
    assert (here.passports(), here.answers_left()) == ([("77", "withheld", "A1")], 0)
    assert here.ledger.unread_answers() == []
