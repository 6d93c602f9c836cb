import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, PROJECT

SUFFIX = re.compile(r"\.(py|md|sql|ya?ml|toml|txt|in|html|css|csv|json)$")
TOP = {path.name for path in PROJECT.iterdir()}


def _is_path(text: str) -> bool:
    """Whether a text names a file or folder of the project, as far as one can see."""
    looks_like_one = re.fullmatch(r"\w[\w.-]*(/[\w.-]+)*/?", text) and ("/" in text or SUFFIX.search(text))
    return bool(looks_like_one) or text in TOP


def _named(page: str) -> set[str]:
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    ticked = {name for name in re.findall(r"`([^`\s]+?)(?:::\w+)?`", text) if _is_path(name)}
    linked = set(re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text))
    return ticked | linked


CASES = [(page, name) for page in PAGES for name in sorted(_named(page.read_text(encoding="utf-8")))]


@pytest.mark.parametrize(("page", "name"), CASES, ids=[f"{page.name}-{name}" for page, name in CASES])
def test_every_path_that_a_page_names_exists(page: Path, name: str) -> None:
    # docs/promises.md names tests from their folder, a link is from its page's folder
    assert any((folder / name).exists() for folder in (PROJECT, PROJECT / "tests", page.parent))
