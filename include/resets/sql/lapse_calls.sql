-- Calls of the tag whose lease has ended: their outcome is unknown, and an answer that still comes is late.
with lapsed as (
    select
        known.order_key,
        call.attempt_id
    from passport_ops.reservation as known
    left join passport_ops.attempt as call on known.order_key = call.order_key and known.fence = call.fence
    where
        known.state = 'calling'
        and known.lease_until <= clock_timestamp()
        and coalesce(call.tag, known.tag) = %(tag)s
    order by known.order_key
    for update of known
),

lost as (
    update passport_ops.attempt as call
    set
        outcome = 'unknown',
        answered_at = clock_timestamp(),
        detail = 'the lease ended without an answer'
    from lapsed
    where call.attempt_id = lapsed.attempt_id and call.outcome is null
)

update passport_ops.reservation as known
set
    state = case known.on_unknown when 'hold' then 'held' else 'unknown' end,
    reason = 'the lease of its call ended without an answer',
    lease_until = null,
    fence = known.fence + 1,
    updated_at = clock_timestamp()
from lapsed
where known.order_key = lapsed.order_key and known.state = 'calling';
