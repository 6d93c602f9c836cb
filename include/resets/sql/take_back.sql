-- The orders of the tag lose their unclaimed links. An order waits for a new link if its campaign requeues, or if its link
-- arrived while the reset was under way, because nobody was given that link.
with taken as (
    select
        known.order_key,
        known.campaign = any(%(requeued_campaigns)s::text[])
        or known.reserved_at >= %(resetting_since)s as requeued
    from passport_ops.reservation as known
    inner join passport_ops.passport as held on known.passport_id = held.passport_id
    where held.tag = %(tag)s and held.state = 'assigned' and known.state = 'reserved'
    order by known.order_key
    for update of known
)

update passport_ops.reservation as known
set
    state = case when taken.requeued then 'pending' else 'reset' end,
    reason = case
        when taken.requeued then 'its link was taken back by a reset of its tag; it waits for a new one'
        else 'unclaimed for its campaign''s stale_after: its link was taken back by a reset of its tag'
    end,
    passport_id = null,
    fence = known.fence + 1,
    reset_at = clock_timestamp(),
    run_id = %(run_id)s,
    updated_at = clock_timestamp()
from taken
where known.order_key = taken.order_key
returning taken.requeued;
