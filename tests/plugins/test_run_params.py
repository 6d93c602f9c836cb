"""What a run takes from the Trigger form."""

from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

from include.campaigns import Campaigns
from include.ledger.runs import RunPlan
from include.settings import Settings
from passport_airflow.run_params import run_params, run_plan


def test_a_run_that_leaves_the_form_as_it_is_serves_all_campaigns_with_the_settings() -> None:
    settings = Settings(per_order_limit=7, max_tasks=3, max_duplicates_per_run=2)
    form = run_params(Campaigns.load(settings.campaigns_file), settings)
    run: Any = SimpleNamespace(
        run_id="a run",
        run_type="scheduled",
        data_interval_start=datetime(2026, 11, 21, tzinfo=UTC),
        data_interval_end=datetime(2026, 11, 22, tzinfo=UTC),
    )
    assert run_plan(run, {name: param.value for name, param in form.items()}, settings) == RunPlan(
        run_id="a run",
        days=(date(2026, 11, 21),),
        scheduled=True,
        per_order_limit=7,
        max_tasks=3,
        max_calls_per_order=2,
        max_unknown_per_run=20,
        max_duplicates_per_run=2,
        stop_after_refusals=3,
        campaigns=(),
        max_new_links=None,
    )
