import re
from dataclasses import replace

import pytest

from include.attention.deciding import DECIDED_FROM, TARGETS
from include.ledger.states import ASKED_BY_RUNS, SERVED, UNSERVED, PassportState, ReservationState, TagState
from include.ledger.transitions import FINAL, STATE_AFTER, Answered, Holder, settle_link
from include.outcomes import MEANINGS, AttemptOutcome
from include.warehouse.publishing import DayState
from tests.docs.pages import PROJECT, column, rows_below, text_of

PAGE = "docs/lifecycle.md"
STATES = rows_below(PAGE, "States of an order")
ANSWERS = {row["outcome"]: row for row in rows_below(PAGE, "What an answer means")}
MOVES = {
    (start, end)
    for row in rows_below(PAGE, "Moves of an order")
    for start in row["from"].split(", ")
    for end in row["to"].split(", ")
}
FLAGS = ("stops_run", "is_refusal", "marks_tag_empty", "slows_pace", "usable", "keeps_raw")


def test_every_state_of_an_order_has_its_row() -> None:
    assert sorted(column(STATES, "state")) == sorted(ReservationState)


@pytest.mark.parametrize("row", STATES, ids=column(STATES, "state"))
def test_the_groups_of_a_state_are_those_of_the_code(row: dict[str, str]) -> None:
    state = ReservationState(row["state"])
    assert row["waits for a link"] == ("yes" if state in UNSERVED else "")
    assert row["counts as served"] == ("yes" if state in SERVED else "")
    assert (row["a run can ask for it"] != "") == (state in ASKED_BY_RUNS)
    assert (state in FINAL) == (state not in ASKED_BY_RUNS)


def test_moves_name_states_of_the_code_and_every_state_but_the_first_is_reached() -> None:
    assert {start for start, _ in MOVES} == {"(new)", *ReservationState} - {"claimed"}
    assert {end for _, end in MOVES} == set(ReservationState)


def test_the_diagram_shows_moves_of_the_table() -> None:
    diagram = text_of(PAGE).partition("```mermaid")[2].partition("```")[0]
    drawn = {
        (start.replace("[*]", "(new)"), end) for start, end in re.findall(r"^ +(\S+) --> (\w+)", diagram, re.MULTILINE)
    }
    assert len(drawn) > 10
    assert drawn <= MOVES


def test_a_persons_decisions_are_moves_of_the_table() -> None:
    for action, end in TARGETS.items():
        for start in DECIDED_FROM[action]:
            assert (start, end) in MOVES


def test_every_state_of_a_day_has_its_row() -> None:
    assert sorted(column(rows_below(PAGE, "States of a day"), "state")) == sorted(DayState)


def test_every_outcome_has_its_row() -> None:
    assert sorted(ANSWERS) == sorted(AttemptOutcome)


@pytest.mark.parametrize("outcome", AttemptOutcome)
def test_what_an_outcome_means_is_what_the_code_says(outcome: AttemptOutcome) -> None:
    row, meaning = ANSWERS[outcome], MEANINGS[outcome]
    assert row["passport consumed"] == meaning.consumed
    assert {flag: row[flag] for flag in FLAGS} == {flag: "yes" if getattr(meaning, flag) else "" for flag in FLAGS}


def test_the_table_of_answers_has_every_flag_of_a_meaning() -> None:
    flags = [name for name, value in vars(MEANINGS[AttemptOutcome.NOT_SENT]).items() if isinstance(value, bool)]
    assert sorted(flags) == sorted(FLAGS)


@pytest.mark.parametrize(("outcome", "state"), STATE_AFTER.items())
def test_the_state_that_follows_an_answer_is_what_the_code_says(
    outcome: AttemptOutcome, state: ReservationState
) -> None:
    assert ANSWERS[outcome]["state that follows"] == state
    assert ("calling", state) in MOVES


ON_TIME = Answered(
    order_key="A",
    epoch=0,
    fence=1,
    order_state=ReservationState.CALLING,
    order_fence=1,
    order_has_passport=False,
    tag_epoch=0,
)
LATE_WITH_LINK = replace(ON_TIME, order_state=ReservationState.RESERVED, order_fence=2, order_has_passport=True)
OLD_EPOCH = replace(ON_TIME, tag_epoch=1)


@pytest.mark.parametrize(
    ("answered", "holder"),
    [
        (ON_TIME, None),
        (LATE_WITH_LINK, None),
        (ON_TIME, Holder(7, PassportState.ASSIGNED, "B")),
        (OLD_EPOCH, None),
    ],
    ids=["reserved", "spare", "duplicate", "ended"],
)
def test_the_state_that_follows_a_link_is_what_the_code_says(answered: Answered, holder: Holder | None) -> None:
    settled = settle_link(answered, holder)
    assert ANSWERS[settled.outcome]["state that follows"] == (settled.order_state or "not changed")


@pytest.mark.parametrize(
    ("heading", "states"), [("States of a passport", PassportState), ("States of a tag", TagState)]
)
def test_every_state_of_a_passport_and_of_a_tag_has_its_row(
    heading: str, states: type[PassportState] | type[TagState]
) -> None:
    rows = rows_below(PAGE, heading)
    assert sorted(column(rows, "state")) == sorted(states)
    assert {end for row in rows for end in row["it becomes"].split(", ")} <= {"", *states}


def test_every_reason_why_a_passport_ended_has_its_row() -> None:
    listed = re.search(r"Why it ended: ([^.]+)\.", text_of("include/warehouse/migrations/sql/0001_ledger.sql"))
    assert listed
    for reason in listed.group(1).split(", "):
        assert f"\n| `{reason}` |" in text_of(PAGE)


def test_the_table_of_locks_names_the_locks_of_the_sql() -> None:
    """Each way of locking that a statement of the ledger uses has its place on the page."""
    page = text_of(PAGE)
    for file in PROJECT.glob("include/*/sql/*.sql"):
        for lock in re.findall(
            r"^\s*(for (?:no key update|key share|share|update)[^;\n]*)", file.read_text(), re.MULTILINE
        ):
            plain = re.sub(r" of \w+", "", lock).strip(" )")
            assert f"`{plain}`" in page, f"{file.name}: {plain}"
