import ast
import re

import pytest

from tests.docs.pages import PROJECT, text_of

TESTS = PROJECT / "tests"
PAGE = text_of("docs/promises.md")
NAMED = sorted(set(re.findall(r"`([\w/.-]+\.py)::(\w+)`", PAGE)))


def _tests_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_every_test_that_the_page_names_exists(file: str, test: str) -> None:
    assert test.startswith("test_")
    assert test in _tests_of(file)


def test_every_promise_names_a_test() -> None:
    promises = re.split(r"\n## \d+\. ", PAGE.partition("\n## Under fire")[0])[1:]
    assert len(promises) >= 9
    for promise in promises:
        assert re.search(r"\* \*\*Tests\*\*[^*]*`[\w/]+\.py", promise), promise.splitlines()[0]


def test_every_test_is_named_with_its_file_and_no_name_is_cut_short() -> None:
    for name in re.findall(r"`([^`]*::[^`]*)`", PAGE):
        assert tuple(name.split("::")) in NAMED
