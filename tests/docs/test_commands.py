import re

import pytest

from include.settings import Settings
from tests.docs.pages import PAGES, PROJECT

TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
CODE = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", TEXT, flags=re.DOTALL))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z][a-z-]*)", CODE))))
def test_every_make_command_that_a_page_names_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bPASSPORT_LINKS_([A-Z_]+)\b", TEXT))))
def test_every_setting_that_a_page_names_exists(name: str) -> None:
    assert name.lower() in Settings.model_fields


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bpassport(?:_ops)?\.(?!py\b)[a-z_]+", CODE))))
def test_every_table_and_view_that_a_page_names_exists(name: str) -> None:
    migrations = "\n".join(
        file.read_text(encoding="utf-8") for file in PROJECT.glob("include/warehouse/migrations/sql/*")
    )
    assert re.search(rf"create (or replace )?(table|view) {re.escape(name)}\b", migrations)
