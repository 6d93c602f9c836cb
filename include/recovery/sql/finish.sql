-- The recovery ends: the orders that it still holds wait for a link again. One that was held before stays held.
with ended as (
    update passport_ops.recovery
    set
        ended_at = clock_timestamp(),
        ended_by = %(by)s
    where ended_at is null
    returning recovery_id
),

waiting as (
    select known.order_key
    from ended
    inner join passport_ops.recovery_order as held on ended.recovery_id = held.recovery_id
    inner join passport_ops.reservation as known on held.order_key = known.order_key
    where held.from_state <> 'held' and held.adopted_at is null and known.state = 'held'
    order by known.order_key
    for update of known
),

noted as (
    update passport_ops.recovery_order as held
    set released_at = clock_timestamp()
    from ended, waiting
    where held.recovery_id = ended.recovery_id and held.order_key = waiting.order_key
)

update passport_ops.reservation as known
set
    state = 'pending',
    reason = 'released at the end of recovery ' || ended.recovery_id,
    fence = known.fence + 1,
    updated_at = clock_timestamp()
from ended, waiting
where known.order_key = waiting.order_key
returning known.order_key;
