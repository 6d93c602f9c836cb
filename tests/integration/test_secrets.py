"""Promise 6 on the runs before: no link, passphrase or API key anywhere but in the restricted columns."""

import pytest

from local.stack import AIRFLOW_DATABASE, WAREHOUSE_DATABASE
from tests.canaries import Secrets, bodies, dump, leaks, log_files
from tests.integration.conftest import Running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.xdist_group("integration")]


def test_the_search_finds_links_where_they_may_be(running: Running) -> None:
    secrets = Secrets.of(running.stack)
    published = {link.partition(",")[2] for (link,) in running.ask("select link from passport.links")}
    assert len(published) > 100
    assert published < set(secrets.sought)  # some were lost on the way
    assert published <= secrets.found_in(dump(running.stack.postgres.uri(WAREHOUSE_DATABASE)))


def test_the_search_looks_at_what_runs_and_statements_left_behind(running: Running) -> None:
    assert any("attempt=1.log.trigger" in path.name for path in log_files(running.stack))
    assert "passport_ops.answer" in (running.stack.logs / "postgres.log").read_text()  # it does log statements
    assert b"reserve_passport_links" in dump(running.stack.postgres.uri(AIRFLOW_DATABASE))


def test_the_search_looks_at_what_the_api_and_the_page_show(running: Running) -> None:
    shown = bodies(running.stack)
    assert b'"rendered_fields"' in shown["/dags/~/dagRuns/~/taskInstances"]
    assert b"trigger_dag_run" in shown["/eventLogs"]
    assert sum(b'"value"' in body for path, body in shown.items() if "/xcomEntries/" in path) > 10
    assert str(running.day(1)).encode() in shown["the page "]


def test_the_search_looks_at_the_mails_about_failures(running: Running) -> None:
    assert any("2 of 4 orders have a link (2 out_of_stock)" in text for text in running.mails)
    assert any("302: the NMP redirects" in text for text in running.mails)


def test_no_secret_stands_anywhere_else(running: Running) -> None:
    assert leaks(running.stack, {"a mail": "\n".join(running.mails).encode()}) == []
