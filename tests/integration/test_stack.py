"""A stack's runs, kills, addresses, command lines and end."""

from pathlib import Path

import psutil

from local.stack import Stack, is_free
from tests.integration.conftest import SMALL_DAG


def test_a_run_comes_to_its_end_and_its_logs_can_be_read(stack: Stack) -> None:
    run_id = stack.api.trigger(SMALL_DAG)
    assert stack.api.wait_for_run(SMALL_DAG, run_id)["state"] == "success"
    tasks = {(task["task_id"], task["map_index"]): task["state"] for task in stack.api.tasks(SMALL_DAG, run_id)}
    assert tasks == {("names", -1): "success", ("greet_one", 0): "success", ("greet_one", 1): "success"}
    assert "hello Grace" in stack.api.log(SMALL_DAG, run_id, "greet_one", map_index=1)
    assert [entry["value"] for entry in stack.api.xcoms(SMALL_DAG, run_id)] == [["Ada", "Grace"]]


def test_a_cleared_run_runs_again(stack: Stack) -> None:
    run_id = stack.api.trigger(SMALL_DAG)
    stack.api.wait_for_run(SMALL_DAG, run_id)
    stack.api.clear_tasks(SMALL_DAG, run_id, [("greet_one", 0)])
    assert stack.api.wait_for_run(SMALL_DAG, run_id)["state"] == "success"
    tries = {task["map_index"]: task["try_number"] for task in stack.api.tasks(SMALL_DAG, run_id)}
    assert tries == {-1: 1, 0: 2, 1: 1}


def test_everything_listens_on_the_loopback_address_only(stack: Stack) -> None:
    pids = {part.pid for part in stack.parts.values()}
    pids |= {child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True)}
    addresses = {
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.status == "LISTEN" and connection.pid in pids
    }
    assert addresses == {"127.0.0.1"}


def test_no_secret_stands_on_a_command_line(stack: Stack) -> None:
    environment = stack.environment()
    secrets = [
        stack.postgres.password,
        *(environment[f"AIRFLOW__{name}"] for name in ("CORE__FERNET_KEY", "API__SECRET_KEY", "API_AUTH__JWT_SECRET")),
    ]
    command_lines = "\n".join(" ".join(psutil.Process(part.pid).cmdline()) for part in stack.parts.values())
    assert not [secret for secret in secrets if secret in command_lines]


def test_killed_parts_can_be_started_again_and_go_on_working(stack: Stack) -> None:
    former = {name: stack.parts[name].pid for name in ("triggerer", "scheduler", "sandbox")}
    for name in former:
        stack.parts[name].kill()
        assert not stack.parts[name].is_alive()
    assert sorted(stack.revive()) == ["sandbox", "scheduler", "triggerer"]
    assert not {stack.parts[name].pid for name in former} & {None, *former.values()}
    run_id = stack.api.trigger(SMALL_DAG)
    assert stack.api.wait_for_run(SMALL_DAG, run_id)["state"] == "success"


def test_a_stopped_stack_leaves_no_process_behind(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with Stack(tmp_path / "state", dags_folder=tmp_path / "empty", plugins_folder=tmp_path / "empty") as stack:
        stack.start()
        processes = [psutil.Process(part.pid) for part in stack.parts.values() if part.pid]
        assert len(processes) == 6
        processes += [child for process in processes for child in process.children(recursive=True)]
        assert len(processes) > 10
        stack.stop()
        assert not [process for process in processes if process.is_running()]
        assert is_free(stack.ports.ui)
