"""Airflow's connections to databases, as the Postgres provider's hook opens them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time import task_runner

from include.warehouse.database import NETWORK_LIMITS, SafeDatabaseError, open_session
from local.postgres import EmbeddedPostgres
from passport_airflow.connections import from_environment, nmp_is_sandbox, orders_db, warehouse

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "value",
    [
        "postgres://pipe:p%40ss@db.example:5433/warehouse?sslmode=require",
        '{"conn_type": "postgres", "host": "db.example", "port": 5433, "login": "pipe", "password": "p@ss",'
        ' "schema": "warehouse", "extra": {"sslmode": "require"}}',
    ],
)
def test_both_forms_of_a_connection_say_the_same(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", value)
    assert json.loads(warehouse().definition) == {
        "conn_type": "postgres",
        "host": "db.example",
        "port": 5433,
        "login": "pipe",
        "password": "p@ss",
        "schema": "warehouse",
        "extra": {**NETWORK_LIMITS, "sslmode": "require"},
    }
    assert from_environment("warehouse", value) == warehouse()
    assert "p@ss" not in repr(warehouse())


def test_a_missing_connection_is_one_sentence_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_ORDERS_DB", raising=False)
    with pytest.raises(AirflowFailException, match=r"the connection 'orders_db' is missing .*AIRFLOW_CONN_ORDERS_DB$"):
        orders_db()


def test_a_connection_of_another_kind_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "mysql://pipe:hunter22@db.example/warehouse")
    with pytest.raises(AirflowFailException, match="must be a PostgreSQL connection") as refused:
        warehouse()
    assert "hunter22" not in str(refused.value)


def test_the_providers_hook_opens_the_database_with_its_extras(postgres: EmbeddedPostgres) -> None:
    uri = postgres.uri("postgres") + "?application_name=of-the-extra&cursor=dictcursor"
    with from_environment("warehouse", uri)() as connection:
        assert connection.execute("show application_name").fetchone() == ("of-the-extra",)
    with open_session(from_environment("warehouse", uri), application_name="passport-links test") as session:
        assert session.execute("show application_name").fetchone() == ("passport-links test",)
        assert session.execute("show timezone").fetchone() == ("UTC",)


def test_opening_a_database_asks_nothing_of_airflow(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    class Supervisor:
        def send(self, message: object) -> None:
            asked.append(message)

    open_warehouse = from_environment("warehouse", postgres.uri("postgres") + "?sslmode=disable")
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
    open_warehouse().close()  # as an engine does that lost its connection, when nobody may answer it
    assert asked == []


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_extra_is_none(postgres: EmbeddedPostgres, nothing: str | None) -> None:
    found = json.loads(from_environment("warehouse", postgres.uri("postgres")).definition)
    value = json.dumps({**found, "extra": {"sslmode": nothing, "connect_timeout": nothing}})
    from_environment("warehouse", value)().close()


def test_an_extra_that_the_provider_cannot_read_is_not_tried_again(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        message = "hunter22"
        raise ValueError(message)

    monkeypatch.setattr(PostgresHook, "get_conn", refuse)
    with pytest.raises(SafeDatabaseError, match="'warehouse': ValueError; correct its extra") as failed:
        from_environment("warehouse", postgres.uri("postgres"))()
    assert failed.value.transient is False
    assert "hunter22" not in repr(failed.value.__context__)


def test_extras_of_the_ui_are_text_and_count(postgres: EmbeddedPostgres) -> None:
    extra = {"keepalives_idle": "7", "connect_timeout": "3", "keepalives_count": 2, "sslmode": "disable"}
    value = {
        "conn_type": "postgres",
        "host": "127.0.0.1",
        "port": str(postgres.port),
        "login": "postgres",
        "password": postgres.password,
        "schema": "postgres",
        "extra": json.dumps(extra),
    }
    with from_environment("warehouse", json.dumps(value))() as connection:
        told = connection.info.get_parameters()
    assert {name: told[name] for name in ("keepalives_idle", "connect_timeout", "keepalives_count", "sslmode")} == {
        "keepalives_idle": "7",
        "connect_timeout": "3",
        "keepalives_count": "2",
        "sslmode": "disable",
    }
    assert told["tcp_user_timeout"] == "8000"  # what the extra leaves out is limited too


def test_a_secrets_backend_gives_the_connection_and_no_log_shows_its_password(
    database: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """All of ``make migrate``, at the log level that says most; only a secrets backend knows the connection."""
    stored = tmp_path / "connections.json"
    stored.write_text(json.dumps({"warehouse": database}))
    outside = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    done = subprocess.run(
        [sys.executable, "-m", "passport_airflow.migrate_warehouse"],
        env={
            **outside,
            "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'plugins'}",
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
            "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(stored)}),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Migrated the PostgreSQL database test_" in done.stdout, done.stderr
    assert postgres.password not in done.stdout + done.stderr
    with psycopg.connect(database) as connection:
        assert connection.execute("select to_regclass('passport.links') is not null").fetchone() == (True,)


def test_a_login_that_is_refused_names_the_place_and_no_password(postgres: EmbeddedPostgres) -> None:
    opened = from_environment("warehouse", postgres.uri("postgres").replace(postgres.password, "hunter22"))
    with pytest.raises(SafeDatabaseError) as refused:
        opened()
    assert str(refused.value) == (
        f"No connection to the PostgreSQL database postgres at 127.0.0.1:{postgres.port}: it refuses the login; check "
        "user and password (SQLSTATE 28P01)"
    )
    assert "hunter22" not in repr(refused.value.__context__)
    assert refused.value.transient is False


def test_a_misspelt_extra_is_refused_and_not_dropped(postgres: EmbeddedPostgres) -> None:
    opened = from_environment("warehouse", postgres.uri("postgres") + "?sslmod=require")
    with pytest.raises(SafeDatabaseError, match="its parameters are not libpq's; correct the connection's extra"):
        opened()


def test_an_iam_token_is_asked_for_anew_at_each_connection(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = iter([postgres.password, "expired"])
    monkeypatch.setattr(
        PostgresHook, "get_iam_token", lambda _, conn: (conn.login, next(tokens), conn.port), raising=True
    )
    opened = from_environment("warehouse", postgres.uri("postgres").replace(postgres.password, "") + "?iam=true")
    opened().close()
    with pytest.raises(SafeDatabaseError, match="it refuses the login"):
        opened()


def test_a_token_service_that_fails_is_named_by_type_only(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_token(*_: object) -> None:
        message = "hunter22"
        raise RuntimeError(message)

    monkeypatch.setattr(PostgresHook, "get_iam_token", no_token)
    expected = r"^No connection 'warehouse': RuntimeError; see that its token service works$"
    with pytest.raises(SafeDatabaseError, match=expected) as failed:
        from_environment("warehouse", postgres.uri("postgres") + "?iam=true")()
    assert failed.value.transient is True


def test_a_token_service_without_its_provider_says_what_to_install(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(SafeDatabaseError, match="apache-airflow-providers-amazon not installed, run: pip") as failed:
        from_environment("warehouse", postgres.uri("postgres") + "?iam=true")()
    assert failed.value.transient is False


def test_a_connection_of_the_token_service_that_cannot_be_parsed_is_not_shown(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_token(*_: object) -> None:
        Connection.from_uri("aws://key:hunter22@https://sts://example", conn_id="aws_default")  # raises, with the URI

    monkeypatch.setattr(PostgresHook, "get_iam_token", no_token)
    with pytest.raises(SafeDatabaseError, match=r"^No connection 'warehouse': AirflowException; see") as failed:
        from_environment("warehouse", postgres.uri("postgres") + "?iam=true")()
    assert "hunter22" not in repr(failed.value)


def test_an_extra_that_is_no_json_is_one_sentence() -> None:
    value = '{"conn_type": "postgres", "host": "db.example", "extra": "hunter22"}'
    with pytest.raises(AirflowFailException, match="has an extra that is no JSON object; write it like") as refused:
        from_environment("warehouse", value)
    assert "hunter22" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "sandbox"),
    [
        ('{"conn_type": "http", "host": "http://127.0.0.1:8765", "password": "key", "extra": {"sandbox": true}}', True),
        ("http://:key12@127.0.0.1:8765/?sandbox=true", True),
        ("http://:key12@127.0.0.1:8765/", False),
        ('{"conn_type": "http", "host": "https://nmp.example", "password": "key", "extra": {"sandbox": false}}', False),
    ],
)
def test_only_the_connection_itself_says_that_it_is_the_sandbox(
    monkeypatch: pytest.MonkeyPatch, value: str, sandbox: bool
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NMP", value)
    assert nmp_is_sandbox() is sandbox
