"""A short chaos run in every run of the tests; the long ones are ``make chaos``."""

import re
from pathlib import Path

from tests.chaos.run import Plan, run


def test_every_promise_holds_in_a_short_chaos_run(tmp_path: Path) -> None:
    said: list[str] = []

    verdict = run(Plan(seed=529, orders=250, strikes=5), tmp_path, said.append)

    assert verdict.held, "\n".join([*said, *verdict.findings, verdict.line])
    assert verdict.line.startswith(
        "chaos seed=529: HELD: 262 of 262 orders have a link, 0 need attention, 0 violations, "
    )
    assert "; 2 kills (" in verdict.line
    assert ", 1 freezes (" in verdict.line
    assert ", 2 cuts (" in verdict.line
    [faults] = re.findall(r", (\d+) faults, ", verdict.line)
    assert int(faults) >= 10
