import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local.processes import LocalStackError
from local.stack import Ports, Stack, is_free, running

DAG = """
from airflow.sdk import dag, task

@dag(schedule=None)
def greet():
    @task
    def names():
        return ["Ada", "Grace"]

    @task
    def greet_one(name):
        print("hello", name)

    greet_one.expand(name=names())

greet()
"""


def test_free_ports_are_three_different_ones_below_the_ephemeral_range() -> None:
    ports = Ports.free()
    assert len({ports.ui, ports.postgres, ports.sandbox}) == 3
    assert all(20_000 <= port < 32_000 for port in (ports.ui, ports.postgres, ports.sandbox))
    assert all(is_free(port) for port in (ports.ui, ports.postgres, ports.sandbox))


def test_a_second_stack_in_the_same_state_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with Stack(tmp_path) as first:
        owner = running(tmp_path)
        assert owner is not None
        assert owner.pid == psutil.Process().pid
        with pytest.raises(LocalStackError, match=f"running already \\(process {owner.pid}\\)"), Stack(tmp_path):
            pass
        assert first.state == tmp_path
    with Stack(tmp_path):
        pass


def test_the_parts_are_told_by_the_stack_and_not_by_the_shells_airflow_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_HOME", "/nowhere")
    monkeypatch.setenv("PASSPORT_LINKS_SHOP_TIMEZONE", "Europe/Paris")
    with Stack(tmp_path, environment={"AIRFLOW__CORE__PARALLELISM": "2"}) as stack:
        environment = stack.environment()
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert environment["AIRFLOW_HOME"] == str(tmp_path / "airflow")
    assert environment["AIRFLOW__CORE__PARALLELISM"] == "2"
    assert environment["PASSPORT_LINKS_SHOP_TIMEZONE"] == "Europe/Paris"
    assert json.loads(environment["AIRFLOW_CONN_NMP"])["host"] == stack.sandbox_url


def test_a_connection_from_outside_replaces_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NMP", "http://:key@nmp.example/http")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", '{"conn_type": "postgres", "host": "db.example", "schema": "w"}')
    with Stack(tmp_path) as stack:
        stack.start_databases()
        assert "sandbox" not in stack.parts
        assert json.loads(stack.warehouse.definition)["host"] == "db.example"  # type: ignore[attr-defined]
        assert stack.environment()["AIRFLOW_CONN_NMP"] == "http://:key@nmp.example/http"
        with stack.orders_db() as orders:
            assert (orders.info.port, orders.info.dbname) == (stack.ports.postgres, "shop")


def test_secrets_are_kept_between_starts_and_private(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        first = stack.environment()["AIRFLOW__API_AUTH__JWT_SECRET"]
    with Stack(tmp_path) as stack:
        assert stack.environment()["AIRFLOW__API_AUTH__JWT_SECRET"] == first
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    dags = tmp_path_factory.mktemp("dags")
    (dags / "greet.py").write_text(DAG)
    no_plugins = tmp_path_factory.mktemp("plugins")
    with Stack(tmp_path_factory.mktemp("state"), dags_folder=dags, plugins_folder=no_plugins) as stack:
        stack.start()
        stack.api.wait_for_dags(["greet"])
        stack.api.unpause("greet")
        yield stack


@pytest.mark.integration
def test_a_run_comes_to_its_end_and_its_logs_can_be_read(stack: Stack) -> None:
    run_id = stack.api.trigger("greet")
    assert stack.api.wait_for_run("greet", run_id)["state"] == "success"
    tasks = {(task["task_id"], task["map_index"]): task["state"] for task in stack.api.tasks("greet", run_id)}
    assert tasks == {("names", -1): "success", ("greet_one", 0): "success", ("greet_one", 1): "success"}
    assert "hello Grace" in stack.api.log("greet", run_id, "greet_one", map_index=1)
    assert [entry["value"] for entry in stack.api.xcoms("greet", run_id)] == [["Ada", "Grace"]]


@pytest.mark.integration
def test_a_cleared_run_runs_again(stack: Stack) -> None:
    run_id = stack.api.trigger("greet")
    stack.api.wait_for_run("greet", run_id)
    stack.api.clear_tasks("greet", run_id, [("greet_one", 0)])
    assert stack.api.wait_for_run("greet", run_id)["state"] == "success"
    tries = {task["map_index"]: task["try_number"] for task in stack.api.tasks("greet", run_id)}
    assert tries == {-1: 1, 0: 2, 1: 1}


@pytest.mark.integration
def test_everything_listens_on_the_loopback_address_only(stack: Stack) -> None:
    pids = {part.pid for part in stack.parts.values()}
    pids |= {child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True)}
    addresses = {
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.status == "LISTEN" and connection.pid in pids
    }
    assert addresses == {"127.0.0.1"}


@pytest.mark.integration
def test_no_secret_stands_on_a_command_line(stack: Stack) -> None:
    environment = stack.environment()
    secrets = [
        stack.postgres.password,
        *(environment[f"AIRFLOW__{name}"] for name in ("CORE__FERNET_KEY", "API__SECRET_KEY", "API_AUTH__JWT_SECRET")),
    ]
    command_lines = "\n".join(" ".join(psutil.Process(part.pid).cmdline()) for part in stack.parts.values())
    assert not [secret for secret in secrets if secret in command_lines]


@pytest.mark.integration
def test_killed_parts_can_be_started_again_and_go_on_working(stack: Stack) -> None:
    former = {name: stack.parts[name].pid for name in ("triggerer", "scheduler", "sandbox")}
    for name in former:
        stack.parts[name].kill()
        assert not stack.parts[name].is_alive()
    assert sorted(stack.revive()) == ["sandbox", "scheduler", "triggerer"]
    assert not {stack.parts[name].pid for name in former} & {None, *former.values()}
    run_id = stack.api.trigger("greet")
    assert stack.api.wait_for_run("greet", run_id)["state"] == "success"


@pytest.mark.integration
def test_a_stopped_stack_leaves_no_process_behind(stack: Stack) -> None:
    processes = [psutil.Process(part.pid) for part in stack.parts.values() if part.pid]
    assert len(processes) == 6
    processes += [child for process in processes for child in process.children(recursive=True)]
    assert len(processes) > 10
    stack.stop()
    assert not [process for process in processes if process.is_running()]
    assert is_free(stack.ports.ui)
