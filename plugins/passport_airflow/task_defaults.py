"""What every task of every DAG has: owner, retries, and how long it may take."""

from datetime import timedelta
from typing import Any

from include.settings import settings
from passport_airflow.retry_policy import RETRY_BY_CLASS


def task_defaults(execution_timeout: timedelta) -> dict[str, Any]:
    """Give the ``default_args`` of a DAG."""
    return {
        "owner": "passport-links",
        "retries": 2,  # with 0, a task that never started is lost
        "retry_delay": timedelta(seconds=settings().retry_delay_seconds),
        "retry_policy": RETRY_BY_CLASS,
        "execution_timeout": execution_timeout,
    }
