"""Which tasks of a run failed."""

from types import SimpleNamespace
from typing import Any

from passport_airflow.failed_tasks import failed_tasks


def test_a_task_that_failed_or_could_not_start_is_named_by_its_index() -> None:
    states = {"reserve_0": "success", "reserve_1": "failed", "reserve_2": "skipped", "load_links": "upstream_failed"}
    asked: list[dict[str, Any]] = []
    ti = SimpleNamespace(get_task_states=lambda **query: asked.append(query) or {"run": states})
    context: Any = {"dag_run": SimpleNamespace(dag_id="a_dag", run_id="run"), "ti": ti}
    assert failed_tasks(context, ["reserve", "load_links"]) == {"reserve_1", "load_links"}
    assert asked == [{"dag_id": "a_dag", "task_ids": ["reserve", "load_links"], "run_ids": ["run"]}]


def test_a_run_without_such_tasks_has_none_that_failed() -> None:
    ti = SimpleNamespace(get_task_states=lambda **_: {})
    context: Any = {"dag_run": SimpleNamespace(dag_id="a_dag", run_id="run"), "ti": ti}
    assert failed_tasks(context, ["reserve"]) == set()
