"""Chaos in short form: every fault, a few kills, and the checker's word. ``make chaos`` is the long form."""

from pathlib import Path

import pytest

from tests.chaos.__main__ import Plan, run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(800)]


def test_the_promises_hold_under_a_few_kills_and_every_fault(tmp_path: Path) -> None:
    held, verdict = run(Plan(seed=11, orders=120, kills=4), tmp_path, print)
    assert held, verdict
    assert "0 violations" in verdict
    assert "0 leaks" in verdict
