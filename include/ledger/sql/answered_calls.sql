-- The calls that were answered, with where their orders stand.
select
    call.attempt_id,
    call.order_key,
    call.tag,
    call.epoch,
    call.fence,
    call.run_id,
    call.run_started_at,
    call.outcome,
    known.state,
    known.fence as order_fence,
    known.passport_id,
    known.on_unknown,
    known.reason
from passport_ops.attempt as call
inner join passport_ops.reservation as known on call.order_key = known.order_key
where call.attempt_id = any(%(attempt_ids)s::bigint[])
order by call.order_key, call.attempt_id;
