"""From the shop's orders to a planned run: read, check, register, assign to tasks."""

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from datetime import date, timedelta

from include.business_day import bounds_of, business_day_of, day_bounds, days_in_words
from include.campaigns import Campaigns
from include.ledger.dry_run import DryRun
from include.ledger.registering import Registered
from include.ledger.runs import PlannedRun, RunLedger, RunPlan
from include.orders import CheckedOrder
from include.settings import Settings
from include.warehouse.database import Connect, open_session, safe_errors

log = logging.getLogger(__name__)


def days_to_read(ledger: RunLedger, plan: RunPlan, settings: Settings) -> list[date]:
    """Give the days that a run reads, oldest first: its own and, if it is scheduled, those that may lack something.

    These are the days of the look-back, those with orders that wait, and those that have ended and were not read since,
    as far back as ``catch_up_days``.
    """
    days = set(plan.days)
    if plan.scheduled:
        days |= {plan.first_day - timedelta(days=back) for back in range(1, settings.lookback_days + 1)}
        days |= set(ledger.unserved_days(plan.first_day))
        oldest = plan.first_day - timedelta(days=settings.catch_up_days)
        if missed := ledger.days_not_read(plan.first_day, oldest):
            log.info("not read since their end, so read now: %s", days_in_words(missed))
            days |= set(missed)
    return sorted(days)


def read_orders(
    orders_db: Connect, days: Sequence[date], campaigns: Campaigns, settings: Settings
) -> Generator[CheckedOrder, None, None]:
    """Read these business days from the shop's database, which ``orders_db`` opens, and yield every row, checked.

    The connection is open until the last row is read or the generator is closed. Raises
    ``include.orders.ExtractionError`` for SQL that cannot be used and ``SafeDatabaseError`` for a database that cannot
    be reached.
    """
    from include import extraction  # imports pandas, which parsing a DAG file does not need

    with safe_errors("The orders could not be read"), open_session(orders_db) as connection:
        yield from extraction.read_orders(
            connection,
            settings.extraction_sql.read_text(encoding="utf-8"),
            campaigns,
            days=[day_bounds(day, settings.timezone) for day in days],
            statuses=settings.order_statuses,
            timezone=settings.timezone,
            carry_days=settings.carry_days,
        )


def plan_day(
    ledger: RunLedger, orders_db: Connect, campaigns: Campaigns, settings: Settings, plan: RunPlan
) -> PlannedRun:
    """Do the whole of a run's first task: read the orders, register them and assign them to the run's mapped tasks.

    First the days of a scheduled run get into the calendar, so that a day whose extraction fails is known to be unread.
    Every order is registered; those of the plan's campaigns are assigned. Done again it costs nothing: known keys stay
    as they are and the run is planned anew. Raises ``UnknownCampaignError``, and what ``read_orders`` raises.
    """
    campaigns.require(plan.campaigns)  # before anything is read
    if plan.scheduled:
        ledger.expect_days(plan, settings.timezone)
    days = days_to_read(ledger, plan, settings)
    began_at = ledger.now()
    with closing(read_orders(orders_db, days, campaigns, settings)) as rows:
        registered = ledger.register(
            rows,
            run_id=plan.run_id,
            days_read=bounds_of(days, settings.timezone),
            pool_sizes={campaign.name: campaign.pool_size for campaign in campaigns.listed},
            began_at=began_at,
        )
    _log_registered(registered, days)
    day_began_at, _ = day_bounds(business_day_of(began_at, settings.timezone), settings.timezone)
    planned = ledger.plan_run(plan, day_began_at=day_began_at)
    log.info(
        "%d orders wait for a link, served by %d tasks%s",
        planned.orders,
        len(planned.labels),
        f": more than per_order_limit ({plan.per_order_limit}), so each task serves a slice" if planned.sliced else "",
    )
    return planned


def dry_run(ledger: RunLedger, orders_db: Connect, campaigns: Campaigns, settings: Settings, plan: RunPlan) -> DryRun:
    """Read and check the orders as ``plan_day`` does, and log what the run would ask for; change nothing.

    Raises what ``plan_day`` raises.
    """
    campaigns.require(plan.campaigns)
    days = days_to_read(ledger, plan, settings)
    with closing(read_orders(orders_db, days, campaigns, settings)) as rows:
        found = ledger.dry_run(
            rows,
            plan,
            days_read=bounds_of(days, settings.timezone),
            pool_sizes={campaign.name: campaign.pool_size for campaign in campaigns.listed},
        )
    _log_registered(found.returned, days)
    log.info("dry run: nothing is called, and nothing changes in the ledger\n%s", found.table)
    if plan.max_new_links is not None and (more := found.orders - plan.max_new_links) > 0:
        log.warning("max_new_links (%d) would leave %d orders waiting", plan.max_new_links, more)
    return found


def _log_registered(registered: Registered, days: Sequence[date]) -> None:
    for day in days:
        log.info("%s: %d eligible orders", day, registered.orders.get(day, 0))
    for row in registered.first_rejected:
        log.warning("not taken: %s: %s (%s)", row.row_key, row.reason, row.detail)
    if more := registered.rejected - len(registered.first_rejected):
        log.warning("and %d more rows not taken: see passport.needs_attention", more)
