"""What the view tells a person to decide is what a person can decide."""

import re

import pytest

from include.attention.kinds import ACTIONS, Action, AttentionKind
from tests.docs.pages import PROJECT

VIEWS = (PROJECT / "include/warehouse/migrations/sql/views.sql").read_text(encoding="utf-8")
VIEW = VIEWS.partition("view passport.needs_attention as")[2].partition("comment on view")[0]
BRANCHES = VIEW.split("union all\n    select")
SAYS = {Action.RELEASE: r"\brelease\b", Action.CLOSE: "close it", Action.ACKNOWLEDGE: "acknowledge it"}


def branch_of(kind: AttentionKind) -> str:
    """The part of the view that gives the lines of a kind; two kinds are named after their orders' state."""
    of_state = kind in (AttentionKind.PENDING, AttentionKind.OUT_OF_STOCK)
    [branch] = [each for each in BRANCHES if ("state as kind" if of_state else f"'{kind}' as kind") in each]
    return branch


@pytest.mark.parametrize("kind", AttentionKind)
def test_what_a_line_says_can_be_decided_can_be_and_nothing_else(kind: AttentionKind) -> None:
    said = {action for action, words in SAYS.items() if re.search(words, branch_of(kind))}
    assert said == set(ACTIONS[kind])
