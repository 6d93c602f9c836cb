"""Promise 6 after runs that met every fault: no link, passphrase or API key anywhere but in the restricted columns."""

import pytest

from local.processes import wait_until
from local.stack import AIRFLOW_DATABASE, WAREHOUSE_DATABASE
from tests.canaries import Secrets, bodies, dump, leaks, log_files
from tests.integration.conftest import FailedRun, Running


@pytest.fixture(autouse=True)
def _runs_have_failed_and_met_every_fault(
    out_of_stock: FailedRun, redirected: FailedRun, under_every_fault: FailedRun
) -> None:
    """Let the runs leave what they leave: logs, mails, answers that nobody could read."""


def test_the_search_finds_links_where_they_may_be(running: Running) -> None:
    secrets = Secrets.of(running.stack)
    published = {link.partition(",")[2] for (link,) in running.ask("select link from passport.links")}
    assert len(published) > 50
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
    for sentence in ("2 of 4 orders have a link (2 out_of_stock)", "302: a redirect, which is never followed"):
        assert wait_until(lambda sentence=sentence: any(sentence in text for text in running.mails), 30), sentence


def test_no_secret_stands_anywhere_else(running: Running) -> None:
    assert leaks(running.stack, {"a mail": "\n".join(running.mails).encode()}) == []
