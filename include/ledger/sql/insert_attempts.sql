-- The intents: one row per call, committed before it leaves. The lease counts from the start of the transaction. Each is
-- a new link of its run and clock day.
with counted as (
    insert into passport_ops.new_links as counted (run_id, clock_day, links)
    values (%(run_id)s, %(clock_day)s, cardinality(%(order_keys)s::text[]))
    on conflict (run_id, clock_day) do update set links = counted.links + excluded.links
)

insert into passport_ops.attempt (
    order_key, tag, epoch, fence, run_id, run_started_at, caller, intended_at, lease_until, clock_day
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
    now() + make_interval(secs => %(lease_seconds)s),
    %(clock_day)s
from
    unnest(%(order_keys)s::text[], %(tags)s::text[], %(epochs)s::integer[], %(fences)s::bigint[])
        as wanted (order_key, tag, epoch, fence)
returning attempt_id, intent_id, order_key;
