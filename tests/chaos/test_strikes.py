"""The plan of strikes that a seed gives."""

from collections import Counter

from tests.chaos.strikes import Kind, planned_strikes


def test_a_seed_gives_the_same_strikes_however_many_are_wanted() -> None:
    assert planned_strikes(5, 20) == planned_strikes(5, 50)[:20]
    assert planned_strikes(5, 20) != planned_strikes(6, 20)


def test_fifty_strikes_are_a_mix_of_all_kinds() -> None:
    strikes = planned_strikes(1, 50)
    kinds = Counter(strike.kind for strike in strikes)
    assert all(kinds[kind] >= 5 for kind in Kind)
    assert all(5 <= strike.seconds <= 90 for strike in strikes)
