-- The intents: one row per call, committed before it leaves. The lease counts from the start of the transaction.
insert into passport_ops.attempt (
    order_key, tag, epoch, fence, run_id, run_started_at, caller, intended_at, lease_until
)
select
    wanted.order_key,
    wanted.tag,
    wanted.epoch,
    wanted.fence,
    %(run_id)s,
    %(run_started_at)s,
    %(caller)s,
    clock_timestamp(),
    now() + make_interval(secs => %(lease_seconds)s)
from
    unnest(%(order_keys)s::text[], %(tags)s::text[], %(epochs)s::integer[], %(fences)s::bigint[])
        as wanted (order_key, tag, epoch, fence)
returning attempt_id, intent_id, order_key;
