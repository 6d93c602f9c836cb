-- The orders of a tag that was reset since the backup lose their links from before it. One whose campaign requeues may have
-- got another link since: it is held.
with taken as (
    select
        known.order_key,
        known.tag,
        opened.recovery_id,
        known.campaign = any(%(requeued_campaigns)s::text[]) as requeued
    from passport_ops.reservation as known
    inner join passport_ops.passport as held on known.passport_id = held.passport_id
    inner join passport_ops.recovery as opened on opened.ended_at is null
    where held.tag = %(tag)s and held.state = 'assigned' and held.kept_back and known.state = 'reserved'
    order by known.order_key
    for update of known
),

noted as (
    insert into passport_ops.recovery_order (recovery_id, order_key, tag, from_state)
    select
        recovery_id,
        order_key,
        tag,
        'reserved'
    from taken
    where requeued
    on conflict do nothing
)

update passport_ops.reservation as known
set
    state = case when taken.requeued then 'held' else 'reset' end,
    reason = 'recovery ' || taken.recovery_id || ': its link was taken back by a reset of its tag after the backup',
    passport_id = null,
    fence = known.fence + 1,
    reset_at = clock_timestamp(),
    updated_at = clock_timestamp()
from taken
where known.order_key = taken.order_key;
