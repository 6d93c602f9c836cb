import json
import socket
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.settings import settings
from local import run_once
from tests.builders.orders_csv import HEADER

NOTHING = {
    "orders": 0,
    "reserved": 0,
    "claimed": 0,
    "out_of_stock": 0,
    "held": 0,
    "unknown": 0,
    "pending": 0,
    "cancelled": 0,
    "reset": 0,
    "published": 0,
    "calls": 0,
    "seconds": None,
}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ("DAY", "ORDERS", "CAMPAIGNS", "CONF", "SHOP_TIMEZONE", "AIRFLOW_CONN_ORDERS_DB", "AIRFLOW_CONN_WAREHOUSE")
    names = (*names, "AIRFLOW_CONN_NMP")
    # Set first: what the command itself puts into the environment is then undone too.
    for name in (*names, "PASSPORT_LINKS_SHOP_TIMEZONE", "PASSPORT_LINKS_CAMPAIGNS_FILE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("STATE", str(tmp_path / "state"))


def _run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **given: str) -> tuple[int, Any, str]:
    """Exit code, the JSON object on the last line of standard output, the last line of standard error."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    code = run_once.main()
    settings.cache_clear()
    captured = capsys.readouterr()
    return code, json.loads(captured.out.splitlines()[-1]), captured.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "DAY is missing; give the business day, like `make run-once DAY=2026-11-22`"),
        ({"DAY": "24.11.2017"}, "'24.11.2017' is not a day; write it as YYYY-MM-DD"),
        ({"DAY": "2099-01-01"}, "2099-01-01 has not ended in UTC; the last day that has is "),
        (
            {"DAY": "2017-11-24", "SHOP_TIMEZONE": "Sao_Paulo"},
            "SHOP_TIMEZONE is 'Sao_Paulo', which is no IANA time zone",
        ),
        ({"DAY": "2017-11-24", "ORDERS": "/no/such.csv"}, "ORDERS names /no/such.csv, which is no file"),
        ({"DAY": "2017-11-24", "CAMPAIGNS": "/no/such.yaml"}, "campaign file /no/such.yaml cannot be read"),
        ({"DAY": "2017-11-24", "CONF": "{max_tasks: 4}"}, "CONF is not JSON"),
        ({"DAY": "2017-11-24", "CONF": "[1]"}, "CONF is no JSON object"),
        ({"DAY": "2017-11-24", "CONF": '{"day": "2017-11-25"}'}, "CONF holds a day; give it as DAY"),
        ({"DAY": "2017-11-24", "CONF": '{"campaigns": ["watch"]}'}, "CONF's campaigns: no campaign is named 'watch'"),
        (
            {"DAY": "2017-11-24", "ORDERS": __file__, "AIRFLOW_CONN_ORDERS_DB": "postgresql://h/d"},
            "ORDERS and AIRFLOW_CONN_ORDERS_DB are both given",
        ),
    ],
)
def test_a_bad_request_gets_one_sentence_and_still_its_json_line_and_starts_nothing(
    given: dict[str, str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    code, result, error = _run(monkeypatch, capsys, **given)
    assert code == 1
    assert result == {"day": given.get("DAY"), **NOTHING}
    assert error.startswith(sentence)
    assert not (tmp_path / "state").exists()


def test_a_csv_without_the_needed_columns_is_named_before_airflow_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    orders = tmp_path / "orders.csv"
    orders.write_text(HEADER.removesuffix(",paid_at") + "\n1,2,Aria Tote,paid,2017-11-24\n")
    code, result, error = _run(monkeypatch, capsys, DAY="2017-11-24", ORDERS=str(orders))
    assert (code, result["orders"]) == (1, 0)
    assert error == f"orders file {orders} has no column paid_at; name it in the first line"
    assert not (tmp_path / "state" / "logs" / "scheduler.log").exists()


def test_a_warehouse_that_cannot_be_reached_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:  # bound, not listening: refuses connections
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        uri = f"postgresql://pipeline:hunter2@127.0.0.1:{port}/warehouse"
        code, result, error = _run(monkeypatch, capsys, DAY="2017-11-24", AIRFLOW_CONN_WAREHOUSE=uri)
    assert (code, result["orders"]) == (1, 0)
    assert error.startswith(
        f"No connection to the PostgreSQL database warehouse at 127.0.0.1:{port}: it cannot be reached"
    )
    assert "hunter2" not in error


def test_a_platform_that_cannot_be_reached_is_named_before_airflow_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.socket() as taken:  # bound, not listening: refuses connections
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        nmp = f"http://:hunter2@127.0.0.1:{port}/http"
        code, result, error = _run(monkeypatch, capsys, DAY="2017-11-24", AIRFLOW_CONN_NMP=nmp)
    assert (code, result["orders"]) == (1, 0)
    assert error.startswith("the connection nmp: ")
    assert "refused the connection" in error
    assert "hunter2" not in error
    assert not (tmp_path / "state" / "logs" / "scheduler.log").exists()


INSERT = """
insert into passport_ops.reservation (order_key, order_id, campaign, tag, business_day, paid_at, stale_after)
select key, key, 'c', 't', '2026-11-22', '2026-11-22 12:00+00', '60 days' from unnest(%(keys)s::text[]) as key
"""


def test_the_states_add_up_to_the_orders_and_closed_counts_as_cancelled(warehouse: str) -> None:
    day = date(2026, 11, 22)
    states = ["pending", "pending", "unknown", "calling", "held", "out_of_stock", "cancelled", "closed"]
    keys = [f"order-{number}" for number in range(len(states))]
    with psycopg.connect(warehouse) as connection:
        connection.execute("insert into passport_ops.tag (tag) values ('t')")
        connection.execute(INSERT, {"keys": keys})
        for key, state in zip(keys, states, strict=True):
            connection.execute(
                "update passport_ops.reservation set state = %(state)s, fence = 1,"
                " lease_until = case when %(state)s = 'calling' then now() end where order_key = %(key)s",
                {"state": state, "key": key},
            )
    assert run_once.count(warehouse, day, None) == run_once.Result(
        day="2026-11-22", orders=8, pending=2, unknown=2, held=1, out_of_stock=1, cancelled=2
    )
    assert run_once.count(warehouse, date(2026, 11, 21), None) == run_once.Result(day="2026-11-21")


@pytest.mark.parametrize(
    ("result", "complete"),
    [
        (run_once.Result("2026-11-22"), True),
        (run_once.Result("2026-11-22", orders=3, reserved=2, claimed=1, published=3), True),
        (run_once.Result("2026-11-22", orders=3, reserved=2, cancelled=1, published=2), True),
        (run_once.Result("2026-11-22", orders=3, reserved=3, published=2), False),
        (run_once.Result("2026-11-22", orders=3, reserved=2, held=1, published=2), False),
    ],
)
def test_a_day_is_complete_when_every_eligible_order_is_published(result: run_once.Result, complete: bool) -> None:
    assert result.is_complete() is complete
