-- The calls that were answered.
select
    call.attempt_id,
    call.order_key,
    call.tag,
    call.epoch,
    call.fence,
    call.run_id,
    call.run_started_at,
    call.clock_day,
    call.outcome
from passport_ops.attempt as call
where call.attempt_id = any(%(attempt_ids)s::bigint[])
order by call.order_key, call.attempt_id;
