import re
from enum import StrEnum

import pytest

from sandbox.faults import Fault
from sandbox.switches import Switches
from tests.docs.pages import column, rows_below

PAGE = "docs/sandbox.md"
PLAYS = rows_below(PAGE, "What to play with claims, resets and replacements")


def test_every_fault_has_its_row() -> None:
    named = [name.strip() for row in column(rows_below(PAGE, "Faults"), "fault") for name in row.split(",")]
    assert sorted(named) == sorted(Fault)


KINDS = (field.annotation for field in Switches.model_fields.values())
VALUES = {value for kind in KINDS if isinstance(kind, type) and issubclass(kind, StrEnum) for value in kind}


@pytest.mark.parametrize("row", PLAYS, ids=column(PLAYS, "to play"))
def test_the_switches_and_faults_that_play_it_exist(row: dict[str, str]) -> None:
    named = set(re.findall(r"[a-z]+(?:_[a-z]+)+", row["do this"]))
    assert named <= {*Switches.model_fields, *VALUES, *Fault}
