"""Which tasks of a run failed."""

from collections.abc import Sequence

from airflow.sdk import Context


def failed_tasks(context: Context, task_ids: Sequence[str]) -> set[str]:
    """Give those of ``task_ids`` that failed in this run, or did not start because another one failed.

    A mapped task has a name for each index: ``reserve_3``.
    """
    run = context["dag_run"]
    states = context["ti"].get_task_states(dag_id=run.dag_id, task_ids=list(task_ids), run_ids=[run.run_id])
    return {task for task, state in states.get(run.run_id, {}).items() if state in ("failed", "upstream_failed")}
