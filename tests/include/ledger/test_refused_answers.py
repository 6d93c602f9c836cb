"""Whatever the NMP answers, one answer holds up no other: it is read, or set aside with its reason."""

import json
from dataclasses import replace
from hashlib import sha256
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.ledger.states import ReservationState
from include.nmp.answers import CallFailure, LinkRules, RawAnswer, Reading, read_answer
from include.outcomes import AttemptOutcome
from include.warehouse.database import SafeDatabaseError
from tests.builders.world import World, a_link, an_answer, order

A, R = AttemptOutcome, ReservationState
# an index compresses what repeats, and then takes it
TOO_LONG = "".join(sha256(str(n).encode()).hexdigest() for n in range(200))
_numbers = count(1)


def test_the_why_of_a_refusal_names_the_sqlstate_and_no_value(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.ledger.keep_answers({intent.attempt_id: RawAnswer(200, b"rubbish")})
    (settled,) = here.ledger.settle({intent.attempt_id: replace(a_link(), certificate_id=TOO_LONG)})
    assert settled.reason == (
        "the ledger refuses what the NMP answered (SQLSTATE 54000): its raw answer is kept for a person"
    )


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param({"certificate_id": TOO_LONG}, id="an index takes no such length"),
        pytest.param({"certificate_id": "7\x00"}, id="NUL in the certificate"),
        pytest.param({"link": "https://test.arianee.net/7,a\x00b"}, id="NUL in the link"),
        pytest.param({"link": "https://test.arianee.net/7,\ud800"}, id="no valid text"),
        pytest.param({"detail": "a detail\x00"}, id="NUL in the detail"),
        pytest.param({"status": 2**40}, id="a status out of range"),
        pytest.param({"status": 2**70}, id="a status that no integer holds"),
    ],
)
def test_an_answer_that_the_ledger_refuses_for_good_is_set_aside_and_its_group_is_settled(
    here: World, refused: dict[str, Any]
) -> None:
    run = here.planned("A1", "B2", "C3")
    intents = here.grant(run, "A1", "B2", "C3").intents
    readings = [a_link("1"), replace(a_link("2"), **refused), an_answer(A.OUT_OF_STOCK)]
    here.ledger.keep_answers({intent.attempt_id: RawAnswer(200, b"its body") for intent in intents})
    settled = here.ledger.settle({intent.attempt_id: each for intent, each in zip(intents, readings, strict=True)})
    assert {done.order_key: (done.outcome, done.state) for done in settled} == {
        "A1": (A.RESERVED, R.RESERVED),
        "B2": (A.UNREADABLE, R.HELD),
        "C3": (A.OUT_OF_STOCK, R.OUT_OF_STOCK),
    }
    assert (here.reason("B2") or "").startswith("the ledger refuses what the NMP answered (")
    assert here.rows.execute("select attempt_id, body from passport_ops.answer").fetchall() == [
        (intents[1].attempt_id, b"its body")
    ]
    here.end_leases()
    assert here.ledger.unread_answers() == []


def test_a_ledger_that_refuses_everything_says_so_and_sets_nothing_aside(here: World) -> None:
    run = here.planned("A1")
    intent = here.intend(run, "A1")
    here.rows.execute("alter table passport_ops.attempt add constraint nothing check (answered_at is null)")
    try:
        with pytest.raises(SafeDatabaseError) as raised:
            here.ledger.settle({intent.attempt_id: a_link()})
    finally:
        here.rows.execute("alter table passport_ops.attempt drop constraint nothing")
    assert (raised.value.sqlstate, raised.value.constraint) == ("23514", "nothing")
    (settled,) = here.ledger.settle({intent.attempt_id: a_link()})
    assert settled.state is R.RESERVED


# -- rubbish, from the socket to the ledger ----------------------------------------------------------------------------

texts = st.text(st.characters(codec=None), max_size=40) | st.sampled_from(["\x00", "\ud800", "a" * 200_000])
numbers = st.integers() | st.integers(10**70, 10**90)
links = st.builds(
    "{}{},{}{}".format,
    st.sampled_from(["https://test.arianee.net/", "https://evil.example/", "http://test.arianee.net/", "https://"]),
    numbers.map(abs) | texts,
    texts | st.just("v6lsj4vhg5dx"),
    st.sampled_from(["", ",a", "?a=b", "\n", "\x00"]),
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | texts | links,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.fixed_dictionaries(
    {}, optional={"certificateId": values, "passphrase": values, "link": links | values, "deeplink": values | links}
)
bodies = (
    st.binary(max_size=80)
    | objects.map(lambda answer: json.dumps(answer).encode("utf-8", "surrogatepass"))
    | links.map(lambda link: link.encode("utf-8", "surrogatepass"))
    | st.sampled_from([b"[" * 60_000, b"\x00", b"{" + b"9" * 70_000, b'"\\u0000"', b'{"link": "\\ud800"}'])
)
raw_answers = st.builds(
    RawAnswer,
    st.sampled_from([200, 200, 200, 201, 302, 400, 401, 404, 429, 500, 503]) | st.integers() | st.none(),
    bodies,
    st.none() | texts | numbers.map(str),
    st.none() | st.none() | st.sampled_from(CallFailure),
    texts,
)
rules = st.sampled_from([LinkRules(), LinkRules("test"), LinkRules("production", ("links.brand.example",))])


def _fits_the_ledger(reading: Reading) -> bool:
    texts_of_it = (reading.detail, reading.certificate_id or "", reading.link or "")
    return all("\x00" not in text and text.isprintable() and len(text) < 2_500 for text in texts_of_it)


@given(raw=raw_answers, accepted=rules)
def test_a_reading_never_holds_what_the_ledger_cannot_take(raw: RawAnswer, accepted: LinkRules) -> None:
    reading = read_answer(raw, accepted)
    assert _fits_the_ledger(reading)
    assert reading.status is None or 100 <= reading.status <= 999
    assert reading.retry_after is None or 0 <= reading.retry_after <= 300


def test_whatever_is_answered_every_call_is_settled_and_nothing_waits(here: World) -> None:
    run = here.planned("A0", max_duplicates_per_run=10_000, max_unknown_per_run=10_000, stop_after_refusals=10_000)

    @settings(suppress_health_check=list(HealthCheck))
    @given(raws=st.lists(raw_answers, min_size=1, max_size=5), accepted=rules)
    def settle(raws: list[RawAnswer], accepted: LinkRules) -> None:
        here.rows.execute("delete from passport_ops.resting_tag")
        here.rows.execute("update passport_ops.run_attempt set stopped_at = null, stop_reason = null")
        here.rows.execute("update passport_ops.gate set paused_until = null")
        keys = [f"A{next(_numbers)}" for _ in raws]
        here.register(*map(order, keys))
        intents = here.grant(run, *keys).intents
        if not intents:  # all of them got spares
            return
        answers = {intent.attempt_id: raw for intent, raw in zip(intents, raws, strict=False)}
        here.ledger.keep_answers(answers)
        here.end_leases()
        unread = here.ledger.unread_answers()
        assert sorted(unread) == sorted(answers)
        readings = {key: read_answer(raw, accepted) for key, raw in here.ledger.kept_answers(unread).items()}
        settled = here.ledger.settle(readings)
        assert len(settled) == len(readings)
        assert here.ledger.unread_answers() == []
        left = "select distinct outcome from passport_ops.answer join passport_ops.attempt using (attempt_id)"
        assert {outcome for (outcome,) in here.rows.execute(left)} <= {"unreadable", "wrong_link"}

    settle()
