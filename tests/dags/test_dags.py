"""The DAGs parse, and every one of them keeps the house rules."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

from include.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]
DAG_OF_FILE = {
    "reserve_passport_links.py": "reserve_passport_links",
    "reset_stale_reservations.py": "reset_stale_reservations",
    "resolve_attention.py": "resolve_attention",
}


@pytest.fixture(scope="module")
def dags() -> DagBag:
    return DagBag(PROJECT / "dags", bundle_name="dags-folder")


def test_every_dag_file_is_known_and_parses(dags: DagBag) -> None:
    assert dags.import_errors == {}
    assert {path.name for path in (PROJECT / "dags").glob("*.py")} == set(DAG_OF_FILE)
    assert set(dags.dags) == set(DAG_OF_FILE.values())


@pytest.mark.parametrize("dag_id", DAG_OF_FILE.values())
def test_a_dag_says_what_it_does_and_what_to_do_when_it_fails(dags: DagBag, dag_id: str) -> None:
    dag = dags.dags[dag_id]
    assert dag.tags == {"passport-links"}
    assert "**When.**" in dag.doc_md
    assert "**When it fails**" in dag.doc_md
    assert dag.catchup is False
    for name in dag.params:
        assert dag.params.get_param(name).description, name


@pytest.mark.parametrize("dag_id", DAG_OF_FILE.values())
def test_a_task_has_an_owner_retries_and_a_timeout(dags: DagBag, dag_id: str) -> None:
    for task in dags.dags[dag_id].tasks:
        assert task.owner == "passport-links", task.task_id
        assert task.retries >= 2, task.task_id  # with 0 a task that never started is lost
        assert task.execution_timeout, task.task_id


def test_the_daily_dag_reads_in_the_order_of_its_sentence(dags: DagBag) -> None:
    dag = dags.dags["reserve_passport_links"]
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        "extract_orders": {"reserve"},
        "reserve": {"load_links"},
        "load_links": {"check_run", "trigger_reset"},
        "check_run": set(),
        "trigger_reset": set(),
    }
    assert [outlet.name for outlet in dag.get_task("load_links").outlets] == ["passport_links"]


def test_the_reserve_task_starts_in_the_triggerer_and_outlasts_two_leases_and_deadlines(dags: DagBag) -> None:
    reserve, settings = dags.dags["reserve_passport_links"].get_task("reserve"), Settings()
    assert reserve.start_from_trigger is True
    assert reserve.start_trigger_args.trigger_cls == "passport_airflow.reserve_trigger.ReserveTrigger"
    two = timedelta(seconds=2 * (settings.lease_seconds + settings.call_deadline_seconds))
    assert reserve.partial_kwargs["execution_timeout"] >= two


def test_the_schedule_is_midnight_in_the_shop_s_time_zone() -> None:
    code = (
        "from airflow.dag_processing.dagbag import DagBag;"
        "t = DagBag('dags', bundle_name='dags-folder').dags['reserve_passport_links'].timetable;"
        "print(type(t).__name__, t.expression, t.timezone)"
    )
    shown = _python(code, PASSPORT_LINKS_SHOP_TIMEZONE="America/Sao_Paulo")
    assert "CronDataIntervalTimetable 0 0 * * * America/Sao_Paulo" in shown.stdout


def test_a_bad_campaign_file_is_one_clear_error_when_the_dag_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "campaigns.yaml").write_text("campaigns:\n  - {name: a, tag: 'x,y', products: '*', stale_after: 30d}\n")
    code = (
        "from airflow.dag_processing.dagbag import DagBag;"
        "print(*DagBag('dags', bundle_name='dags-folder').import_errors.values())"
    )
    shown = _python(code, PASSPORT_LINKS_CAMPAIGNS_FILE=str(tmp_path / "campaigns.yaml"))
    assert "campaign 'a'" in shown.stdout
    assert "'x,y'" in shown.stdout


def test_parsing_the_dags_imports_nothing_heavy_that_only_a_task_or_the_page_needs() -> None:
    code = (
        "import sys; from airflow.dag_processing.dagbag import DagBag;"
        "bag = DagBag('dags', bundle_name='dags-folder');"
        "heavy = ('pandas', 'numpy', 'alembic', 'requests', 'urllib3', 'fastapi', 'airflow.providers.postgres.hooks');"
        "print(len(bag.dags), [name for name in heavy if name in sys.modules])"
    )
    assert _python(code).stdout.splitlines()[-1] == f"{len(DAG_OF_FILE)} []"


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of Python in a process of its own: settings are read once per process."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'plugins'}", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
