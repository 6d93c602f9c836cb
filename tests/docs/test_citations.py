import re
from pathlib import Path

import pytest

from tests.docs.pages import PROJECT

ROOMS = ("include", "plugins", "dags", "sandbox", "local", "tests", "bench", "docker")
KINDS = {".py", ".sql", ".yaml", ".html", ".sh"}
BY_THEMSELVES = ("docker-compose.yaml", ".env.example", "Dockerfile", "Makefile", "pyproject.toml")
FILES = sorted(
    [path for room in ROOMS for path in (PROJECT / room).rglob("*") if path.suffix in KINDS]
    + [PROJECT / name for name in BY_THEMSELVES]
)
OUTSIDE = "the" + " design"  # a page that is not part of the project; written so that this file does not name it


def _names(files: list[Path]) -> list[str]:
    return [str(path.relative_to(PROJECT)) for path in files]


CITING = [path for path in FILES if "docs/" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", CITING, ids=_names(CITING))
def test_every_page_that_a_file_names_exists(path: Path) -> None:
    for page in re.findall(r"\bdocs/[\w./-]+\.md\b", path.read_text(encoding="utf-8")):
        assert (PROJECT / page).is_file(), page


def test_no_code_cites_a_page_outside_the_project() -> None:
    pattern = re.compile(rf"\b{OUTSIDE}\b", re.IGNORECASE)
    assert _names([path for path in FILES if pattern.search(path.read_text(encoding="utf-8"))]) == []
