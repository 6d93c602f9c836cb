"""The table of answers, row by row."""

from include.outcomes import MEANINGS, AttemptOutcome, Consumed, Meaning


def test_every_outcome_has_its_row() -> None:
    assert dict(MEANINGS) == {
        AttemptOutcome.NOT_SENT: Meaning(Consumed.NO),
        AttemptOutcome.RESERVED: Meaning(Consumed.YES, usable=True),
        AttemptOutcome.OUT_OF_STOCK: Meaning(Consumed.NO, marks_tag_empty=True, usable=True),
        AttemptOutcome.THROTTLED: Meaning(Consumed.NO, slows_pace=True),
        AttemptOutcome.REFUSED: Meaning(Consumed.NO, is_refusal=True),
        AttemptOutcome.REDIRECTED: Meaning(Consumed.POSSIBLY, is_refusal=True),
        AttemptOutcome.UNKNOWN: Meaning(Consumed.POSSIBLY),
        AttemptOutcome.UNREADABLE: Meaning(Consumed.YES, keeps_raw=True),
        AttemptOutcome.WRONG_LINK: Meaning(Consumed.YES, stops_run=True),
        AttemptOutcome.DUPLICATE: Meaning(Consumed.YES, usable=True),
        AttemptOutcome.SPARE: Meaning(Consumed.YES, usable=True),
        AttemptOutcome.ENDED: Meaning(Consumed.YES, usable=True),
    }
    assert set(MEANINGS) == set(AttemptOutcome)


def test_what_consumes_or_may_consume_uses_the_budget_of_an_order_and_nothing_else_does() -> None:
    assert {outcome for outcome, meaning in MEANINGS.items() if meaning.uses_budget} == {
        AttemptOutcome.RESERVED,
        AttemptOutcome.REDIRECTED,
        AttemptOutcome.UNKNOWN,
        AttemptOutcome.UNREADABLE,
        AttemptOutcome.WRONG_LINK,
        AttemptOutcome.DUPLICATE,
        AttemptOutcome.SPARE,
        AttemptOutcome.ENDED,
    }
