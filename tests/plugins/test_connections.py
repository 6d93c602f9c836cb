import pytest
from airflow.sdk.exceptions import AirflowFailException

from passport_airflow.connections import nmp_is_sandbox, orders_uri, warehouse_uri


@pytest.mark.parametrize(
    "value",
    [
        "postgres://pipe:p%40ss@db.example:5433/warehouse?sslmode=require",
        '{"conn_type": "postgres", "host": "db.example", "port": 5433, "login": "pipe", "password": "p@ss",'
        ' "schema": "warehouse", "extra": {"sslmode": "require"}}',
    ],
)
def test_both_forms_of_a_connection_become_one_libpq_uri(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", value)
    assert warehouse_uri() == "postgresql://pipe:p%40ss@db.example:5433/warehouse?sslmode=require"


def test_a_missing_connection_is_one_sentence_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_ORDERS_DB", raising=False)
    with pytest.raises(AirflowFailException, match=r"the connection 'orders_db' is missing .*AIRFLOW_CONN_ORDERS_DB$"):
        orders_uri()


def test_a_connection_of_another_kind_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "mysql://pipe:hunter22@db.example/warehouse")
    with pytest.raises(AirflowFailException, match="must be a PostgreSQL connection") as refused:
        warehouse_uri()
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
