import json
from pathlib import Path

import psutil
import pytest

from local.processes import LocalStackError
from local.stack import Ports, Stack, is_free, running


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
