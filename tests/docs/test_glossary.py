import pytest

from tests.docs.pages import column, rows_below

ROWS = rows_below("docs/glossary.md", "Terms")
REQUIRED = [
    "order", "campaign", "tag", "pool", "passport", "certificate", "reservation", "intent", "lease", "fence", "epoch",
    "spare", "claim", "reset", "withdrawal", "attention", "run", "run start", "slice", "grant lock", "link",
    "business day", "attempt",
]  # fmt: skip


@pytest.mark.parametrize("term", REQUIRED)
def test_every_term_of_the_field_has_one_line(term: str) -> None:
    [row] = [row for row in ROWS if row["term"] == term]
    assert row["meaning"].endswith(".")


def test_terms_are_sorted_and_each_is_one_line() -> None:
    terms = column(ROWS, "term")
    assert terms == sorted(set(terms), key=str.lower)
    assert all(len(row["meaning"]) <= 140 for row in ROWS)
