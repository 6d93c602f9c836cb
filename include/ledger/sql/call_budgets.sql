-- How many calls of possible consumption, without a link for the order, count for a start of a run since the order was
-- last released, and how often this start was refused for it.
with start as (
    select
        started.run_id,
        started.run_started_at,
        started.counts_from,
        planned.scheduled
    from passport_ops.run_attempt as started
    inner join passport_ops.run as planned on started.run_id = planned.run_id
    where started.run_id = %(run_id)s and started.run_started_at = %(run_started_at)s
),

released as (
    select
        order_key,
        max(decided_at) as decided_at
    from passport_ops.decision
    where order_key = any(%(order_keys)s::text[]) and action = 'release'
    group by order_key
),

calls as (
    select
        call.order_key,
        call.outcome,
        call.run_id = start.run_id and call.run_started_at = start.run_started_at as is_own,
        call.intended_at >= start.counts_from and start.scheduled and asked.scheduled as is_shared
    from passport_ops.attempt as call
    inner join passport_ops.run as asked on call.run_id = asked.run_id
    cross join start
    left join released on call.order_key = released.order_key
    where
        call.order_key = any(%(order_keys)s::text[])
        and (released.decided_at is null or call.intended_at > released.decided_at)
)

select
    order_key,
    count(*) filter (where outcome = any(%(outcomes)s::text[]) and (is_own or is_shared)) as calls,
    count(*) filter (where outcome = 'refused' and is_own) as refusals
from calls
group by order_key;
