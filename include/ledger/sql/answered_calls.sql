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
    call.outcome,
    exists(
        select from passport_ops.passport as held
        where held.order_key = call.order_key and held.attempt_id = call.attempt_id and held.state = 'withheld'
    ) as is_withheld
from passport_ops.attempt as call
where call.attempt_id = any(%(attempt_ids)s::bigint[])
order by call.order_key, call.attempt_id;
