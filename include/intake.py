"""From the shop's orders to a planned run: extract, check, register, deal."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from include.business_day import day_bounds
from include.campaigns import Campaigns
from include.ledger.session import Ledger, PlannedRun, RunPlan
from include.orders import CheckedOrders, check, extract
from include.settings import Settings
from include.warehouse.database import Connect, open_session, safe_errors

log = logging.getLogger(__name__)

MOST_ROWS_NAMED = 50


@dataclass(frozen=True)
class Extraction:
    """What one reading of the shop's orders gave: the days read and every row, served or named."""

    days: list[date]
    checked: CheckedOrders


def days_to_read(business_day: date, *, scheduled: bool, lookback_days: int, unserved: Sequence[date]) -> list[date]:
    """The days that a run reads, oldest first: its own and, for a scheduled run, those before it and those unserved."""
    days = {business_day}
    if scheduled:
        days |= {business_day - timedelta(days=back) for back in range(1, lookback_days + 1)}
        days |= set(unserved)
    return sorted(days)


def read_orders(connect: Connect, days: Sequence[date], campaigns: Campaigns, settings: Settings) -> Extraction:
    """Extracts these business days from the shop's database, which ``connect`` opens, and checks every row.

    Raises ``include.orders.ExtractionError`` for SQL that cannot be used and ``SafeDatabaseError`` for a database that
    cannot be reached.
    """
    with safe_errors("The orders could not be read"), open_session(connect) as connection:
        frame = extract(
            connection,
            settings.extraction_sql.read_text(encoding="utf-8"),
            days=[day_bounds(day, settings.timezone) for day in days],
            statuses=settings.order_statuses,
            timezone=settings.timezone,
        )
    return Extraction(list(days), check(frame, campaigns, settings.timezone, settings.carry_days))


def register_orders(
    ledger: Ledger, extraction: Extraction, campaigns: Campaigns, *, run_id: str, began_at: datetime
) -> None:
    """Takes an extraction into the ledger (see ``Ledger.register``), names the rows that were not taken in the log."""
    checked = extraction.checked
    returned = {order.order_key for order in checked.orders}
    returned |= {row.order_key for row in checked.rejected if row.order_key is not None}
    by_name = {campaign.name: campaign for campaign in campaigns.listed}
    pool_sizes = {order.tag: by_name[order.campaign].pool_size for order in checked.orders}
    ledger.register(
        checked.orders,
        checked.rejected,
        run_id=run_id,
        days_read=extraction.days,
        keys_returned=returned,
        pool_sizes=pool_sizes,
        began_at=began_at,
    )
    by_day = Counter(order.business_day for order in checked.orders)
    for day in extraction.days:
        log.info("%s: %d eligible orders", day, by_day[day])
    for row in checked.rejected[:MOST_ROWS_NAMED]:
        log.warning("not taken: %s: %s (%s)", row.row, row.reason, row.detail)
    if len(checked.rejected) > MOST_ROWS_NAMED:
        more = len(checked.rejected) - MOST_ROWS_NAMED
        log.warning("and %d more rows not taken: see passport.needs_attention", more)


def plan_day(ledger: Ledger, orders_db: Connect, campaigns: Campaigns, settings: Settings, plan: RunPlan) -> PlannedRun:
    """The whole of a run's first task: reads the orders, registers them and deals them to the run's mapped tasks.

    Every order is registered; those of the plan's campaigns are dealt. Done again it costs nothing: known keys stay as
    they are and the run is dealt anew. Raises ``UnknownCampaignError``, and as ``read_orders`` does.
    """
    campaigns.subset(plan.campaigns)  # an unknown name is an error before anything is read
    unserved = ledger.unserved_days(plan.business_day) if plan.scheduled else []
    days = days_to_read(
        plan.business_day, scheduled=plan.scheduled, lookback_days=settings.lookback_days, unserved=unserved
    )
    began_at = ledger.now()
    extraction = read_orders(orders_db, days, campaigns, settings)
    register_orders(ledger, extraction, campaigns, run_id=plan.run_id, began_at=began_at)
    planned = ledger.plan_run(plan)
    log.info(
        "%d orders wait for a link, served by %d tasks%s",
        planned.orders,
        len(planned.labels),
        f": more than per_order_limit ({plan.per_order_limit}), so each task serves a slice" if planned.sliced else "",
    )
    return planned
