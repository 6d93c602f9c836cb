"""What Airflow remembers of the ledger, and what follows when the ledger has less."""

import psycopg
import pytest

from include.ledger.going_back import WentBackError
from include.ledger.runs import RunLedger
from include.reserving import OrderResult
from passport_airflow.grant_memory import memory_of, refuse_if_went_back
from passport_airflow.process_engine import process_engine, run_start
from tests.plugins.conftest import PlannedRun


def remember(warehouse: str, grants: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the end of a run does it; Airflow takes a Variable from the environment too."""
    with psycopg.connect(warehouse) as connection:
        [[warehouse_id]] = connection.execute("select warehouse_id from passport_ops.gate").fetchall()
    monkeypatch.setenv(f"AIRFLOW_VAR_PASSPORT_LINKS_GRANTS_{str(warehouse_id).upper()}", grants)


def test_nothing_is_remembered_before_the_first_run_has_ended(warehouse: str) -> None:
    with RunLedger(warehouse) as ledger:
        assert memory_of(ledger).grants == 0
        refuse_if_went_back(ledger)


def test_a_ledger_that_counts_less_than_airflow_remembers_is_refused(
    warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(warehouse, "41", monkeypatch)
    with RunLedger(warehouse) as ledger:
        with pytest.raises(WentBackError, match=r"it counts 0 grants, and 41 were seen.*make recover SINCE="):
            refuse_if_went_back(ledger)
        monkeypatch.undo()  # noticed once is noticed for all
        with pytest.raises(WentBackError, match="41 were seen"):
            refuse_if_went_back(ledger)


def test_a_new_engine_makes_no_call_in_a_ledger_that_counts_less(
    planned: PlannedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned.sandbox.create_pool("memory", 5)
    planned.plan("A1", tag="memory")
    remember(planned.warehouse, "41", monkeypatch)
    before = planned.sandbox.counters()["last_seq"]
    run = planned.dag_run()
    [outcome] = process_engine().reserve_all(run_start(run.run_id, run.start_date), ["A1"])
    assert outcome.result is OrderResult.FAILED
    assert "41 were seen" in (outcome.reason or "")
    assert planned.sandbox.history(before) == []
    assert planned.states() == [("A1", "pending")]
