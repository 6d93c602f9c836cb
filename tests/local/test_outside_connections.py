"""A stack with connections from outside."""

import os
import subprocess
import sys
from pathlib import Path

from local.postgres import EmbeddedPostgres
from local.processes import PROJECT
from local.stack import Stack


def test_the_stack_s_own_databases_are_used_unless_the_environment_has_others(tmp_path: Path) -> None:
    stack = Stack(tmp_path, environment={"AIRFLOW_CONN_WAREHOUSE": "postgresql://db.example/dwh"})
    assert stack.outside_connections() == ["warehouse"]
    assert stack.outside_connection("warehouse") == "postgresql://db.example/dwh"
    assert stack.outside_connection("nmp") is None


def test_airflow_s_log_stays_out_of_standard_output_which_is_for_the_result(
    database: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    code = (
        "from pathlib import Path; from include.warehouse.migrate import migrate; from local.stack import Stack;"
        f"migrate(Stack(Path({str(tmp_path)!r})).warehouse); print('the result')"
    )
    outside = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={**outside, "PYTHONPATH": ".:plugins", "AIRFLOW_CONN_WAREHOUSE": database},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "the result\n", done.stderr
    assert "Running upgrade" in done.stderr
    assert postgres.password not in done.stderr
