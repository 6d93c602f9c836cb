"""Promise 6 on the runs before: no link, passphrase or API key anywhere but in the restricted columns."""

import pytest

from include.local.stack import AIRFLOW_DATABASE
from tests.canaries import canaries, dump, found, leaks, log_files
from tests.integration.conftest import Running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.xdist_group("integration")]


def test_the_search_finds_links_where_they_may_be(running: Running) -> None:
    links = canaries(running.stack)[:-1]
    assert len(links) > 100
    assert found(dump(running.stack.warehouse_uri), links) == len(links)


def test_the_search_looks_at_what_runs_and_statements_left_behind(running: Running) -> None:
    assert any("attempt=1.log.trigger" in path.name for path in log_files(running.stack))
    assert "passport_ops.answer" in (running.stack.logs / "postgres.log").read_text()  # it does log statements
    assert b"reserve_passport_links" in dump(running.stack.postgres.uri(AIRFLOW_DATABASE))


def test_no_secret_stands_anywhere_else(running: Running) -> None:
    assert leaks(running.stack) == []
